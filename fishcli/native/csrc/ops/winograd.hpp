// Convolutions of four taps by Toom-Cook (Winograd; see arXiv:1509.09308).
//
// Four outputs of four taps cost 7 multiplications in place of 16: inputs and weights are taken as polynomials and
// multiplied by their values at the points 0, 1, -1, 2, -2, 1/2 and infinity. The error is twice that of the plain sum.
// A tile is the four outputs. They are `dilation` rows apart, and `dilation` tiles are interleaved; so a group of taps
// sees of a tile what the group before it sees of the tile `dilation` later.
#pragma once
#include "ops/conv_kernel.hpp"
#include "ops/epilogue.hpp"

namespace fish {

constexpr int POINTS = 7, TILE = 4;

// The values at the points of seven inputs, `next` floats apart.
inline void winograd_input(const float* const* x, size_t c, float* out, size_t next) {
    V v[POINTS], u[POINTS - 1];  // u: without the point 1/2
    for (int i = 0; i < POINTS; i++) v[i] = load<V>(x[i] + c);
    for (int i = 0; i < POINTS - 1; i++) u[i] = fma(v[i], -0.5f, v[i + 1]);
    const V odd1 = fma(u[2], -4.f, u[4]), even1 = fma(u[1], -4.f, u[3]);
    const V odd2 = u[4] - u[2], even2 = 2.f * (u[3] - u[1]);
    const V values[POINTS] = {
        fma(u[0], 4.f, fma(u[2], -5.f, u[4])), odd1 + even1, odd1 - even1, odd2 + even2, odd2 - even2,
        fma(v[1], 4.f, fma(v[3], -5.f, v[5])), fma(u[1], 4.f, fma(u[3], -5.f, u[5])),
    };
    for (int i = 0; i < POINTS; i++) store(out + i * next + c, values[i]);
}

// The four outputs of the products at the points.
inline void winograd_output(const float* y, size_t next, V (&out)[TILE]) {
    V m[POINTS];
    for (int i = 0; i < POINTS; i++) m[i] = load<V>(y + i * next);
    const V even1 = m[1] + m[2], odd1 = m[1] - m[2], even2 = m[3] + m[4], odd2 = m[3] - m[4];
    out[0] = m[0] + even1 + even2 + m[5];
    out[1] = fma(m[5], 0.5f, fma(odd2, 2.f, odd1));
    out[2] = fma(m[5], 0.25f, fma(even2, 4.f, even1));
    out[3] = fma(m[5], 0.125f, fma(odd2, 8.f, odd1)) + m[6];
}

// The tiles that cover the rows start..end-1.
struct WinogradTiles {
    int start, end, dilation, count;

    WinogradTiles(int start, int end, int dilation) : start(start), end(end), dilation(dilation) {
        count = (end - start + TILE * dilation - 1) / (TILE * dilation) * dilation;
        while (first(count - 1) >= end) count--;
    }

    int first(int tile) const { return start + tile / dilation * TILE * dilation + tile % dilation; }
    int inputs(int groups) const { return count + (groups - 1) * dilation; }
};

// Floats of scratch memory for at most so many rows of one panel.
inline size_t winograd_scratch(const Conv& conv, size_t rows) {
    const size_t row = padded(conv.in), tiles = rows / TILE, inputs = tiles + (size_t)(conv.taps - 1) * conv.dilation;
    return row + POINTS * (inputs * row + tiles * PANEL * W);
}

// Transform the inputs of tiles: in (POINTS, inputs, row). `zeros` (row,) stands for rows beyond the last step, which
// take no part in the outputs before them.
inline void winograd_inputs(const Conv& conv, const float* x, const WinogradTiles& tiles, int steps, const float* zeros,
                            float* in) {
    const int row = padded(conv.in), inputs = tiles.inputs(conv.taps), reach = (TILE * conv.taps - 1) * conv.dilation;
    for (int tile = 0; tile < inputs; tile++) {
        const float* rows[POINTS];
        for (int i = 0; i < POINTS; i++) {
            const ptrdiff_t t = tiles.first(tile) + i * conv.dilation - reach;
            rows[i] = t < steps ? x + t * row : zeros;
        }
        for (int c = 0; c < row; c += W) winograd_input(rows, c, in + (size_t)tile * row, (size_t)inputs * row);
    }
}

// One panel of a convolution, rows start..end-1 of `steps`; x is row 0 of its input.
template <int N>
void winograd(const Conv& conv, const float* x, int start, int end, int steps, int panel, const Epilogue& after,
              float* scratch) {
    const int row = padded(conv.in);
    const WinogradTiles tiles(start, end, conv.dilation);
    const size_t next_in = (size_t)tiles.inputs(conv.taps) * row, next_out = (size_t)tiles.count * N * W;
    float *zeros = scratch, *in = zeros + row, *out = in + POINTS * next_in;
    std::fill(zeros, in, 0.f);
    winograd_inputs(conv, x, tiles, steps, zeros, in);
    const size_t column = (size_t)panel * PANEL * W, depth = conv.depth();
    for (int i = 0; i < POINTS; i++) {
        const ConvInput from{in + i * next_in, (size_t)row, (size_t)row * conv.dilation};
        const float* weights = conv.weights + (column * POINTS + i * N * W) * depth;
        conv_panel<N>(conv, from, tiles.count, weights, out + i * next_out);
    }
    for (int tile = 0; tile < tiles.count; tile++)
        for (int n = 0; n < N; n++) {
            V y[TILE];
            winograd_output(out + (size_t)(tile * N + n) * W, next_out, y);
            const V bias = load<V>(conv.bias + column + n * W);
            for (int i = 0, t = tiles.first(tile); i < TILE && t < end; i++, t += conv.dilation)
                after.put((size_t)t * conv.out + column + n * W, y[i] + bias);
        }
}

}  // namespace fish
