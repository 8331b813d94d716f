// A causal convolution with one output channel, and the hyperbolic tangent: the last layer of the decoder.
#pragma once
#include <algorithm>

#include "ops/activation.hpp"

namespace fish {

constexpr int SAMPLES = 256;  // in a call

// weights (taps, width) on rows (width,) -> count <= SAMPLES samples; x is the first row of the first sample's taps.
inline void conv_to_samples(const float* weights, float bias, int taps, const float* x, size_t width, int count,
                            float* samples) {
    float y[SAMPLES];
    for (int t = 0; t < count; t += 4) {
        V total[4] = {};
        const float* row[4];
        for (int j = 0; j < 4; j++) row[j] = x + (size_t)std::min(t + j, count - 1) * width;
        for (size_t c = 0; c < taps * width; c += W)
            for (int j = 0; j < 4; j++) total[j] = fma(load<V>(weights + c), load<V>(row[j] + c), total[j]);
        sums(total[0], total[1], total[2], total[3], y + t);
    }
    for (int t = 0; t < count; t += W) store(y + t, tanh(load<V>(y + t) + bias));
    std::copy_n(y, count, samples);
}

}  // namespace fish
