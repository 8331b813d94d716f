// SwiGLU (arXiv:2002.05202).
#pragma once
#include <cmath>

#include "base/simd.hpp"

namespace fish {

// in: gates (n,), then values (n,) -> silu(gates) * values (n,).
inline void swiglu(const float* in, int n, float* out) {
    int i = 0;
    for (; i + W <= n; i += W) {
        const V gate = load<V>(in + i);
        store(out + i, gate / (1.f + exp(-gate)) * load<V>(in + n + i));
    }
    for (; i < n; i++) out[i] = in[i] / (1.f + std::exp(-in[i])) * in[n + i];
}

}  // namespace fish
