// RMSNorm (arXiv:1910.07467).
#pragma once
#include <cmath>

#include "ops/dot.hpp"

namespace fish {

inline void rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    const float scale = 1.f / std::sqrt(dot(x, x, n) / n + eps);
    for (int i = 0; i < n; i++) out[i] = x[i] * scale * weight[i];
}

}  // namespace fish
