// Products of weights, in any of the formats that they are stored in, with columns of activations.
//
// Weights of floats are widened to float32 in registers. Those of integers are multiplied as integers, which takes a
// third of the instructions; the activations are rounded for it, to 16 bits a column for I8, to 8 bits in groups of 32
// for I4, a tenth of the error that the rounded weights make.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "simd.hpp"

namespace fish {

enum Format : int32_t { F32, BF16, I8, I4 };

// A weight (rows, cols) as PyTorch has it, each row contiguous; I8 and I4 as `quantize.py` describes them.
struct Matrix {
    const uint8_t* data;
    const void* scales;
    const float* bias;
    int32_t rows, cols;
    Format format;
    int32_t stride;        // bytes of a row
    int32_t scale_stride;  // scales of a row

    const uint8_t* row(int i) const { return data + (size_t)i * stride; }
    const uint16_t* scale(int i, int group) const { return (const uint16_t*)scales + (size_t)i * scale_stride + group; }
};

constexpr int LANES = 16;  // groups that a block has a part of, whatever W is here
constexpr int BLOCK8 = 32, SPAN8 = 512;
constexpr int HALF4 = 64, BLOCK4 = 128, SPAN4 = 512;

// Activations (columns, width): floats in `x`, from which `round` makes what integers are multiplied with. Each
// column starts at a cache line and is followed by zeros up to a whole block.
class Buffer {
public:
    void shape(int columns, int wanted) {
        if (wanted == width && columns <= room) return;
        width = wanted, room = columns;
        // A power of two between the columns would put all of them into the same places of the cache.
        ld = (wanted + SPAN4 - 1) / SPAN4 * SPAN4 + HALF4;
        groups = ld / SPAN4 * LANES;
        x.resize(columns * ld), whole.resize(columns * ld), small.resize(columns * ld);
        scales.resize(columns * std::max<size_t>(groups, LANES)), offsets.resize(columns * groups);
    }

    float* operator[](int column) { return x.data + column * ld; }

    void round(int column, Format format) {
        if (format == I8) round_whole(column);
        if (format == I4)
            for (int start = 0; start < width; start += SPAN4) round_span(column, start);
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
        V sizes = {};
        for (int i = 0; i < width; i += W) sizes = larger(sizes, size(load<V>(from + i)));
        float most = 1e-30f;
        for (int i = 0; i < W; i++) most = std::max(most, sizes[i]);
        scales.data[column * groups] = most / LARGEST;
        for (int i = 0; i < width; i += W)
            store(whole.data + column * ld + i, narrow<int16_t>(nearest(load<V>(from + i) * (LARGEST / most))));
    }

    // A span has 16 groups of 32: four columns after one another in each half of its blocks.
    void round_span(int column, int start) {
        float most[HALF4] = {}, inverse[HALF4];
        const float* from = (*this)[column] + start;
        for (int k = 0; k < SPAN4; k += HALF4)
            for (int i = 0; i < HALF4; i += W) store(most + i, larger(load<V>(most + i), size(load<V>(from + k + i))));
        const size_t at = column * groups + start / SPAN4 * LANES;
        for (int g = 0; g < LANES; g++) {
            const float* m = most + 4 * g;
            const float greatest = std::max({m[0], m[1], m[2], m[3], 1e-30f});
            scales.data[at + g] = greatest / 127;
            std::fill_n(inverse + 4 * g, 4, 127 / greatest);
        }
        int8_t* to = small.data + column * ld + start;
        for (int k = 0; k < SPAN4; k += HALF4)
            for (int i = 0; i < HALF4; i += W)
                store(to + k + i, narrow<int8_t>(nearest(load<V>(from + k + i) * load<V>(inverse + i))));
        for (int lane = 0; lane < LANES; lane += W) {
            Vi sum = {};
            for (int k = 0; k < SPAN4; k += HALF4) sum = add_nibble_products(sum, Vu8{} + 8, to + k + 4 * lane);
            store(offsets.data + at + lane, -sum);
        }
    }

