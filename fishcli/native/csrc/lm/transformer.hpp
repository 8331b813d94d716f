// The forward pass of a stack of transformer blocks over columns, each of which is a position of some row.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/attention.hpp"
#include "base/pool.hpp"
#include "ops/product.hpp"

namespace fish {

// What `native.py` passes; it declares the same structures.
struct Block {
    const float* attention_norm;
    Matrix wqkv, wo;
    const float* ffn_norm;
    Matrix w13, w2;
};

struct Stack {
    int32_t layers, dim, heads, kv_heads, head_dim, inner;
    float eps;
    const Block* blocks;
    const float* rotation;  // (positions, head_dim / 2, 2): cosines and sines
    int32_t positions;
};

// Keys and values, each (layers, kv_heads, positions, head_dim).
struct KVCache {
    float* keys;
    float* values;
    int64_t positions;
};

// One column to compute: the first position of its sequence's slot in the KV cache, and its position in the sequence.
struct Column {
    int64_t slot;
    int32_t position;
};

struct Activations {
    Buffer x, normed, queries, attended, gates, inner;
};

constexpr int PIECE = 64 << 10;      // bytes of weights that a thread takes at once: little enough to share evenly
constexpr int EXPECTED = 128 << 10;  // bytes that a thread fetches while it waits, at most: they fit into its cache

// The products of one tile, from row n on, with at most B columns.
template <Format F, int B, class Use>
void tile(const Tile& tile, int n, Buffer& x, int first, int columns, Use use) {
    if constexpr (B > 1)
        if (columns < B) return fish::tile<F, B - 1>(tile, n, x, first, columns, use);
    float out[4 * B];
    Product<F, B>::run(tile, x, first, out);
    use(n, B, first, out);
}

// Columns are taken in even shares of at most MOST: 8 are 4 and 4, not 6 and 2. Two shares go over the tiles together:
// the second finds a tile in the first cache, and gives the memory time to bring the next ones. More of them would read
// more of their columns from the second cache, so each goes over all tiles of a piece, which lie there too.
template <Format F, class Use> void tiles(const Matrix& m, int start, int end, Buffer& x, int columns, Use use) {
    const int shares = (columns + MOST - 1) / MOST, parts = shares == 2 ? 2 : 1;
    for (int share = 0; share < shares; share += parts)
        for (int n = start; n < end; n += TILE_ROWS)
            for (int part = 0; part < parts; part++) {
                const int first = (share + part) * columns / shares, next = (share + part + 1) * columns / shares;
                tile<F, MOST>({m.at(n), m.tile, m.cols, part, parts}, n, x, first, next - first, use);
            }
}

// How many rows of a matrix a thread takes at once.
inline int piece_height(const Pool& pool, const Matrix& m) {
    const int most = (m.rows + 2 * pool.count() - 1) / (2 * pool.count());
    return std::max(1, std::min(most / TILE_ROWS, PIECE / m.tile)) * TILE_ROWS;
}

// Have the calling thread fetch its first rows of a matrix whenever it waits before it is multiplied.
inline void expect(Pool& pool, const Matrix& m) {
    const int height = piece_height(pool, m), start = pool.first((m.rows + height - 1) / height) * height;
    pool.expect(m.at(start), std::min<size_t>(EXPECTED, m.at(m.rows - 1) + m.tile - m.at(start)));
}

// Calls `use(first row, columns, first column, out)` with tiles of m @ x, out[4 * column + row]. A tile has four rows,
// zeros where the matrix has no more.
template <class Use> void multiply(Pool& pool, const Matrix& m, Buffer& x, int columns, Use use) {
    const int height = piece_height(pool, m);
    pool.share((m.rows + height - 1) / height, [&](int piece) {
        const int start = piece * height, end = std::min(m.rows, start + height);
        switch (m.format) {
            case F32: return tiles<F32>(m, start, end, x, columns, use);
            case BF16: return tiles<BF16>(m, start, end, x, columns, use);
            case I8: return tiles<I8>(m, start, end, x, columns, use);
            case I4: return tiles<I4>(m, start, end, x, columns, use);
        }
    });
}

// RMSNorm (arXiv:1910.07467).
inline void norm(const float* x, const float* weight, int n, float eps, float* out) {
    const float scale = 1.f / std::sqrt(dot(x, x, n) / n + eps);
    for (int i = 0; i < n; i++) out[i] = x[i] * scale * weight[i];
}

// SwiGLU (arXiv:2002.05202): what the first half of `in` (2 n,) lets through of the second.
inline void swiglu(const float* in, int n, float* out) {
    int i = 0;
    for (; i + W <= n; i += W) {
        const V gate = load<V>(in + i);
        store(out + i, gate / (1.f + exp(-gate)) * load<V>(in + n + i));
    }
    for (; i < n; i++) out[i] = in[i] / (1.f + std::exp(-in[i])) * in[n + i];
}

// Puts the tiles of a product into a buffer.
inline auto into(Buffer& to) {
    return [&to](int n, int b, int first, const float* out) {
        for (int c = 0; c < b; c++) std::copy_n(out + 4 * c, 4, to[first + c] + n);
    };
}

class Forward {
public:
    Forward(Pool& pool, const Stack& stack, const KVCache& cache, Activations& a, const std::vector<Column>& columns)
        : pool(pool), s(stack), cache(cache), a(a), columns(columns), count((int)columns.size()) {}

