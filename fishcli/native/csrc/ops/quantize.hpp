// Quantization of activations for products with integers.
//
// A scale is NaN where an activation is not finite: integers would hide it from the sampler.
#pragma once
#include <algorithm>

#include "base/simd.hpp"
#include "ops/matrix.hpp"

namespace fish {

inline V maximum(V a, V b) { return a > b ? a : b; }
inline V magnitude(V v) { return v < 0.f ? -v : v; }
inline Vi round_to_int(V v) { return to_int(v + (v < 0.f ? splat(-0.5f) : splat(0.5f))); }

// n floats, padded with zeros to whole vectors -> int16 and their scale: x = scale * out.
inline float quantize_int16(const float* x, int n, int16_t* out) {
    constexpr float LARGEST = 32767;  // the sum of 32 products of it with 127 fits into 31 bits
    V largest = {}, zero = {};
    for (int i = 0; i < n; i += W) {
        const V v = load<V>(x + i);
        largest = maximum(largest, magnitude(v)), zero = fma(v, 0.f, zero);
    }
    float most = 1e-30f;
    for (int i = 0; i < W; i++) most = std::max(most, largest[i]);
    for (int i = 0; i < n; i += W) store(out + i, narrow<int16_t>(round_to_int(load<V>(x + i) * (LARGEST / most))));
    return most / LARGEST + sum(zero);
}

// A span of 512 floats -> int8, and of each of its 16 groups the scale and what weights of -8 add to its products.
// Group g has columns 4 g to 4 g + 3 of each half of a block.
inline void quantize_int8(const float* x, int8_t* out, float* scales, int32_t* offsets) {
    float most[HALF4] = {}, inverse[HALF4];
    V zero = {};
    for (int k = 0; k < SPAN; k += HALF4)
        for (int i = 0; i < HALF4; i += W) {
            const V v = load<V>(x + k + i);
            store(most + i, maximum(load<V>(most + i), magnitude(v))), zero = fma(v, 0.f, zero);
        }
    const float not_finite = sum(zero);
    for (int g = 0; g < LANES; g++) {
        const float* m = most + 4 * g;
        const float largest = std::max({m[0], m[1], m[2], m[3], 1e-30f});
        scales[g] = largest / 127 + not_finite;
        std::fill_n(inverse + 4 * g, 4, 127 / largest);
    }
    for (int k = 0; k < SPAN; k += HALF4)
        for (int i = 0; i < HALF4; i += W)
            store(out + k + i, narrow<int8_t>(round_to_int(load<V>(x + k + i) * load<V>(inverse + i))));
    for (int lane = 0; lane < LANES; lane += W) {
        Vi total = {};
        for (int k = 0; k < SPAN; k += HALF4)
            total = add_nibble_products(total, Vu8{} + 8, load<Vi8>(out + k + 4 * lane));
        store(offsets + lane, -total);
    }
}

}  // namespace fish
