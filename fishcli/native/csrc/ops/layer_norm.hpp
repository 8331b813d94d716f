// LayerNorm (arXiv:1607.06450) without its weights, which native_codec.py multiplies into the next layer.
#pragma once
#include <cmath>

#include "base/simd.hpp"

namespace fish {

inline void layer_norm(float* x, int n, float eps) {
    float mean = 0, square = 0;
    for (int c = 0; c < n; c++) mean += x[c];
    mean /= n;
    for (int c = 0; c < n; c++) square = fma(x[c] - mean, x[c] - mean, square);
    const float scale = 1.f / std::sqrt(square / n + eps);
    for (int c = 0; c < n; c++) x[c] = (x[c] - mean) * scale;
}

}  // namespace fish
