// AVX-512 with the instructions for bytes and words (BW); with VNNI where the processor has it.
#pragma once
#include <immintrin.h>

namespace fish {
constexpr int W = 16;            // floats in a vector
constexpr int REGISTERS = 32;    // vector registers
constexpr int MAX_COLUMNS = 6;   // columns whose products with four rows are accumulated in registers
}  // namespace fish

#include "base/simd/types.hpp"

namespace fish {

inline V fma(V a, V b, V c) { return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }

// 1 / x to 14 bits.
inline V reciprocal_estimate(V x) { return (V)_mm512_rcp14_ps((__m512)x); }

// W bfloat16 as float32. (GCC 12 compiles its own conversion into slow code.)
inline V from_bf16(const void* p) { return (V)((Vu)_mm512_cvtepu16_epi32(load<__m256i>(p)) << 16); }

// 2 W int8 as int16.
inline Vi16 from_int8(const void* p) { return (Vi16)_mm512_cvtepi8_epi16(load<__m256i>(p)); }

// total + the products of 2 W pairs of int16, two in each lane.
inline Vi add_products(Vi total, Vi16 a, Vi16 b) {
#if defined(__AVX512VNNI__)
    return (Vi)_mm512_dpwssd_epi32((__m512i)total, (__m512i)a, (__m512i)b);
#else
    return total + (Vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#endif
}

// total + the products of 4 W pairs of a number from 0 to 15 and an int8, four in each lane.
inline Vi add_nibble_products(Vi total, Vu8 a, Vi8 b) {
#if defined(__AVX512VNNI__)
    return (Vi)_mm512_dpbusd_epi32((__m512i)total, (__m512i)a, (__m512i)b);
#else
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)a, (__m512i)b);
    return total + (Vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#endif
}

// The sums of four vectors; out is 4 floats.
inline void sums(V a, V b, V c, V d, float* out) {
    auto halves = [](V x, V y) {
        const __m512 low = _mm512_shuffle_f32x4((__m512)x, (__m512)y, 0x44);
        return (V)low + (V)_mm512_shuffle_f32x4((__m512)x, (__m512)y, 0xee);
    };
    const V x = halves(a, b), y = halves(c, d);
    V z = (V)_mm512_shuffle_f32x4((__m512)x, (__m512)y, 0x88) + (V)_mm512_shuffle_f32x4((__m512)x, (__m512)y, 0xdd);
    z += (V)_mm512_permute_ps((__m512)z, 0x4e);
    z += (V)_mm512_permute_ps((__m512)z, 0xb1);
    for (int i = 0; i < 4; i++) out[i] = z[4 * i];
}

}  // namespace fish