    int width = 0, room = 0;
};

constexpr int AHEAD = 1024;  // bytes of each row that are fetched before they are needed: the hardware is more timid

// Fetch what is needed a little after byte k of four rows: some of the same rows or, at their end, of the next four.
inline void fetch(const Matrix& m, const uint8_t* const (&w)[4], int k) {
    const int ahead = AHEAD < m.stride ? AHEAD : m.stride, next = k + ahead < m.stride ? k + ahead : k + ahead + 3 * m.stride;
    for (int r = 0; r < 4; r++) __builtin_prefetch(w[r] + next);
}

// Products of four rows of weights with B columns of activations, from the first-th on: out[4 * b + r].
template <Format F, int B> struct Product {  // F32, BF16
    static constexpr int SIZE = F == F32 ? 4 : 2;

    static V weights(const uint8_t* p) { return F == F32 ? load<V>(p) : from_bf16(p); }

    [[gnu::noinline]] static void run(const Matrix& m, const int* rows, const Buffer& in, int first, float* out) {
        const float* x = in.x.data + first * in.ld;
        const uint8_t* w[4];
        for (int r = 0; r < 4; r++) w[r] = m.row(rows[r]);
        V total[B][4] = {};
        const int whole = m.cols / W * W;
        for (int k = 0; k < whole; k += W) {
            V wide[4];
            for (int r = 0; r < 4; r++) wide[r] = weights(w[r] + k * SIZE);
            if (k * SIZE % 64 == 0) fetch(m, w, k * SIZE);
            for (int b = 0; b < B; b++) {
                const V column = load<V>(x + b * in.ld + k);
                for (int r = 0; r < 4; r++) total[b][r] += wide[r] * column;
            }
        }
        for (int b = 0; b < B; b++) {
            sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
            for (int i = whole; i < m.cols; i++)
                for (int r = 0; r < 4; r++) out[4 * b + r] += one(w[r], i) * x[b * in.ld + i];
        }
    }

    static float one(const uint8_t* p, int i) {
        const uint32_t bits = F == F32 ? load<uint32_t>(p + 4 * i) : (uint32_t)load<uint16_t>(p + 2 * i) << 16;
        return load<float>(&bits);
    }
};

template <int B> struct Product<I8, B> {
    [[gnu::noinline]] static void run(const Matrix& m, const int* rows, const Buffer& in, int first, float* out) {
        V total[B][4] = {};
        for (int start = 0; start < m.stride; start += SPAN8)
            for (int lane = 0; lane < LANES; lane += W) {
                Vi sum[B][4] = {};
                span(m, rows, start + 2 * lane, std::min(SPAN8, m.stride - start), in, first, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(m.scale(rows[r], start / SPAN8 * LANES + lane));
                    for (int b = 0; b < B; b++) total[b][r] += scale * to_float(sum[b][r]);
                }
            }
        for (int b = 0; b < B; b++) {
            sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
            for (int r = 0; r < 4; r++) out[4 * b + r] *= in.scales.data[(first + b) * in.groups];
        }
    }

    // W groups, from the start-th weights on; each lane sums up one group.
    static inline void span(const Matrix& m, const int* rows, int start, int length, const Buffer& in, int first, Vi (&sum)[B][4]) {
        const int16_t* x = in.whole.data + first * in.ld;
        const uint8_t* w[4];
        for (int r = 0; r < 4; r++) w[r] = m.row(rows[r]);
        for (int k = start; k < start + length; k += BLOCK8) {
            Vi16 wide[4];
            for (int r = 0; r < 4; r++) wide[r] = from_int8(w[r] + k);
            if (k % 64 == 0) fetch(m, w, k);
            for (int b = 0; b < B; b++) {
                const Vi16 column = load<Vi16>(x + b * in.ld + k);
                for (int r = 0; r < 4; r++) sum[b][r] = add_products(sum[b][r], wide[r], column);
            }
        }
    }
};

template <int B> struct Product<I4, B> {
    [[gnu::noinline]] static void run(const Matrix& m, const int* rows, const Buffer& in, int first, float* out) {
        V total[B][4] = {};
        const int end = 2 * m.stride;
        for (int start = 0; start < end; start += SPAN4)
            for (int lane = 0; lane < LANES; lane += W) {
                const size_t group = start / SPAN4 * LANES + lane;
                Vi sum[B][4];
                for (int b = 0; b < B; b++)
                    for (int r = 0; r < 4; r++) sum[b][r] = load<Vi>(in.offsets.data + (first + b) * in.groups + group);
                span(m, rows, start, 4 * lane, std::min(SPAN4, end - start), in, first, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(m.scale(rows[r], group));
                    for (int b = 0; b < B; b++)
                        total[b][r] += scale * load<V>(in.scales.data + (first + b) * in.groups + group) * to_float(sum[b][r]);
                }
            }
        for (int b = 0; b < B; b++) sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
    }

    // W groups, from the start-th weights and the byte-th of their bytes on; each lane sums up one group.
    static inline void span(const Matrix& m, const int* rows, int start, int byte, int length, const Buffer& in, int first,
                            Vi (&sum)[B][4]) {
        const int8_t* x = in.small.data + first * in.ld + byte;
        const uint8_t* w[4];
        for (int r = 0; r < 4; r++) w[r] = m.row(rows[r]) + byte;
        for (int k = start; k < start + length; k += BLOCK4) {
            Vu8 even[4], odd[4];
            for (int r = 0; r < 4; r++) {
                const Vu8 both = load<Vu8>(w[r] + k / 2);
                even[r] = both & 15, odd[r] = (Vu8)((Vu)both >> 4) & 15;
            }
            fetch(m, w, k / 2);
            for (int b = 0; b < B; b++) {
                const Vu8 lower = load<Vu8>(x + b * in.ld + k), upper = load<Vu8>(x + b * in.ld + k + HALF4);
                for (int r = 0; r < 4; r++)
                    sum[b][r] = add_nibble_products(add_nibble_products(sum[b][r], even[r], &lower), odd[r], &upper);
            }
        }
    }
};

}  // namespace fish
