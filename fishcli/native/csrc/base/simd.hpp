// Vectors as wide as the processor's: of floats, and the sums of products of small integers.
//
// GCC's and clang's vector extensions keep most of it to one text for AVX-512, AVX2 and NEON.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace fish {

// W: floats in a vector. MOST: columns whose products with four rows have their sums in registers.
#if defined(__AVX512BW__)
constexpr int W = 16, MOST = 6;
#elif defined(__AVX2__)
constexpr int W = 8, MOST = 2;
#else
constexpr int W = 4, MOST = 6;
#endif

typedef float V __attribute__((vector_size(4 * W)));
typedef int32_t Vi __attribute__((vector_size(4 * W)));
typedef uint32_t Vu __attribute__((vector_size(4 * W)));

template <class T> inline T load(const void* p) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T> inline void store(void* p, T v) { std::memcpy(p, &v, sizeof v); }
inline V splat(float x) { return V{} + x; }

// a * b + c, in one rounding where the processor can. Products are accumulated by this alone, and the compiler is told
// to fuse nothing by itself (-ffp-contract=off): it fused in some instantiations of a kernel and not in others, so that
// the result of a column depended on the columns beside it.
inline V fma(V a, V b, V c) {
#if defined(__AVX512BW__)
    return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
    return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}
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

// W bfloat16, the upper halves of float32, as float32. (What GCC 12 makes of its own conversion is slow.)
inline V from_bf16(const void* p) {
#if defined(__AVX512BW__)
    return (V)((Vu)_mm512_cvtepu16_epi32(load<__m256i>(p)) << 16);
#elif defined(__AVX2__)
    return (V)((Vu)_mm256_cvtepu16_epi32(load<__m128i>(p)) << 16);
#else
    typedef uint16_t Half __attribute__((vector_size(2 * W)));
    return (V)(__builtin_convertvector(load<Half>(p), Vu) << 16);
#endif
}

// Each lane, which must fit, as a smaller integer.
template <class T> inline auto narrow(Vi v) {
    typedef T Small __attribute__((vector_size(sizeof(T) * W)));
    return __builtin_convertvector(v, Small);
}

inline V to_float(Vi v) { return __builtin_convertvector(v, V); }

typedef int16_t Vi16 __attribute__((vector_size(4 * W)));
typedef uint8_t Vu8 __attribute__((vector_size(4 * W)));

// 2 W int8 as int16.
inline Vi16 from_int8(const void* p) {
#if defined(__AVX512BW__)
    return (Vi16)_mm512_cvtepi8_epi16(load<__m256i>(p));
#elif defined(__AVX2__)
    return (Vi16)_mm256_cvtepi8_epi16(load<__m128i>(p));
#else
    typedef int8_t Bytes __attribute__((vector_size(2 * W)));
    return __builtin_convertvector(load<Bytes>(p), Vi16);
#endif
}

// total + the products of 2 W pairs of int16: each lane gets its own two.
inline Vi add_products(Vi total, Vi16 a, Vi16 b) {
#if defined(__AVX512VNNI__)
    return (Vi)_mm512_dpwssd_epi32((__m512i)total, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
    return total + (Vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return total + (Vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    return total + (Vi)vpaddq_s32(low, vmull_high_s16(x, y));
#else
    for (int i = 0; i < 2 * W; i++) total[i / 2] += a[i] * b[i];
    return total;
#endif
}

// total + the products of 4 W pairs, of 0..15 and int8: each lane gets its own four.
inline Vi add_nibble_products(Vi total, Vu8 a, const void* b) {
#if defined(__AVX512VNNI__)
    return (Vi)_mm512_dpbusd_epi32((__m512i)total, (__m512i)a, load<__m512i>(b));
#elif defined(__AVX512BW__)
    __m512i pairs = _mm512_maddubs_epi16((__m512i)a, load<__m512i>(b));
    return total + (Vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
    __m256i pairs = _mm256_maddubs_epi16((__m256i)a, load<__m256i>(b));
    return total + (Vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__ARM_FEATURE_DOTPROD)
    return (Vi)vdotq_s32((int32x4_t)total, (int8x16_t)a, load<int8x16_t>(b));
#else
    for (int i = 0; i < 4 * W; i++) total[i / 4] += a[i] * ((const int8_t*)b)[i];
    return total;
#endif
}

inline float sum(V v) {
    float total = 0;
    for (int i = 0; i < W; i++) total += v[i];
    return total;
}

// The sums of four vectors; out is 4 floats.
inline void sums(V a, V b, V c, V d, float* out) {
#if defined(__AVX512BW__)
    auto halves = [](V x, V y) {
        return (V)_mm512_shuffle_f32x4((__m512)x, (__m512)y, 0x44) + (V)_mm512_shuffle_f32x4((__m512)x, (__m512)y, 0xee);
    };
    V x = halves(a, b), y = halves(c, d);
    V z = (V)_mm512_shuffle_f32x4((__m512)x, (__m512)y, 0x88) + (V)_mm512_shuffle_f32x4((__m512)x, (__m512)y, 0xdd);
    z += (V)_mm512_permute_ps((__m512)z, 0x4e);
    z += (V)_mm512_permute_ps((__m512)z, 0xb1);
    for (int i = 0; i < 4; i++) out[i] = z[4 * i];
#elif defined(__AVX2__)
    __m256 x = _mm256_hadd_ps(_mm256_hadd_ps((__m256)a, (__m256)b), _mm256_hadd_ps((__m256)c, (__m256)d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
#else
    out[0] = sum(a), out[1] = sum(b), out[2] = sum(c), out[3] = sum(d);
#endif
}

// e^x to about 1e-7, relative (the polynomial of Cephes, S. Moshier).
inline V exp(V x) {
    x = x < -87.f ? splat(-87.f) : x;
    x = x > 88.f ? splat(88.f) : x;
    V scaled = x * 1.44269504088896341f;
    Vi n = __builtin_convertvector(scaled + (scaled < 0.f ? splat(-0.5f) : splat(0.5f)), Vi);
    V whole = __builtin_convertvector(n, V);
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
