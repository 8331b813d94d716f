// Products of a weight matrix with columns of activations, on all threads.
#pragma once
#include "base/thread_pool.hpp"
#include "ops/microkernel.hpp"

namespace fish {

constexpr int PIECE = 64 << 10;        // bytes of weights that a thread takes at once: small enough to share evenly
constexpr int PREFETCHED = 128 << 10;  // bytes that a thread prefetches in a barrier, at most: they fit into its cache

// The products of a tile, whose first row is n, with at most B columns.
template <Format F, int B, class Store>
void multiply_tile(const Tile& tile, int n, Activations& x, int first, int columns, Store store) {
    if constexpr (B > 1)
        if (columns < B) return multiply_tile<F, B - 1>(tile, n, x, first, columns, store);
    float out[4 * B];
    Microkernel<F, B>::run(tile, x, first, out);
    store(n, B, first, out);
}

// Columns are taken in even shares of at most MAX_COLUMNS: 8 are 4 and 4, not 6 and 2. Two shares go over the tiles
// together: the second finds a tile in the L1 cache, and gives memory time to deliver the next. More shares would read
// more of their columns from the L2 cache, so each goes over all tiles of a piece, which are in the L2 cache too.
template <Format F, class Store>
void multiply_tiles(const Matrix& m, int start, int end, Activations& x, int columns, Store store) {
    const int shares = (columns + MAX_COLUMNS - 1) / MAX_COLUMNS, parts = shares == 2 ? 2 : 1;
    for (int share = 0; share < shares; share += parts)
        for (int n = start; n < end; n += TILE_ROWS)
            for (int part = 0; part < parts; part++) {
                const int first = (share + part) * columns / shares, next = (share + part + 1) * columns / shares;
                const Tile tile{m.at(n), m.tile, m.cols, part, parts};
                multiply_tile<F, MAX_COLUMNS>(tile, n, x, first, next - first, store);
            }
}

// Rows of a matrix that a thread takes at once.
inline int piece_rows(const ThreadPool& pool, const Matrix& m) {
    const int most = (m.rows + 2 * pool.threads() - 1) / (2 * pool.threads());
    return std::max(1, std::min(most / TILE_ROWS, PIECE / m.tile)) * TILE_ROWS;
}
inline int pieces(const ThreadPool& pool, const Matrix& m) {
    const int rows = piece_rows(pool, m);
    return (m.rows + rows - 1) / rows;
}

// Have the calling thread prefetch its first rows of a matrix in the barriers before `matmul`.
inline void prefetch(ThreadPool& pool, const Matrix& m) {
    const int start = pool.first_piece(pieces(pool, m)) * piece_rows(pool, m);
    pool.prefetch_in_barrier(m.at(start), std::min<size_t>(PREFETCHED, m.at(m.rows - 1) + m.tile - m.at(start)));
}

// m @ x. Calls `store(first row, columns, first column, out)` with each tile of the result, out[4 * column + row]: four
// rows, zeros where the matrix has no more.
template <class Store> void matmul(ThreadPool& pool, const Matrix& m, Activations& x, int columns, Store store) {
    const int rows = piece_rows(pool, m);
    pool.parallel_for(pieces(pool, m), [&](int piece) {
        const int start = piece * rows, end = std::min(m.rows, start + rows);
        switch (m.format) {
            case F32: return multiply_tiles<F32>(m, start, end, x, columns, store);
            case BF16: return multiply_tiles<BF16>(m, start, end, x, columns, store);
            case I8: return multiply_tiles<I8>(m, start, end, x, columns, store);
            case I4: return multiply_tiles<I4>(m, start, end, x, columns, store);
        }
    });
}

// For `matmul`: write the tiles to activations.
inline auto write_to(Activations& to) {
    return [&to](int n, int columns, int first, const float* out) {
        for (int c = 0; c < columns; c++) std::copy_n(out + 4 * c, 4, to[first + c] + n);
    };
}

// For `matmul`: add the tiles to activations.
inline auto add_to(Activations& to) {
    return [&to](int n, int columns, int first, const float* out) {
        for (int c = 0; c < columns; c++)
            for (int r = 0; r < 4; r++) to[first + c][n + r] += out[4 * c + r];
    };
}

// Lay out a weight in a matrix whose `data` has room for it.
inline void pack(ThreadPool& pool, const Matrix& m, const WeightSource& source) {
    const int rows = piece_rows(pool, m);
    pool.run([&] {
        pool.parallel_for(pieces(pool, m), [&](int piece) {
            for (int n = piece * rows; n < std::min(m.rows, (piece + 1) * rows); n += TILE_ROWS)
                pack_tile((uint8_t*)m.at(n), m, n, source);
        });
    });
}

}  // namespace fish
