// What the compiler makes of plain vector operations, on any processor: as good as the instructions of NEON.
#pragma once
#include "base/simd/types.hpp"

namespace fish {

// W bfloat16 as float32.
inline V from_bf16(const void* p) {
    typedef uint16_t Half __attribute__((vector_size(2 * W)));
    return (V)(__builtin_convertvector(load<Half>(p), Vu) << 16);
}

// 2 W int8 as int16.
inline Vi16 from_int8(const void* p) {
    typedef int8_t Bytes __attribute__((vector_size(2 * W)));
    return __builtin_convertvector(load<Bytes>(p), Vi16);
}

// The sums of four vectors; out is 4 floats.
inline void sums(V a, V b, V c, V d, float* out) { out[0] = sum(a), out[1] = sum(b), out[2] = sum(c), out[3] = sum(d); }

}  // namespace fish
