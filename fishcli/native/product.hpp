// Products of weights, in any of the formats that they are stored in, with columns of activations.
//
// Weights of floats are widened to float32 in registers. Those of integers are multiplied as integers, which takes a
// third of the instructions; the activations are rounded for it, to 16 bits a column for I8, to 8 bits in groups of 32
// for I4, a tenth of the error that the rounded weights make.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "simd.hpp"

namespace fish {

enum Format : int32_t { F32, BF16, I8, I4 };

constexpr int LANES = 16;  // groups that a block has a part of, whatever W is here
constexpr int BLOCK8 = 32, SPAN8 = 512;
constexpr int HALF4 = 64, BLOCK4 = 128, SPAN4 = 512;
constexpr int TILE_ROWS = 4, TILE_SCALES = TILE_ROWS * LANES * (int)sizeof(uint16_t);

// Bytes of a row that lie together in a tile, and how many weights they are.
constexpr int chunk_bytes(Format f) { return f == I8 ? 32 : 64; }
constexpr int chunk_weights(Format f) { return f == F32 ? LANES : f == I4 ? BLOCK4 : BLOCK8; }
constexpr bool grouped(Format f) { return f == I8 || f == I4; }

// A weight (rows, cols) in tiles of four rows, in the order in which a product reads them: one stream of memory is
// read faster than four rows and their scales beside one another. A tile has a chunk of each of its rows, then the
// next of each, and of integers the bfloat16 scales of a span of them before it; see `quantize.py` for what is in a
// chunk. Of bfloat16 it is weights k and k + 16 in the two halves of a word, so that float32 is one operation away.
// Zeros stand for rows and columns that are not there.
struct Matrix {
    const uint8_t* data;
    const float* bias;
    int32_t rows, cols;
    Format format;
    int32_t tile;  // bytes

