// Products of weights, in any of the formats that they are stored in, with columns of activations.
//
// Weights of floats are widened to float32 in registers. Those of integers are multiplied as integers, which takes a
// third of the instructions; the activations are rounded for it, to 16 bits a column for I8, to 8 bits in groups of 32
// for I4, a tenth of the error that the rounded weights make.
#pragma once
#include "ops/buffer.hpp"
#include "base/fetch.hpp"
#include "ops/matrix.hpp"
#include "base/simd.hpp"

namespace fish {

// The first product of a sum, at 0, or a further one. (To fill two dozen vectors with zeros first took 6 % of a product.)
inline void add(V& total, int at, V a, V b) { total = at ? fma(a, b, total) : a * b; }

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
                        for (int r = 0; r < 4; r++) total[b][r] = fma(wide[r], column, total[b][r]);
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
        for (int start = 0; start < cols; start += SPAN) {
            const uint8_t* scales = w;
            const int blocks = std::min(SPAN / BLOCK8, (cols - start + BLOCK8 - 1) / BLOCK8);
            fetcher.template next<TILE_SCALES>(w);
            w += TILE_SCALES;
            for (int lane = 0; lane < LANES; lane += W) {
                Vi sum[B][4] = {};
                span(w + 2 * lane, blocks, in.whole.data + first * in.ld + start + 2 * lane, in.ld, fetcher, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(scales + 2 * (r * LANES + lane));
                    for (int b = 0; b < B; b++) add(total[b][r], start + lane, scale, to_float(sum[b][r]));
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
        for (int start = 0; start < cols; start += SPAN) {
            const uint8_t* scales = w;
            const int blocks = std::min(SPAN / BLOCK4, (cols - start + BLOCK4 - 1) / BLOCK4);
            fetcher.template next<TILE_SCALES>(w);
            w += TILE_SCALES;
            for (int lane = 0; lane < LANES; lane += W) {
                const size_t group = first * in.groups + start / SPAN * LANES + lane;
                Vi sum[B][4];
                for (int b = 0; b < B; b++)
                    for (int r = 0; r < 4; r++) sum[b][r] = load<Vi>(in.offsets.data + group + b * in.groups);
                span(w + 4 * lane, blocks, in.small.data + first * in.ld + start + 4 * lane, in.ld, fetcher, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(scales + 2 * (r * LANES + lane));
                    for (int b = 0; b < B; b++)
                        add(total[b][r], start + lane, scale * load<V>(in.scales.data + group + b * in.groups), to_float(sum[b][r]));
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
