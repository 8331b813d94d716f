// AVX2; with FMA where the processor has it, as nearly every one does.
#pragma once
#include <immintrin.h>

namespace fish {
constexpr int W = 8;            // floats in a vector
constexpr int REGISTERS = 16;   // vector registers
constexpr int MAX_COLUMNS = 2;  // columns whose products with four rows are accumulated in registers
}  // namespace fish

#include "base/simd/types.hpp"

namespace fish {

inline V fma(V a, V b, V c) {
#if defined(__FMA__)
    return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// 1 / x to 11 bits.
inline V reciprocal_estimate(V x) { return (V)_mm256_rcp_ps((__m256)x); }

// W bfloat16 as float32.
inline V from_bf16(const void* p) { return (V)((Vu)_mm256_cvtepu16_epi32(load<__m128i>(p)) << 16); }

// 2 W int8 as int16.
inline Vi16 from_int8(const void* p) { return (Vi16)_mm256_cvtepi8_epi16(load<__m128i>(p)); }

// total + the products of 2 W pairs of int16, two in each lane.
inline Vi add_products(Vi total, Vi16 a, Vi16 b) { return total + (Vi)_mm256_madd_epi16((__m256i)a, (__m256i)b); }

// total + the products of 4 W pairs of a number from 0 to 15 and an int8, four in each lane.
inline Vi add_nibble_products(Vi total, Vu8 a, Vi8 b) {
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)a, (__m256i)b);
    return total + (Vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// The sums of four vectors; out is 4 floats.
inline void sums(V a, V b, V c, V d, float* out) {
    const __m256 x = _mm256_hadd_ps((__m256)a, (__m256)b), y = _mm256_hadd_ps((__m256)c, (__m256)d);
    const __m256 z = _mm256_hadd_ps(x, y);
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(z), _mm256_extractf128_ps(z, 1)));
}

}  // namespace fish
