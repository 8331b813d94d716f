// How weights lie in memory.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace fish {

enum Format : int32_t { F32, BF16, I8, I4 };

constexpr int LANES = 16;  // groups that a block has a part of, whatever W is here
constexpr int SPAN = 512;  // weights of those groups together
constexpr int BLOCK8 = 32, BLOCK4 = 128, HALF4 = BLOCK4 / 2;
constexpr int TILE_ROWS = 4, TILE_SCALES = TILE_ROWS * LANES * (int)sizeof(uint16_t);

// Bytes of a row that lie together in a tile, and how many weights they are.
constexpr int chunk_bytes(Format f) { return f == I8 ? 32 : 64; }
constexpr int chunk_weights(Format f) { return f == F32 ? LANES : f == I4 ? BLOCK4 : BLOCK8; }
constexpr bool grouped(Format f) { return f == I8 || f == I4; }

// A weight (rows, cols) in tiles of four rows, in the order in which a product reads them: one stream of memory is
// read faster than four rows and their scales beside one another. A tile has a chunk of each of its rows, then the
// next of each, and of integers the bfloat16 scales of a span of them before it; see `quantize.py` for what is in a
// chunk. Of bfloat16 it is weights k and k + 16 in the two halves of a word, so that float32 is one operation away.
// Zeros stand for rows and columns that are not there.
struct Matrix {
    const uint8_t* data;
    const float* bias;
    int32_t rows, cols;
    Format format;
    int32_t tile;  // bytes

    const uint8_t* at(int row) const { return data + (size_t)(row / TILE_ROWS) * tile; }
};

inline int64_t tile_bytes(Format format, int cols) {
    const int chunks = (cols + chunk_weights(format) - 1) / chunk_weights(format);
    const int spans = grouped(format) ? (cols + SPAN - 1) / SPAN : 0;
    return (int64_t)TILE_ROWS * chunk_bytes(format) * chunks + spans * TILE_SCALES;
}

// Puts 32 numbers of 16 bits, of which the first are to be the lower ones, into 16 words.
inline void pair_halves(uint8_t* p) {
    uint16_t from[2 * LANES], to[2 * LANES];
    std::memcpy(from, p, sizeof from);
    for (int i = 0; i < LANES; i++) to[2 * i] = from[i], to[2 * i + 1] = from[LANES + i];
    std::memcpy(p, to, sizeof to);
}

// A weight as PyTorch has it: `stride` bytes in a row, and `scale_stride` scales.
struct Source {
    const uint8_t* weights;
    const uint16_t* scales;
    int stride, scale_stride;
};

// Lays out one tile, of the rows from `start` on.
inline void pack(uint8_t* to, const Matrix& m, int start, const Source& source) {
    const int chunk = chunk_bytes(m.format), width = chunk_weights(m.format), rows = std::min(TILE_ROWS, m.rows - start);
    std::memset(to, 0, m.tile);
    for (int at = 0, k = 0; at < source.stride; at += chunk, k += width) {
        if (grouped(m.format) && k % SPAN == 0) {
            const uint16_t* scales = source.scales + (size_t)start * source.scale_stride + k / SPAN * LANES;
            for (int r = 0; r < rows; r++) std::memcpy(to + r * LANES * 2, scales + r * source.scale_stride, LANES * 2);
            to += TILE_SCALES;
        }
        const uint8_t* weights = source.weights + (size_t)start * source.stride + at;
        for (int r = 0; r < rows; r++, to += chunk) {
            std::memcpy(to, weights + (size_t)r * source.stride, std::min(chunk, source.stride - at));
            if (m.format == BF16) pair_halves(to);
        }
        to += (TILE_ROWS - rows) * chunk;
    }
}

}  // namespace fish
