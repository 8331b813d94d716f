// Causal convolutions of activations (time, channels), with each output channel in a lane of a vector.
//
// A row of activations is padded with zeros to whole vectors, and the rows before the first are the past. Weights are
// packed by `codec/native.py` in the order in which they are read. A transposed convolution is an ordinary one with
// `stride` times as many outputs: those of one input, as one row, lie as the rows of its `stride` outputs would.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/pool.hpp"
#include "base/simd.hpp"

namespace fish {

#if defined(__AVX512BW__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif
constexpr int PANEL = REGISTERS / 8;  // vectors of outputs that are computed at once, for several rows
constexpr int DEEP = 128;             // inputs times taps: a panel's weights for them stay in the first cache
constexpr int TALL = 48, SHORT = 12;  // rows (or tiles, see below) that a panel's weights are read for at once
constexpr int LINE = 16;              // floats that the cache fetches at once

// Four outputs of a convolution of four taps cost 7 multiplications in place of 16 where both are taken as polynomials
// and multiplied by their values at 7 points, 0, 1, -1, 2, -2, 1/2 and infinity (Toom and Cook; Winograd; see
// arXiv:1509.09308). The error grows to twice that of the plain sum. A tile is the four outputs.
constexpr int POINTS = 7, TILE = 4;

inline int padded(int channels) { return (channels + W - 1) / W * W; }

// What `codec/native.py` passes; it declares the same structure.
struct Conv {
    const float* weights;  // panels of (points, taps, in, width of the panel)
    const float* bias;     // (out,)
    int32_t in, out, taps, dilation;
    int32_t points;  // 1, or POINTS: then a tap here is a group of four, in its values at the points

    int reach() const { return (points == 1 ? taps - 1 : TILE * taps - 1) * dilation; }  // rows that it looks back
    int panels() const { return (out + PANEL * W - 1) / (PANEL * W); }
    size_t depth() const { return (size_t)taps * in; }
};

// 1 / x to 2e-7.
inline V reciprocal(V x) {
#if defined(__AVX512BW__)
    const V r = (V)_mm512_rcp14_ps((__m512)x);
    return r * fma(-x, r, 2.f);
#elif defined(__AVX2__)
    const V r = (V)_mm256_rcp_ps((__m256)x);
    return r * fma(-x, r, 2.f);
#else
    return 1.f / x;
#endif
}

// x / (1 + e^-x). It is taken of every output, so it has an exponential of its own that is just good enough.
inline V silu(V x) {
    constexpr float ROUND = 12582912;  // 1.5 * 2^23: what is added to it is rounded, into its lowest bits
    V power = x * -1.44269504f;
    power = power < -126.f ? splat(-126.f) : power;
    power = power > 126.f ? splat(126.f) : power;
    const V whole = power + ROUND, f = power - (whole - ROUND);
    V p = splat(1.32764290e-3f);  // 2^f to 8e-8, least squares with weights that even out the relative error
    p = fma(p, f, 9.67554167e-3f);
    p = fma(p, f, 5.55071341e-2f);
    p = fma(p, f, 2.40221197e-1f);
    p = fma(p, f, 6.93146967e-1f);
    p = fma(p, f, 1.00000007f);
    return x * reciprocal(1.f + (V)((Vi)p + ((Vi)whole << 23)));
}

// GELU as it is defined, with the error function to 2e-7 (Abramowitz and Stegun, 7.1.26).
inline V gelu(V x) {
    const V z = (x < 0.f ? -x : x) * 0.707106781f, t = 1.f / fma(z, 0.3275911f, 1.f);
    V p = splat(1.061405429f);
    p = fma(p, t, -1.453152027f);
    p = fma(p, t, 1.421413741f);
    p = fma(p, t, -0.284496736f);
    p = fma(p, t, 0.254829592f);
    const V tail = 0.5f * p * t * exp(-z * z);
    return x * (x < 0.f ? tail : 1.f - tail);
}

inline V tanh(V x) { return 1.f - 2.f / (1.f + exp(2.f * x)); }

enum Activation { SILU, GELU };

// Where outputs go: scale * (convolution + bias + add + more), as it is and activated. What is null is left out.
struct Epilogue {
    float* plain = nullptr;
    float* active = nullptr;
    Activation activation = SILU;
    const float* add = nullptr;
    const float* more = nullptr;
    float scale = 1;

