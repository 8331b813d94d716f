// Vectors of W floats and of integers of the same size, by the vector extensions of GCC and clang.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fish {

typedef float V __attribute__((vector_size(4 * W)));
typedef int32_t Vi __attribute__((vector_size(4 * W)));
typedef uint32_t Vu __attribute__((vector_size(4 * W)));
typedef int16_t Vi16 __attribute__((vector_size(4 * W)));
typedef uint8_t Vu8 __attribute__((vector_size(4 * W)));
typedef int8_t Vi8 __attribute__((vector_size(4 * W)));

template <class T> inline T load(const void* p) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T> inline void store(void* p, T v) { std::memcpy(p, &v, sizeof v); }
inline V splat(float x) { return V{} + x; }

// Each lane, which must fit, as a smaller integer.
template <class T> inline auto narrow(Vi v) {
    typedef T Small __attribute__((vector_size(sizeof(T) * W)));
    return __builtin_convertvector(v, Small);
}

inline V to_float(Vi v) { return __builtin_convertvector(v, V); }
inline Vi to_int(V v) { return __builtin_convertvector(v, Vi); }  // toward zero

inline float sum(V v) {
    float total = 0;
    for (int i = 0; i < W; i++) total += v[i];
    return total;
}

}  // namespace fish
