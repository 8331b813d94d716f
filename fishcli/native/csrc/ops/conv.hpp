// Causal convolutions of activations (time, channels), on all threads.
//
// The rows before the first are the conv state. A transposed convolution is an ordinary one with `stride` times as many
// outputs: those of one input, as one row, lie as the rows of its `stride` outputs would.
#pragma once
#include <vector>

#include "base/thread_pool.hpp"
#include "ops/winograd.hpp"

namespace fish {

constexpr int TALL = 48, SHORT = 12;  // rows (or tiles) that a panel's weights are read for at once

// Rows that a convolution looks back.
inline int reach(const Conv& conv) {
    return (conv.points == 1 ? conv.taps - 1 : TILE * conv.taps - 1) * conv.dilation;
}

// How a convolution's rows are cut into blocks.
struct ConvBlocks {
    int rows, count;

    ConvBlocks(const Conv& conv, int steps, int threads) {
        const int tile = conv.points == 1 ? 1 : TILE, unit = conv.points == 1 ? 1 : TILE * conv.dilation;
        const int panels = conv.panels(), spare = (3 * threads + panels - 1) / panels;  // enough to share evenly
        const int least = (steps + TALL * tile - 1) / (TALL * tile);
        const int parts = std::max(least, std::min(spare, steps / (SHORT * tile)));
        rows = ((steps + parts - 1) / parts + unit - 1) / unit * unit;
        count = (steps + rows - 1) / rows;
    }
};

// Memory of each thread for one block of one panel, allocated before the threads start.
class ConvScratch {
public:
    void reserve(const ThreadPool& pool, const Conv& conv) {
        const bool direct = conv.points == 1;
        const int unit = direct ? 1 : TILE * conv.dilation, tall = direct ? TALL : TALL * TILE;
        const size_t rows = (tall + unit - 1) / unit * unit;
        const size_t floats = direct ? rows * PANEL * W : winograd_scratch(conv, rows);
        each.resize(pool.threads());
        for (auto& held : each) held.resize(std::max(held.size(), floats + LINE));
    }

    // The calling thread's, from a cache line on.
    float* mine() {
        auto& held = each[ThreadPool::thread_number()];
        return held.data() + (-(uintptr_t)held.data() % 64) / sizeof(float);
    }

private:
    std::vector<std::vector<float>> each;
};

// One panel of a convolution, rows start..end-1; x is row 0 of its input.
template <int N>
void direct_conv(const Conv& conv, const float* x, int start, int end, int panel, const Epilogue& after, float* y) {
    const size_t row = padded(conv.in), first = (size_t)panel * PANEL * W;
    const ConvInput from{x + (ptrdiff_t)(start - reach(conv)) * (ptrdiff_t)row, row, row * conv.dilation};
    conv_panel<N>(conv, from, end - start, conv.weights + first * conv.depth(), y);
    for (int t = start; t < end; t++)
        for (int n = 0; n < N; n++, y += W) {
            const size_t column = first + n * W;
            after.put((size_t)t * conv.out + column, load<V>(y) + load<V>(conv.bias + column));
        }
}

// The last panel may be narrower than the others.
template <int N>
void conv_block(const Conv& conv, const float* x, int start, int end, int steps, int panel, const Epilogue& after,
                float* scratch) {
    if constexpr (N > 1)
        if (conv.out - panel * PANEL * W < N * W)
            return conv_block<N - 1>(conv, x, start, end, steps, panel, after, scratch);
    if (conv.points == 1) direct_conv<N>(conv, x, start, end, panel, after, scratch);
    else winograd<N>(conv, x, start, end, steps, panel, after, scratch);
}

// Every thread calls this: `steps` rows of a convolution. One thread also does the chore, which touches no output.
template <class Chore>
void convolve(ThreadPool& pool, ConvScratch& scratch, const Conv& conv, const float* x, int steps,
              const Epilogue& after, Chore chore) {
    const ConvBlocks blocks(conv, steps, pool.threads());
    pool.parallel_for(conv.panels() * blocks.count + 1, [&](int piece) {
        if (piece == 0) return chore();
        const int panel = (piece - 1) / blocks.count, start = (piece - 1) % blocks.count * blocks.rows;
        const int end = std::min(steps, start + blocks.rows);
        conv_block<PANEL>(conv, x, start, end, steps, panel, after, scratch.mine());
    });
}

}  // namespace fish