    void put(size_t at, V y) const {
        if (add) y += load<V>(add + at);
        if (more) y += load<V>(more + at);
        y *= scale;
        if (plain) store(plain + at, y);
        if (active) store(active + at, activation == SILU ? silu(y) : gelu(y));
    }
};

// Inputs: the floats from one row, and from one tap, to the next.
struct Inputs {
    const float* data;
    size_t row, tap;
};

// y (R, N * W) = or += R rows of x times weights (taps, channels, N * W). It fetches half as many from `ahead` on,
// which the hardware would not do across pages.
template <int N, int R>
[[gnu::noinline]] void product(Inputs x, int taps, int channels, const float* w, float* y, bool first,
                               const float* ahead) {
    V total[R][N];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) total[r][n] = first ? V{} : load<V>(y + (r * N + n) * W);
    for (int tap = 0; tap < taps; tap++, x.data += x.tap)
        for (int c = 0; c < channels; c++, w += N * W, ahead += N * W / 2) {
            if constexpr (N > 1)
                for (int i = 0; i < N * W / 2; i += LINE) __builtin_prefetch(ahead + i, 0, 2);
            V wide[N];
            for (int n = 0; n < N; n++) wide[n] = load<V>(w + n * W);
            for (int r = 0; r < R; r++)
                for (int n = 0; n < N; n++) total[r][n] = fma(wide[n], x.data[r * x.row + c], total[r][n]);
        }
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) store(y + (r * N + n) * W, total[r][n]);
}

template <int N, int R>
void product(int rows, Inputs x, int taps, int channels, const float* w, float* y, bool first, const float* ahead) {
    if constexpr (R > 1)
        if (rows < R) return product<N, R - 1>(rows, x, taps, channels, w, y, first, ahead);
    product<N, R>(x, taps, channels, w, y, first, ahead);
}

// y (rows, N * W) = rows of x times the weights of one panel, at one point.
template <int N> void multiply(const Conv& conv, Inputs x, int rows, const float* w, float* y) {
    constexpr int HIGH = std::min(12, (REGISTERS - 1 - N) / N);  // sums, weights and an input are all in registers
    const int taps = std::max(1, DEEP / conv.in), shares = (rows + HIGH - 1) / HIGH;
    for (int tap = 0; tap < conv.taps; tap += taps)
        for (int c = 0; c < conv.in; c += DEEP) {
            const int deep = std::min(taps, conv.taps - tap), wide = std::min(DEEP, conv.in - c);
            const float* weights = w + ((size_t)tap * conv.in + c) * N * W;
            const float* ahead = weights + deep * wide * N * W;
            for (int start = 0, left = shares; left; left--, ahead += deep * wide * N * W / 2) {
                const int count = (rows - start + left - 1) / left;  // even shares: 8 rows are 4 and 4, not 6 and 2
                const Inputs from{x.data + start * x.row + tap * x.tap + c, x.row, x.tap};
                product<N, HIGH>(count, from, deep, wide, weights, y + start * N * W, tap + c == 0, ahead);
                start += count;
            }
        }
}

// Rows of a convolution that a thread takes at once, at most, and the floats that it needs for them beside the output.
inline int most_rows(const Conv& conv) {
    const int unit = conv.points == 1 ? 1 : TILE * conv.dilation, tall = TALL * (conv.points == 1 ? 1 : TILE);
    return (tall + unit - 1) / unit * unit;
}
inline size_t scratch_floats(const Conv& conv) {
    const size_t rows = most_rows(conv), width = PANEL * W, row = padded(conv.in);
    if (conv.points == 1) return rows * width;
    const size_t tiles = rows / TILE, inputs = tiles + (size_t)(conv.taps - 1) * conv.dilation;
    return row + POINTS * (inputs * row + tiles * width);
}

// Memory of each thread for one piece of work at a time, allocated before they start.
class Scratch {
public:
    void reserve(const Pool& pool, size_t floats) {
        each.resize(pool.count());
        for (auto& held : each) held.resize(std::max(held.size(), floats + LINE));
    }
    float* mine() {
        auto& held = each[Pool::number()];
        return held.data() + (-(uintptr_t)held.data() % 64) / sizeof(float);
    }

private:
    std::vector<std::vector<float>> each;
};

// One panel of a convolution, rows start..end-1; x is row 0 of its input.
template <int N>
void direct(const Conv& conv, const float* x, int start, int end, int panel, Epilogue after, float* y) {
    const size_t row = padded(conv.in), first = (size_t)panel * PANEL * W;
    const Inputs from{x + (ptrdiff_t)(start - conv.reach()) * (ptrdiff_t)row, row, row * conv.dilation};
    multiply<N>(conv, from, end - start, conv.weights + first * conv.depth(), y);
    for (int t = start; t < end; t++)
        for (int n = 0; n < N; n++, y += W) {
            const size_t column = first + n * W;
            after.put((size_t)t * conv.out + column, load<V>(y) + load<V>(conv.bias + column));
        }
}

// The values at the points that seven inputs have, `next` floats apart.
inline void to_points(const float* const* x, size_t c, float* out, size_t next) {
    V v[POINTS], u[POINTS - 1];  // u: without the point 1/2
    for (int i = 0; i < POINTS; i++) v[i] = load<V>(x[i] + c);
    for (int i = 0; i < POINTS - 1; i++) u[i] = fma(v[i], -0.5f, v[i + 1]);
    const V odd1 = fma(u[2], -4.f, u[4]), even1 = fma(u[1], -4.f, u[3]), odd2 = u[4] - u[2], even2 = 2.f * (u[3] - u[1]);
    const V values[POINTS] = {
        fma(u[0], 4.f, fma(u[2], -5.f, u[4])), odd1 + even1, odd1 - even1, odd2 + even2, odd2 - even2,
        fma(v[1], 4.f, fma(v[3], -5.f, v[5])), fma(u[1], 4.f, fma(u[3], -5.f, u[5])),
    };
    for (int i = 0; i < POINTS; i++) store(out + i * next + c, values[i]);
}

