// Any processor, by the vector extensions of the compiler alone.
#pragma once

namespace fish {
constexpr int W = 4;            // floats in a vector
constexpr int REGISTERS = 16;   // vector registers
constexpr int MAX_COLUMNS = 6;  // columns whose products with four rows are accumulated in registers
}  // namespace fish

#include "base/simd/portable.hpp"

namespace fish {

inline V fma(V a, V b, V c) { return a * b + c; }

// total + the products of 2 W pairs of int16, two in each lane.
inline Vi add_products(Vi total, Vi16 a, Vi16 b) {
    for (int i = 0; i < 2 * W; i++) total[i / 2] += a[i] * b[i];
    return total;
}

// total + the products of 4 W pairs of a number from 0 to 15 and an int8, four in each lane.
inline Vi add_nibble_products(Vi total, Vu8 a, Vi8 b) {
    for (int i = 0; i < 4 * W; i++) total[i / 4] += a[i] * b[i];
    return total;
}

}  // namespace fish
