// The memory of a streaming decoder: the last rows of each convolution's input.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fish {

// The rows that the next ones are convolved with; `offset`: where a stream keeps them.
struct ConvState {
    size_t offset;
    int rows, width;
    size_t size() const { return (size_t)rows * width; }
};

// One sequence of frames: its conv states, zeros at the start.
struct DecoderStream {
    std::vector<float> states;

    // Copy a state to the rows before `now`.
    void restore(const ConvState& state, float* now) const {
        std::copy_n(states.data() + state.offset, state.size(), now - state.size());
    }

    // Keep the last of `steps` rows from `now` on, and of the rows before them.
    void save(const ConvState& state, const float* now, int steps) {
        const float* end = now + (size_t)steps * state.width;
        std::copy_n(end - state.size(), state.size(), states.data() + state.offset);
    }
};

// Activations from `now` on, with room for a conv state before them.
struct Signal {
    float* now = nullptr;
    std::vector<float> held;

    void resize(size_t before, size_t after) {
        before = (before + 15) / 16 * 16;
        held.assign(before + after + 16, 0.f);
        now = held.data() + (-(uintptr_t)held.data() % 64) / sizeof(float) + before;
    }
};

}  // namespace fish
