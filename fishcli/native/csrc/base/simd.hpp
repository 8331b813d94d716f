// The vector layer: one header for each instruction set, and the functions that they share.
//
// Products are accumulated by `fma` alone, and the compiler fuses nothing by itself (-ffp-contract=off). It fused in
// some instances of a kernel and not in others, so that the bits of a column depended on the columns beside it.
#pragma once

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are read as little-endian integers"
#endif

#if defined(__AVX512BW__)
#include "base/simd/avx512.hpp"
#elif defined(__AVX2__)
#include "base/simd/avx2.hpp"
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include "base/simd/neon.hpp"
#else
#include "base/simd/generic.hpp"
#endif

namespace fish {

static_assert(sizeof(V) == 4 * W && sizeof(Vi16) == sizeof(V) && sizeof(Vu8) == sizeof(V), "vectors of one size");

inline V fma(V a, float b, V c) { return fma(a, splat(b), c); }
inline V fma(V a, V b, float c) { return fma(a, b, splat(c)); }
inline V fma(V a, float b, float c) { return fma(a, splat(b), splat(c)); }
inline float fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// 1 / x to 2e-7: an estimate and one step of Newton's where the processor estimates, since it divides slowly.
inline V reciprocal(V x) {
#if defined(__AVX2__)
    const V r = reciprocal_estimate(x);
    return r * fma(-x, r, 2.f);
#else
    return 1.f / x;
#endif
}

// e^x to 1e-7 of it (the polynomial of Cephes, S. Moshier).
inline V exp(V x) {
    x = x < -87.f ? splat(-87.f) : x;
    x = x > 88.f ? splat(88.f) : x;
    const V scaled = x * 1.44269504088896341f;
    const Vi n = to_int(scaled + (scaled < 0.f ? splat(-0.5f) : splat(0.5f)));
    const V whole = to_float(n);
    const V r = fma(whole, 2.12194440e-4f, fma(whole, -0.693359375f, x));
    V p = splat(1.9875691500e-4f);
    p = fma(p, r, 1.3981999507e-3f);
    p = fma(p, r, 8.3334519073e-3f);
    p = fma(p, r, 4.1665795894e-2f);
    p = fma(p, r, 1.6666665459e-1f);
    p = fma(p, r, 5.0000001201e-1f);
    p = fma(p * r, r, r) + 1.f;
    return p * (V)((n + 127) << 23);
}

}  // namespace fish
