// Rotary position embedding (arXiv:2104.09864).
#pragma once
#include "base/simd.hpp"

namespace fish {

// Rotate a pair of channels; rotation: its cosine and sine at the position.
inline void rotate(const float* rotation, float& even, float& odd) {
    const float x = fma(even, rotation[0], -(odd * rotation[1]));
    odd = fma(odd, rotation[0], even * rotation[1]);
    even = x;
}

}  // namespace fish