    // Every thread calls this: a.x (columns, dim) goes through the blocks. Where nobody needs what comes out of the last
    // one, its keys and values are all that is computed of it.
    void run(bool to_the_end = true) {
        for (int layer = 0; layer < s.layers; layer++) {
            const Block& block = s.blocks[layer];
            normalise(block.attention_norm, block.wqkv);
            expect(pool, block.wo);
            attention_inputs(layer, block);
            if (!to_the_end && layer + 1 == s.layers) return;
            attend(layer);
            pool.share(count, [&](int c) { a.attended.round(c, block.wo.format); });
            expect(pool, block.w13);
            residual(block.wo, a.attended);
            normalise(block.ffn_norm, block.w13);
            expect(pool, block.w2);
            multiply(pool, block.w13, a.normed, count, into(a.gates));
            pool.share(count, [&](int c) {
                swiglu(a.gates[c], s.inner, a.inner[c]);
                a.inner.round(c, block.w2.format);
            });
            if (layer + 1 < s.layers) expect(pool, s.blocks[layer + 1].wqkv);
            residual(block.w2, a.inner);
        }
    }

private:
    // The input of `next`.
    void normalise(const float* weight, const Matrix& next) {
        pool.share(count, [&](int c) {
            norm(a.x[c], weight, s.dim, s.eps, a.normed[c]);
            a.normed.round(c, next.format);
        });
    }

    // Queries, rotated, into a buffer; keys, rotated, and values into the past.
    void attention_inputs(int layer, const Block& block) {
        const int queries = s.heads * s.head_dim, keys = queries + s.kv_heads * s.head_dim;
        multiply(pool, block.wqkv, a.normed, count, [&](int start, int b, int first, const float* out) {
            for (int c = 0; c < b; c++)
                for (int i = 0; i < 4; i += 2) {
                    const int n = start + i;
                    float even = out[4 * c + i], odd = out[4 * c + i + 1];
                    if (block.wqkv.bias) even += block.wqkv.bias[n], odd += block.wqkv.bias[n + 1];
                    const Column& column = columns[first + c];
                    if (n < keys) rotate(even, odd, column.position, n % s.head_dim);
                    float* to = n < queries ? a.queries[first + c] + n
                                : n < keys  ? place(cache.keys, layer, column, n - queries)
                                            : place(cache.values, layer, column, n - keys);
                    to[0] = even, to[1] = odd;
                }
        });
    }

    void rotate(float& even, float& odd, int position, int i) const {
        const float* turn = s.rotation + ((size_t)position * s.head_dim + i);
        const float x = fma(even, turn[0], -(odd * turn[1]));
        odd = fma(odd, turn[0], even * turn[1]);
        even = x;
    }

    // Where channel n of all key/value heads of a column lies.
    float* place(float* pasts, int layer, const Column& column, int n) const {
        return head(pasts, layer, column.slot, n / s.head_dim) + (size_t)column.position * s.head_dim + n % s.head_dim;
    }

    float* head(float* pasts, int layer, int64_t slot, int kv_head) const {
        return pasts + (((size_t)layer * s.kv_heads + kv_head) * cache.positions + slot) * s.head_dim;
    }

    // The query heads that share a key/value head are taken together, if there is work enough for all threads then.
    void attend(int layer) {
        const int group = s.heads / s.kv_heads, d = s.head_dim;
        int taken = group;
        while (taken % 2 == 0 && (taken > MOST_QUERIES || count * s.heads / taken < 2 * pool.count())) taken /= 2;
        if (taken > MOST_QUERIES) taken = 1;
        const int pieces = s.heads / taken;
        pool.share(count * pieces, [&](int piece) {
            const int c = piece / pieces, h = piece % pieces * taken;
            const float* keys = head(cache.keys, layer, columns[c].slot, h / group);
            const float* values = head(cache.values, layer, columns[c].slot, h / group);
            attention(a.queries[c] + h * d, taken, keys, values, columns[c].position + 1, d, a.attended[c] + h * d);
        });
    }

    void residual(const Matrix& m, Buffer& from) {
        multiply(pool, m, from, count, [&](int n, int b, int first, const float* out) {
            for (int c = 0; c < b; c++)
                for (int r = 0; r < 4; r++) a.x[first + c][n + r] += out[4 * c + r];
        });
    }

    Pool& pool;
    const Stack& s;
    const KVCache& cache;
    Activations& a;
    const std::vector<Column>& columns;
    const int count;
};

}  // namespace fish
