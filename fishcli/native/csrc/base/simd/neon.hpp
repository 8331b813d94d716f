// NEON on 64-bit ARM; with the dot products of bytes where the processor has them.
#pragma once
#include <arm_neon.h>

namespace fish {
constexpr int W = 4;            // floats in a vector
constexpr int REGISTERS = 32;   // vector registers
constexpr int MAX_COLUMNS = 6;  // columns whose products with four rows are accumulated in registers
}  // namespace fish

#include "base/simd/portable.hpp"

namespace fish {

inline V fma(V a, V b, V c) { return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }

// total + the products of 2 W pairs of int16, two in each lane.
inline Vi add_products(Vi total, Vi16 a, Vi16 b) {
    const int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    return total + (Vi)vpaddq_s32(low, vmull_high_s16(x, y));
}

// total + the products of 4 W pairs of a number from 0 to 15 and an int8, four in each lane.
inline Vi add_nibble_products(Vi total, Vu8 a, Vi8 b) {
#if defined(__ARM_FEATURE_DOTPROD)
    return (Vi)vdotq_s32((int32x4_t)total, (int8x16_t)a, (int8x16_t)b);
#else
    for (int i = 0; i < 4 * W; i++) total[i / 4] += a[i] * b[i];
    return total;
#endif
}

}  // namespace fish
