// The microkernel of convolutions: rows of inputs times a panel of weights, each output channel in a lane of a vector.
#pragma once
#include <algorithm>

#include "base/simd.hpp"

namespace fish {

constexpr int PANEL = REGISTERS / 8;  // vectors of output channels that are computed at once, for several rows
constexpr int DEPTH = 128;            // inputs times taps of which a panel's weights stay in the L1 cache
constexpr int LINE = 16;              // floats in a cache line

// The layout of a convolution's weights and bias, as native_codec.py packs and describes them.
struct Conv {
    const float* weights;  // panels of (points, taps, in, width of the panel)
    const float* bias;     // (out,)
    int32_t in, out, taps, dilation;
    int32_t points;  // 1, or POINTS of winograd.hpp: then a tap here is a group of four taps, transformed

    int panels() const { return (out + PANEL * W - 1) / (PANEL * W); }
    size_t depth() const { return (size_t)taps * in; }
};
static_assert(sizeof(void*) != 8 || sizeof(Conv) == 40, "as native_codec.py declares it");

// Channels of a row of activations, which ends with zeros up to whole vectors.
inline int padded(int channels) { return (channels + W - 1) / W * W; }

// Inputs: the floats from one row, and from one tap, to the next.
struct ConvInput {
    const float* data;
    size_t row, tap;
};

// y (R, N * W) = or += R rows of x times weights (taps, channels, N * W). Prefetches half as many floats from `ahead`
// on, which the hardware would not do across pages.
template <int N, int R>
[[gnu::noinline]] void conv_kernel(ConvInput x, int taps, int channels, const float* w, float* y, bool first,
                                   const float* ahead) {
    V total[R][N];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) total[r][n] = first ? V{} : load<V>(y + (r * N + n) * W);
    for (int tap = 0; tap < taps; tap++, x.data += x.tap)
        for (int c = 0; c < channels; c++, w += N * W, ahead += N * W / 2) {
            if constexpr (N > 1)
                for (int i = 0; i < N * W / 2; i += LINE) __builtin_prefetch(ahead + i, 0, 2);
            V weights[N];
            for (int n = 0; n < N; n++) weights[n] = load<V>(w + n * W);
            for (int r = 0; r < R; r++)
                for (int n = 0; n < N; n++) total[r][n] = fma(weights[n], x.data[r * x.row + c], total[r][n]);
        }
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) store(y + (r * N + n) * W, total[r][n]);
}

// The same for any number of rows up to R.
template <int N, int R>
void conv_rows(int rows, ConvInput x, int taps, int channels, const float* w, float* y, bool first,
               const float* ahead) {
    if constexpr (R > 1)
        if (rows < R) return conv_rows<N, R - 1>(rows, x, taps, channels, w, y, first, ahead);
    conv_kernel<N, R>(x, taps, channels, w, y, first, ahead);
}

// y (rows, N * W) = rows of x times the weights of one panel, at one point.
template <int N> void conv_panel(const Conv& conv, ConvInput x, int rows, const float* w, float* y) {
    constexpr int HIGH = std::min(12, (REGISTERS - 1 - N) / N);  // sums, weights and an input are all in registers
    const int taps = std::max(1, DEPTH / conv.in), shares = (rows + HIGH - 1) / HIGH;
    for (int tap = 0; tap < conv.taps; tap += taps)
        for (int c = 0; c < conv.in; c += DEPTH) {
            const int deep = std::min(taps, conv.taps - tap), wide = std::min(DEPTH, conv.in - c);
            const float* weights = w + ((size_t)tap * conv.in + c) * N * W;
            const float* ahead = weights + deep * wide * N * W;
            for (int start = 0, left = shares; left; left--, ahead += deep * wide * N * W / 2) {
                const int count = (rows - start + left - 1) / left;  // even shares: 8 rows are 4 and 4, not 6 and 2
                const ConvInput from{x.data + start * x.row + tap * x.tap + c, x.row, x.tap};
                conv_rows<N, HIGH>(count, from, deep, wide, weights, y + start * N * W, tap + c == 0, ahead);
                start += count;
            }
        }
}

}  // namespace fish