// The four outputs that the products at the points stand for.
inline void from_points(const float* y, size_t next, V (&out)[TILE]) {
    V m[POINTS];
    for (int i = 0; i < POINTS; i++) m[i] = load<V>(y + i * next);
    const V even1 = m[1] + m[2], odd1 = m[1] - m[2], even2 = m[3] + m[4], odd2 = m[3] - m[4];
    out[0] = m[0] + even1 + even2 + m[5];
    out[1] = fma(m[5], 0.5f, fma(odd2, 2.f, odd1));
    out[2] = fma(m[5], 0.25f, fma(even2, 4.f, even1));
    out[3] = fma(m[5], 0.125f, fma(odd2, 8.f, odd1)) + m[6];
}

// The same as `direct`, at the points. A tile's outputs are `dilation` rows apart, and as many tiles as that are
// interleaved; so a group of taps sees, of any tile, what the group before it sees of the tile `dilation` later.
template <int N>
void at_points(const Conv& conv, const float* x, int start, int end, int steps, int panel, Epilogue after,
               float* zeros) {
    const int d = conv.dilation, row = padded(conv.in);
    auto first = [&](int tile) { return start + tile / d * TILE * d + tile % d; };
    int tiles = (end - start + TILE * d - 1) / (TILE * d) * d;
    while (first(tiles - 1) >= end) tiles--;
    const int inputs = tiles + (conv.taps - 1) * d;
    const size_t next_in = (size_t)inputs * row, next_out = (size_t)tiles * N * W;
    float *in = zeros + row, *out = in + POINTS * next_in;
    std::fill(zeros, in, 0.f);
    for (int tile = 0; tile < inputs; tile++) {
        const float* rows[POINTS];
        for (int i = 0; i < POINTS; i++) {
            const ptrdiff_t t = first(tile) + i * d - conv.reach();
            rows[i] = t < steps ? x + t * row : zeros;  // what is beyond the end has no part in any row before it
        }
        for (int c = 0; c < row; c += W) to_points(rows, c, in + (size_t)tile * row, next_in);
    }
    const size_t column = (size_t)panel * PANEL * W, depth = conv.depth();
    for (int i = 0; i < POINTS; i++) {
        const Inputs from{in + i * next_in, (size_t)row, (size_t)row * d};
        multiply<N>(conv, from, tiles, conv.weights + (column * POINTS + i * N * W) * depth, out + i * next_out);
    }
    for (int tile = 0; tile < tiles; tile++)
        for (int n = 0; n < N; n++) {
            V y[TILE];
            from_points(out + (size_t)(tile * N + n) * W, next_out, y);
            const V bias = load<V>(conv.bias + column + n * W);
            for (int i = 0, t = first(tile); i < TILE && t < end; i++, t += d)
                after.put((size_t)t * conv.out + column + n * W, y[i] + bias);
        }
}

// The last panel may be narrower than the others.
template <int N>
void panel_rows(const Conv& conv, const float* x, int start, int end, int steps, int panel, const Epilogue& after,
                float* scratch) {
    if constexpr (N > 1)
        if (conv.out - panel * PANEL * W < N * W)
            return panel_rows<N - 1>(conv, x, start, end, steps, panel, after, scratch);
    if (conv.points == 1) direct<N>(conv, x, start, end, panel, after, scratch);
    else at_points<N>(conv, x, start, end, steps, panel, after, scratch);
}

// Every thread calls this: `steps` rows of a convolution. One thread does the chore, which touches no output.
template <class Chore>
void convolve(Pool& pool, Scratch& scratch, const Conv& conv, const float* x, int steps, const Epilogue& after,
              Chore chore) {
    const int tile = conv.points == 1 ? 1 : TILE, unit = conv.points == 1 ? 1 : TILE * conv.dilation;
    const int panels = conv.panels(), spare = (3 * pool.count() + panels - 1) / panels;  // enough to share evenly
    const int parts = std::max((steps + TALL * tile - 1) / (TALL * tile), std::min(spare, steps / (SHORT * tile)));
    const int rows = ((steps + parts - 1) / parts + unit - 1) / unit * unit, blocks = (steps + rows - 1) / rows;
    pool.share(panels * blocks + 1, [&](int piece) {
        if (piece == 0) return chore();
        const int panel = (piece - 1) / blocks, start = (piece - 1) % blocks * rows;
        panel_rows<PANEL>(conv, x, start, std::min(steps, start + rows), steps, panel, after, scratch.mine());
    });
}

}  // namespace fish
