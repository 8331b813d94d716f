// What happens to an output of a convolution before it is stored.
#pragma once
#include "ops/activation.hpp"

namespace fish {

enum Activation { SILU, GELU };

// scale * (output + add + more) goes to `plain` as it is and to `active` through the activation. Null pointers are left
// out.
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

}  // namespace fish