    const uint8_t* at(int row) const { return data + (size_t)(row / TILE_ROWS) * tile; }
};

inline int64_t tile_bytes(Format format, int cols) {
    const int chunks = (cols + chunk_weights(format) - 1) / chunk_weights(format);
    return (int64_t)TILE_ROWS * chunk_bytes(format) * chunks + (grouped(format) ? (cols + SPAN8 - 1) / SPAN8 * TILE_SCALES : 0);
}

// Puts 32 numbers of 16 bits, of which the first are to be the lower ones, into 16 words.
inline void pair_halves(uint8_t* p) {
    uint16_t from[2 * LANES], to[2 * LANES];
    std::memcpy(from, p, sizeof from);
    for (int i = 0; i < LANES; i++) to[2 * i] = from[i], to[2 * i + 1] = from[LANES + i];
    std::memcpy(p, to, sizeof to);
}

// Lays out one tile of a weight that has `stride` bytes in a row, and `scale_stride` scales.
inline void pack(uint8_t* to, const Matrix& m, int start, const uint8_t* weights, int stride, const uint16_t* scales, int scale_stride) {
    const int chunk = chunk_bytes(m.format), width = chunk_weights(m.format), rows = std::min(TILE_ROWS, m.rows - start);
    std::memset(to, 0, m.tile);
    for (int at = 0, k = 0; at < stride; at += chunk, k += width) {
        if (grouped(m.format) && k % SPAN8 == 0) {
            for (int r = 0; r < rows; r++)
                std::memcpy(to + r * LANES * 2, scales + (size_t)(start + r) * scale_stride + k / SPAN8 * LANES, LANES * 2);
            to += TILE_SCALES;
        }
        for (int r = 0; r < rows; r++, to += chunk) {
            std::memcpy(to, weights + (size_t)(start + r) * stride + at, std::min(chunk, stride - at));
            if (m.format == BF16) pair_halves(to);
        }
        to += (TILE_ROWS - rows) * chunk;
    }
}

// Activations (columns, width): floats in `x`, from which `round` makes what integers are multiplied with, weights of
// `format`. Each column starts at a cache line and is followed by zeros up to a whole block.
class Buffer {
public:
    void shape(int columns, int wanted, Format format = F32) {
        if (wanted == width && columns <= room) return;
        width = wanted, room = 0;
        // A power of two between the columns would put all of them into the same places of the cache.
        ld = (wanted + SPAN4 - 1) / SPAN4 * SPAN4 + HALF4;
        groups = ld / SPAN4 * LANES;
        x.resize(columns * ld), scales.resize(columns * groups);
        if (format == I8) whole.resize(columns * ld);
        if (format == I4) small.resize(columns * ld), offsets.resize(columns * groups);
        room = columns;
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

// Bytes before their use at which weights are fetched from memory, and then from the second cache: the processor by
// itself is more timid, and stops at the end of a page.
constexpr int FAR = 16 << 10, NEAR = 4 << 10;

// Fetches ahead of a product that goes over a tile, of which it is one of `parts` that do: each fetches its share of
// what comes from memory, evenly, so that there is always something on the way; the first brings the tile itself near.
class Fetcher {
public:
    explicit Fetcher(const uint8_t* tile) : Fetcher(tile, 0, 0, 1) {}
    Fetcher(const uint8_t* tile, int bytes, int part, int parts)
        : far(tile + FAR + bytes / parts * part), parts(parts), first(part == 0) {}

    // With the next BYTES of the tile, which are at p.
    template <int BYTES> inline void next(const uint8_t* p) {
        const int share = BYTES / parts;
        for (int i = 0; i < BYTES; i += 64) {
            if (i < share) __builtin_prefetch(far + i, 0, 2);
            if (first) __builtin_prefetch(p + NEAR + i, 0, 3);
        }
        far += share;
    }

private:
    const uint8_t* far;
    const int parts;
    const bool first;
};

// The first part of a sum, at 0, or a further one. (To fill two dozen vectors with zeros first took 6 % of a product.)
inline void add(V& total, int at, V part) { total = at ? total + part : part; }

// A tile of a matrix, and which of the products that go over it one after another this is.
struct Tile {
    const uint8_t* data;
    int bytes, cols, part, parts;

    template <int B> Fetcher fetcher() const { return B == 1 ? Fetcher(data) : Fetcher(data, bytes, part, parts); }
};

// Products of a tile with B columns of activations, from the first-th on: out[4 * b + r].
template <Format F, int B> struct Product {  // F32, BF16
    [[gnu::noinline]] static void run(const Tile& tile, const Buffer& in, int first, float* out) {
        const uint8_t* w = tile.data;
        const int cols = tile.cols;
        Fetcher fetcher = tile.template fetcher<B>();
        constexpr int CHUNK = chunk_bytes(F), PARTS = F == F32 ? 1 : 2;
        const float* x = in.x.data + first * in.ld;
        V total[B][4] = {};
        for (int start = 0; start < cols; start += PARTS * LANES, w += 4 * CHUNK) {
            fetcher.template next<4 * CHUNK>(w);
            for (int lane = 0; lane < LANES; lane += W)
                for (int part = 0; part < PARTS; part++) {
                    V wide[4];
                    for (int r = 0; r < 4; r++) {
                        const Vu words = load<Vu>(w + r * CHUNK + 4 * lane);
                        wide[r] = (V)(F == F32 ? words : part ? words & 0xffff0000 : words << 16);
                    }
                    for (int b = 0; b < B; b++) {
                        const V column = load<V>(x + b * in.ld + start + part * LANES + lane);
                        for (int r = 0; r < 4; r++) total[b][r] += wide[r] * column;
                    }
                }
        }
        for (int b = 0; b < B; b++) sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
    }
};

template <int B> struct Product<I8, B> {
    [[gnu::noinline]] static void run(const Tile& tile, const Buffer& in, int first, float* out) {
        const uint8_t* w = tile.data;
        const int cols = tile.cols;
        Fetcher fetcher = tile.template fetcher<B>();
        V total[B][4];
        for (int start = 0; start < cols; start += SPAN8) {
            const uint8_t* scales = w;
            const int blocks = std::min(SPAN8 / BLOCK8, (cols - start + BLOCK8 - 1) / BLOCK8);
            fetcher.template next<TILE_SCALES>(w);
            w += TILE_SCALES;
            for (int lane = 0; lane < LANES; lane += W) {
                Vi sum[B][4] = {};
                span(w + 2 * lane, blocks, in.whole.data + first * in.ld + start + 2 * lane, in.ld, fetcher, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(scales + 2 * (r * LANES + lane));
                    for (int b = 0; b < B; b++) add(total[b][r], start + lane, scale * to_float(sum[b][r]));
                }
            }
            w += blocks * 4 * BLOCK8;
        }
        for (int b = 0; b < B; b++) {
            sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
            for (int r = 0; r < 4; r++) out[4 * b + r] *= in.scales.data[(first + b) * in.groups];
        }
    }

    // W groups; each lane sums up one group.
    static inline void span(const uint8_t* w, int blocks, const int16_t* x, size_t ld, Fetcher& fetcher, Vi (&sum)[B][4]) {
        for (; blocks; blocks--, w += 4 * BLOCK8, x += BLOCK8) {
            fetcher.template next<4 * BLOCK8>(w);
            Vi16 wide[4];
            for (int r = 0; r < 4; r++) wide[r] = from_int8(w + r * BLOCK8);
            for (int b = 0; b < B; b++) {
                const Vi16 column = load<Vi16>(x + b * ld);
                for (int r = 0; r < 4; r++) sum[b][r] = add_products(sum[b][r], wide[r], column);
            }
        }
    }
};

template <int B> struct Product<I4, B> {
    [[gnu::noinline]] static void run(const Tile& tile, const Buffer& in, int first, float* out) {
        const uint8_t* w = tile.data;
        const int cols = tile.cols;
        Fetcher fetcher = tile.template fetcher<B>();
        V total[B][4];
        for (int start = 0; start < cols; start += SPAN4) {
            const uint8_t* scales = w;
            const int blocks = std::min(SPAN4 / BLOCK4, (cols - start + BLOCK4 - 1) / BLOCK4);
            fetcher.template next<TILE_SCALES>(w);
            w += TILE_SCALES;
            for (int lane = 0; lane < LANES; lane += W) {
                const size_t group = first * in.groups + start / SPAN4 * LANES + lane;
                Vi sum[B][4];
                for (int b = 0; b < B; b++)
                    for (int r = 0; r < 4; r++) sum[b][r] = load<Vi>(in.offsets.data + group + b * in.groups);
                span(w + 4 * lane, blocks, in.small.data + first * in.ld + start + 4 * lane, in.ld, fetcher, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(scales + 2 * (r * LANES + lane));
                    for (int b = 0; b < B; b++)
                        add(total[b][r], start + lane, scale * load<V>(in.scales.data + group + b * in.groups) * to_float(sum[b][r]));
                }
            }
            w += blocks * 4 * HALF4;
        }
        for (int b = 0; b < B; b++) sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
    }

    // W groups; each lane sums up one group.
    static inline void span(const uint8_t* w, int blocks, const int8_t* x, size_t ld, Fetcher& fetcher, Vi (&sum)[B][4]) {
        for (; blocks; blocks--, w += 4 * HALF4, x += BLOCK4) {
            fetcher.template next<4 * HALF4>(w);
            Vu8 even[4], odd[4];
            for (int r = 0; r < 4; r++) {
                const Vu8 both = load<Vu8>(w + r * HALF4);
                even[r] = both & 15, odd[r] = (Vu8)((Vu)both >> 4) & 15;
            }
            for (int b = 0; b < B; b++) {
                const Vu8 lower = load<Vu8>(x + b * ld), upper = load<Vu8>(x + b * ld + HALF4);
                for (int r = 0; r < 4; r++)
                    sum[b][r] = add_nibble_products(add_nibble_products(sum[b][r], even[r], &lower), odd[r], &upper);
            }
        }
    }
};

}  // namespace fish
