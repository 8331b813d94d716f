// The products of one tile of weights, in any format, with B columns of activations.
//
// Float weights are converted to float32 in registers. Quantized weights are multiplied as integers, in a third of the
// instructions; activations are quantized for it, to 16 bits per column for I8 and to 8 bits in groups of 32 for
// I4. That adds a tenth of the error of the quantized weights.
#pragma once
#include "base/prefetch.hpp"
#include "ops/activations.hpp"

namespace fish {

// A tile, and which of the passes over it this is.
struct Tile {
    const uint8_t* data;
    int bytes, cols, part, parts;

    template <int B> Prefetcher prefetcher() const {
        return B == 1 ? Prefetcher(data) : Prefetcher(data, bytes, part, parts);
    }
};

// The first product of a sum, at 0, or a further one. (Zeroing two dozen vectors first took 6 % of a microkernel.)
inline void accumulate(V& total, int at, V a, V b) { total = at ? fma(a, b, total) : a * b; }

// out[4 * b + r] = row r of the tile times column first + b.
template <Format F, int B> struct Microkernel {  // F32, BF16
    static constexpr int CHUNK = chunk_bytes(F), PARTS = F == F32 ? 1 : 2;

    [[gnu::noinline]] static void run(const Tile& tile, const Activations& in, int first, float* out) {
        const uint8_t* w = tile.data;
        const int cols = tile.cols;
        Prefetcher prefetcher = tile.template prefetcher<B>();
        const float* x = in.floats.data + first * in.stride;
        V total[B][4] = {};
        for (int start = 0; start < cols; start += PARTS * LANES, w += 4 * CHUNK) {
            prefetcher.template next<4 * CHUNK>(w);
            for (int lane = 0; lane < LANES; lane += W)
                for (int part = 0; part < PARTS; part++) {
                    V weights[4];
                    for (int r = 0; r < 4; r++) weights[r] = to_float32(load<Vu>(w + r * CHUNK + 4 * lane), part);
                    for (int b = 0; b < B; b++) {
                        const V column = load<V>(x + b * in.stride + start + part * LANES + lane);
                        for (int r = 0; r < 4; r++) total[b][r] = fma(weights[r], column, total[b][r]);
                    }
                }
        }
        for (int b = 0; b < B; b++) sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
    }

    static V to_float32(Vu words, int part) {
        return (V)(F == F32 ? words : part ? words & 0xffff0000 : words << 16);
    }
};

template <int B> struct Microkernel<I8, B> {
    [[gnu::noinline]] static void run(const Tile& tile, const Activations& in, int first, float* out) {
        const uint8_t* w = tile.data;
        const int cols = tile.cols;
        Prefetcher prefetcher = tile.template prefetcher<B>();
        V total[B][4];
        for (int start = 0; start < cols; start += SPAN) {
            const uint8_t* scales = w;
            const int blocks = std::min(SPAN / BLOCK8, (cols - start + BLOCK8 - 1) / BLOCK8);
            prefetcher.template next<TILE_SCALES>(w);
            w += TILE_SCALES;
            for (int lane = 0; lane < LANES; lane += W) {
                const int16_t* x = in.int16.data + first * in.stride + start + 2 * lane;
                Vi sum[B][4] = {};
                add_span(w + 2 * lane, blocks, x, in.stride, prefetcher, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(scales + 2 * (r * LANES + lane));
                    for (int b = 0; b < B; b++) accumulate(total[b][r], start + lane, scale, to_float(sum[b][r]));
                }
            }
            w += blocks * 4 * BLOCK8;
        }
        for (int b = 0; b < B; b++) {
            sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
            for (int r = 0; r < 4; r++) out[4 * b + r] *= in.scales.data[(first + b) * in.groups];
        }
    }

    // Add the products of W groups, one group in each lane.
    static inline void add_span(const uint8_t* w, int blocks, const int16_t* x, size_t stride, Prefetcher& prefetcher,
                                Vi (&sum)[B][4]) {
        for (; blocks; blocks--, w += 4 * BLOCK8, x += BLOCK8) {
            prefetcher.template next<4 * BLOCK8>(w);
            Vi16 weights[4];
            for (int r = 0; r < 4; r++) weights[r] = from_int8(w + r * BLOCK8);
            for (int b = 0; b < B; b++) {
                const Vi16 column = load<Vi16>(x + b * stride);
                for (int r = 0; r < 4; r++) sum[b][r] = add_products(sum[b][r], weights[r], column);
            }
        }
    }
};

template <int B> struct Microkernel<I4, B> {
    [[gnu::noinline]] static void run(const Tile& tile, const Activations& in, int first, float* out) {
        const uint8_t* w = tile.data;
        const int cols = tile.cols;
        Prefetcher prefetcher = tile.template prefetcher<B>();
        V total[B][4];
        for (int start = 0; start < cols; start += SPAN) {
            const uint8_t* scales = w;
            const int blocks = std::min(SPAN / BLOCK4, (cols - start + BLOCK4 - 1) / BLOCK4);
            prefetcher.template next<TILE_SCALES>(w);
            w += TILE_SCALES;
            for (int lane = 0; lane < LANES; lane += W) {
                const size_t group = first * in.groups + start / SPAN * LANES + lane;
                const int8_t* x = in.int8.data + first * in.stride + start + 4 * lane;
                Vi sum[B][4];
                for (int b = 0; b < B; b++)
                    for (int r = 0; r < 4; r++) sum[b][r] = load<Vi>(in.offsets.data + group + b * in.groups);
                add_span(w + 4 * lane, blocks, x, in.stride, prefetcher, sum);
                for (int r = 0; r < 4; r++) {
                    const V scale = from_bf16(scales + 2 * (r * LANES + lane));
                    for (int b = 0; b < B; b++) {
                        const V both = scale * load<V>(in.scales.data + group + b * in.groups);
                        accumulate(total[b][r], start + lane, both, to_float(sum[b][r]));
                    }
                }
            }
            w += blocks * 4 * HALF4;
        }
        for (int b = 0; b < B; b++) sums(total[b][0], total[b][1], total[b][2], total[b][3], out + 4 * b);
    }

    // Add the products of W groups, one group in each lane.
    static inline void add_span(const uint8_t* w, int blocks, const int8_t* x, size_t stride, Prefetcher& prefetcher,
                                Vi (&sum)[B][4]) {
        for (; blocks; blocks--, w += 4 * HALF4, x += BLOCK4) {
            prefetcher.template next<4 * HALF4>(w);
            Vu8 even[4], odd[4];
            for (int r = 0; r < 4; r++) {
                const Vu8 both = load<Vu8>(w + r * HALF4);
                even[r] = both & 15, odd[r] = (Vu8)((Vu)both >> 4) & 15;
            }
            for (int b = 0; b < B; b++) {
                const Vi8 lower = load<Vi8>(x + b * stride), upper = load<Vi8>(x + b * stride + HALF4);
                for (int r = 0; r < 4; r++)
                    sum[b][r] = add_nibble_products(add_nibble_products(sum[b][r], even[r], lower), odd[r], upper);
            }
        }
    }
};

}  // namespace fish
