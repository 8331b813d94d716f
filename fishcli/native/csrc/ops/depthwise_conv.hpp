// A causal convolution of each channel by itself.
#pragma once
#include "base/simd.hpp"

namespace fish {

// One row: weights (kernel, width) and bias (width,) on x, the row's own input, and the rows before it -> y (width,).
inline void depthwise_conv(const float* weights, const float* bias, int kernel, const float* x, size_t width,
                           float* y) {
    x -= (kernel - 1) * width;
    for (size_t c = 0; c < width; c += W) {
        V total = load<V>(bias + c);
        for (int k = 0; k < kernel; k++)
            total = fma(load<V>(weights + k * width + c), load<V>(x + k * width + c), total);
        store(y + c, total);
    }
}

}  // namespace fish
