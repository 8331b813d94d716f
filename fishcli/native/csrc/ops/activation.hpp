// Activation functions of the codec's decoder.
#pragma once
#include "base/simd.hpp"

namespace fish {

// x / (1 + e^-x). Every output of a convolution takes it, so its exponential is no better than it has to be.
inline V silu(V x) {
    constexpr float ROUND = 12582912;  // 1.5 * 2^23: a float added to it is rounded to a whole number, in its low bits
    V power = x * -1.44269504f;
    power = power < -126.f ? splat(-126.f) : power;
    power = power > 126.f ? splat(126.f) : power;
    const V whole = power + ROUND, f = power - (whole - ROUND);
    V p = splat(1.32764290e-3f);  // 2^f to 8e-8: least squares, weighted so that the relative error is even
    p = fma(p, f, 9.67554167e-3f);
    p = fma(p, f, 5.55071341e-2f);
    p = fma(p, f, 2.40221197e-1f);
    p = fma(p, f, 6.93146967e-1f);
    p = fma(p, f, 1.00000007f);
    return x * reciprocal(1.f + (V)((Vi)p + ((Vi)whole << 23)));
}

// GELU by the error function, which is good to 2e-7 (Abramowitz and Stegun, 7.1.26).
inline V gelu(V x) {
    const V z = (x < 0.f ? -x : x) * 0.707106781f, t = 1.f / fma(z, 0.3275911f, 1.f);
    V p = splat(1.061405429f);
    p = fma(p, t, -1.453152027f);
    p = fma(p, t, 1.421413741f);
    p = fma(p, t, -0.284496736f);
    p = fma(p, t, 0.254829592f);
    const V tail = 0.5f * p * t * exp(-z * z);
    return x * (x < 0.f ? tail : 1.f - tail);
}

inline V tanh(V x) { return 1.f - 2.f / (1.f + exp(2.f * x)); }

}  // namespace fish
