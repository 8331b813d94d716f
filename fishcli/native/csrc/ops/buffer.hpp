// Activations, and how they are rounded for products with integers.
#pragma once
#include <algorithm>
#include <vector>

#include "ops/matrix.hpp"
#include "base/simd.hpp"

namespace fish {

// Activations (columns, width): floats in `x`, from which `round` makes what integers are multiplied with, weights of
// `format`. Each column starts at a cache line and is followed by zeros up to a whole block.
class Buffer {
public:
    void shape(int columns, int wanted, Format format = F32) {
        if (wanted == width && columns <= room) return;
        width = wanted, room = 0;
        // A power of two between the columns would put all of them into the same places of the cache.
        ld = (wanted + SPAN - 1) / SPAN * SPAN + HALF4;
        groups = ld / SPAN * LANES;
        x.resize(columns * ld), scales.resize(columns * groups);
        if (format == I8) whole.resize(columns * ld);
        if (format == I4) small.resize(columns * ld), offsets.resize(columns * groups);
        room = columns;
    }

    float* operator[](int column) { return x.data + column * ld; }

    void round(int column, Format format) {
        if (format == I8) round_whole(column);
        if (format == I4)
            for (int start = 0; start < width; start += SPAN) round_span(column, start);
    }

    template <class T> struct Aligned {
        std::vector<T> held;
        T* data = nullptr;
        void resize(size_t count) {
            held.assign(count + 64, T{});
            data = held.data() + (-(uintptr_t)held.data() % 64) / sizeof(T);
        }
    };

    size_t ld = 0, groups = 0;  // from one column to the next
    Aligned<float> x;
    Aligned<int16_t> whole;    // for I8: x = scales[column * groups] * whole
    Aligned<int8_t> small;     // for I4: x = the scale of its group * small
    Aligned<float> scales;
    Aligned<int32_t> offsets;  // for I4: what a group of weights of -8 adds

private:
    static constexpr float LARGEST = 32767;  // 32 products of it with 127 fit into 31 bits

    static V larger(V a, V b) { return a > b ? a : b; }
    static V size(V v) { return v < 0.f ? -v : v; }
    static Vi nearest(V v) { return __builtin_convertvector(v + (v < 0.f ? splat(-0.5f) : splat(0.5f)), Vi); }

    void round_whole(int column) {
        const float* from = (*this)[column];
        V sizes = {}, zero = {};  // zero becomes NaN where an activation is not finite, and the scale with it
        for (int i = 0; i < width; i += W) {
            const V v = load<V>(from + i);
            sizes = larger(sizes, size(v)), zero = fma(v, 0.f, zero);
        }
        float most = 1e-30f;
        for (int i = 0; i < W; i++) most = std::max(most, sizes[i]);
        scales.data[column * groups] = most / LARGEST + sum(zero);
        for (int i = 0; i < width; i += W)
            store(whole.data + column * ld + i, narrow<int16_t>(nearest(load<V>(from + i) * (LARGEST / most))));
    }

    // A span has 16 groups of 32: four columns after one another in each half of its blocks.
    void round_span(int column, int start) {
        float most[HALF4] = {}, inverse[HALF4];
        V zero = {};
        const float* from = (*this)[column] + start;
        for (int k = 0; k < SPAN; k += HALF4)
            for (int i = 0; i < HALF4; i += W) {
                const V v = load<V>(from + k + i);
                store(most + i, larger(load<V>(most + i), size(v))), zero = fma(v, 0.f, zero);
            }
        const size_t at = column * groups + start / SPAN * LANES;
        const float nothing = sum(zero);
        for (int g = 0; g < LANES; g++) {
            const float* m = most + 4 * g;
            const float greatest = std::max({m[0], m[1], m[2], m[3], 1e-30f});
            scales.data[at + g] = greatest / 127 + nothing;
            std::fill_n(inverse + 4 * g, 4, 127 / greatest);
        }
        int8_t* to = small.data + column * ld + start;
        for (int k = 0; k < SPAN; k += HALF4)
            for (int i = 0; i < HALF4; i += W)
                store(to + k + i, narrow<int8_t>(nearest(load<V>(from + k + i) * load<V>(inverse + i))));
        for (int lane = 0; lane < LANES; lane += W) {
            Vi sum = {};
            for (int k = 0; k < SPAN; k += HALF4) sum = add_nibble_products(sum, Vu8{} + 8, to + k + 4 * lane);
            store(offsets.data + at + lane, -sum);
        }
    }

    int width = 0, room = 0;
};

}  // namespace fish
