// Rows of an embedding table.
#pragma once
#include "base/simd.hpp"
#include "ops/matrix.hpp"

namespace fish {

// (rows, cols), F32 or BF16, one row after another.
struct Embedding {
    const uint8_t* data;
    int64_t rows;
    int32_t cols;
    Format format;

    // Add a row to out (cols,).
    void add_row(int64_t row, float* out) const {
        const uint8_t* p = data + row * cols * (format == F32 ? 4 : 2);
        for (int i = 0; i < cols; i++) {
            uint32_t bits = format == F32 ? load<uint32_t>(p + 4 * i) : (uint32_t)load<uint16_t>(p + 2 * i) << 16;
            out[i] += load<float>(&bits);
        }
    }
};
static_assert(sizeof(Embedding) == 24, "as native_lm.py declares it");

}  // namespace fish
