// Activations in float32, and quantized for products with integers.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/quantize.hpp"

namespace fish {

// An array that starts at a cache line.
template <class T> struct Aligned {
    std::vector<T> held;
    T* data = nullptr;

    void resize(size_t count) {
        held.assign(count + 64, T{});
        data = held.data() + (-(uintptr_t)held.data() % 64) / sizeof(T);
    }
};

// Activations (columns, width). Each column starts at a cache line and ends with zeros up to a whole span.
class Activations {
public:
    // Allocate for products with weights of `format`, unless there is room already.
    void resize(int columns, int wanted, Format format = F32) {
        if (wanted == width && columns <= room) return;
        width = wanted, room = 0;
        // A power of two from one column to the next would put all of them into the same sets of the cache.
        stride = (wanted + SPAN - 1) / SPAN * SPAN + HALF4;
        groups = stride / SPAN * LANES;
        floats.resize(columns * stride), scales.resize(columns * groups);
        if (format == I8) int16.resize(columns * stride);
        if (format == I4) int8.resize(columns * stride), offsets.resize(columns * groups);
        room = columns;
    }

    float* operator[](int column) { return floats.data + column * stride; }

    // Quantize a column for weights of `format`.
    void quantize(int column, Format format) {
        const size_t at = column * stride, group = column * groups;
        if (format == I8) scales.data[group] = quantize_int16(floats.data + at, width, int16.data + at);
        for (int i = 0; format == I4 && i < width; i += SPAN) {
            const size_t first = group + i / SPAN * LANES;
            quantize_int8(floats.data + at + i, int8.data + at + i, scales.data + first, offsets.data + first);
        }
    }

    size_t stride = 0, groups = 0;  // from one column to the next
    Aligned<float> floats;
    Aligned<int16_t> int16;    // for I8: floats = scales[column * groups] * int16
    Aligned<int8_t> int8;      // for I4: floats = the scale of the group * int8
    Aligned<float> scales;
    Aligned<int32_t> offsets;  // for I4: what weights of -8 add to the products of a group

private:
    int width = 0, room = 0;
};

}  // namespace fish
