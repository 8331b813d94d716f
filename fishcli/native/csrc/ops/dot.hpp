// The inner product of two vectors.
#pragma once
#include "base/simd.hpp"

namespace fish {

inline float dot(const float* a, const float* b, int n) {
    V total = {};
    int i = 0;
    for (; i + W <= n; i += W) total = fma(load<V>(a + i), load<V>(b + i), total);
    float y = sum(total);
    for (; i < n; i++) y = fma(a[i], b[i], y);
    return y;
}

}  // namespace fish
