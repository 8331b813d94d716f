// The layout of weights in memory.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace fish {

enum Format : int32_t { F32, BF16, I8, I4 };

constexpr int LANES = 16;  // quantization groups that are interleaved, whatever the vector width is here
constexpr int SPAN = 512;  // weights of those groups together
constexpr int BLOCK8 = 32, BLOCK4 = 128, HALF4 = BLOCK4 / 2;
constexpr int TILE_ROWS = 4, TILE_SCALES = TILE_ROWS * LANES * (int)sizeof(uint16_t);

// Bytes of a row that lie together in a tile, and how many weights they are.
constexpr int chunk_bytes(Format f) { return f == I8 ? 32 : 64; }
constexpr int chunk_weights(Format f) { return f == F32 ? LANES : f == I4 ? BLOCK4 : BLOCK8; }
constexpr bool quantized(Format f) { return f == I8 || f == I4; }

// A weight (rows, cols) in tiles of four rows, in the order in which a product reads them: one stream of memory is
// faster than four rows and their scales beside one another. A tile holds a chunk of each of its rows, then the next
// chunk of each; quantized weights have the bfloat16 scales of a span before it. lm/quantize.py describes a chunk. A
// chunk of bfloat16 pairs weights k and k + 16 in the halves of a word, one operation away from float32. Missing rows
// and columns are zeros.
struct Matrix {
    const uint8_t* data;
    const float* bias;  // (rows,), or null
    int32_t rows, cols;
    Format format;
    int32_t tile;  // bytes

    const uint8_t* at(int row) const { return data + (size_t)(row / TILE_ROWS) * tile; }
};
static_assert(sizeof(Format) == 4 && sizeof(Matrix) == 32, "as native_lm.py declares it");

// A weight as PyTorch stores it: `stride` bytes in a row, and `scale_stride` scales.
struct WeightSource {
    const uint8_t* weights;
    const uint16_t* scales;
    int32_t stride, scale_stride;
};
static_assert(sizeof(WeightSource) == 24, "as native_lm.py declares it");

inline int64_t tile_bytes(Format format, int cols) {
    const int chunks = (cols + chunk_weights(format) - 1) / chunk_weights(format);
    const int spans = quantized(format) ? (cols + SPAN - 1) / SPAN : 0;
    return (int64_t)TILE_ROWS * chunk_bytes(format) * chunks + spans * TILE_SCALES;
}

// Interleave two halves of 16 numbers of 16 bits; the first half becomes the lower parts of 16 words.
inline void interleave_halves(uint8_t* p) {
    uint16_t from[2 * LANES], to[2 * LANES];
    std::memcpy(from, p, sizeof from);
    for (int i = 0; i < LANES; i++) to[2 * i] = from[i], to[2 * i + 1] = from[LANES + i];
    std::memcpy(p, to, sizeof to);
}

// Write one tile, of the rows from `start` on.
inline void pack_tile(uint8_t* to, const Matrix& m, int start, const WeightSource& source) {
    const int chunk = chunk_bytes(m.format), width = chunk_weights(m.format);
    const int rows = std::min(TILE_ROWS, m.rows - start);
    std::memset(to, 0, m.tile);
    for (int at = 0, k = 0; at < source.stride; at += chunk, k += width) {
        if (quantized(m.format) && k % SPAN == 0) {
            const uint16_t* scales = source.scales + (size_t)start * source.scale_stride + k / SPAN * LANES;
            for (int r = 0; r < rows; r++) std::memcpy(to + r * LANES * 2, scales + r * source.scale_stride, LANES * 2);
            to += TILE_SCALES;
        }
        const uint8_t* weights = source.weights + (size_t)start * source.stride + at;
        for (int r = 0; r < rows; r++, to += chunk) {
            std::memcpy(to, weights + (size_t)r * source.stride, std::min(chunk, source.stride - at));
            if (m.format == BF16) interleave_halves(to);
        }
        to += (TILE_ROWS - rows) * chunk;
    }
}

}  // namespace fish
