// The forward pass of a stack of transformer blocks over columns, each of which is one position of a sequence.
#pragma once
#include <vector>

#include "lm/model.hpp"
#include "ops/attention.hpp"
#include "ops/matmul.hpp"
#include "ops/rms_norm.hpp"
#include "ops/rotary.hpp"
#include "ops/swiglu.hpp"

namespace fish {

// One column to compute: where its sequence's slot starts in the KV cache, and its position in the sequence.
struct Column {
    int64_t slot;
    int32_t position;
};

// The activations of a stack, allocated before a pass.
struct Workspace {
    Activations x, normed, queries, attended, gates, inner;

    void resize(const Stack& s, int columns) {
        const Format format = s.blocks[0].wqkv.format;  // all matrices of a stack have one format
        x.resize(columns, s.dim), normed.resize(columns, s.dim, format);
        queries.resize(columns, s.heads * s.head_dim), attended.resize(columns, s.heads * s.head_dim, format);
        gates.resize(columns, 2 * s.inner), inner.resize(columns, s.inner, format);
    }
};

class Transformer {
public:
    Transformer(ThreadPool& pool, const Stack& stack, const KVCache& cache, Workspace& workspace,
                const std::vector<Column>& columns)
        : pool(pool), s(stack), cache(cache), a(workspace), columns(columns), count((int)columns.size()) {}

    // Every thread calls this: a.x (columns, dim) goes through the blocks. With `keys_only`, nobody reads the result,
    // and the last block computes its keys and values alone.
    void run(bool keys_only = false) {
        for (int layer = 0; layer < s.layers; layer++) {
            const Block& block = s.blocks[layer];
            normalise(block.attention_norm, block.wqkv);
            prefetch(pool, block.wo);
            project_qkv(layer, block);
            if (keys_only && layer + 1 == s.layers) return;
            attend(layer);
            pool.parallel_for(count, [&](int c) { a.attended.quantize(c, block.wo.format); });
            prefetch(pool, block.w13);
            matmul(pool, block.wo, a.attended, count, add_to(a.x));
            feed_forward(layer, block);
        }
    }

private:
    void feed_forward(int layer, const Block& block) {
        normalise(block.ffn_norm, block.w13);
        prefetch(pool, block.w2);
        matmul(pool, block.w13, a.normed, count, write_to(a.gates));
        pool.parallel_for(count, [&](int c) {
            swiglu(a.gates[c], s.inner, a.inner[c]);
            a.inner.quantize(c, block.w2.format);
        });
        if (layer + 1 < s.layers) prefetch(pool, s.blocks[layer + 1].wqkv);
        matmul(pool, block.w2, a.inner, count, add_to(a.x));
    }

    // The input of a product with `next`.
    void normalise(const float* weight, const Matrix& next) {
        pool.parallel_for(count, [&](int c) {
            rms_norm(a.x[c], weight, s.dim, s.eps, a.normed[c]);
            a.normed.quantize(c, next.format);
        });
    }

    // Rotated queries to the workspace; rotated keys and values to the KV cache.
    void project_qkv(int layer, const Block& block) {
        matmul(pool, block.wqkv, a.normed, count, [&](int start, int width, int first, const float* out) {
            for (int c = 0; c < width; c++)
                for (int i = 0; i < 4; i += 2) store_pair(layer, block.wqkv, first + c, start + i, out + 4 * c + i);
        });
    }

    // Outputs n and n + 1 of wqkv for a column.
    void store_pair(int layer, const Matrix& wqkv, int c, int n, const float* out) {
        const int queries = s.heads * s.head_dim, keys = queries + s.kv_heads * s.head_dim;
        const Column& column = columns[c];
        float even = out[0], odd = out[1];
        if (wqkv.bias) even += wqkv.bias[n], odd += wqkv.bias[n + 1];
        if (n < keys) rotate(s.rotation + (size_t)column.position * s.head_dim + n % s.head_dim, even, odd);
        float* to = n < queries ? a.queries[c] + n
                    : n < keys  ? at_position(cache.keys, layer, column, n - queries)
                                : at_position(cache.values, layer, column, n - keys);
        to[0] = even, to[1] = odd;
    }

    // Channel n of all key/value heads of a column.
    float* at_position(float* tensor, int layer, const Column& column, int n) const {
        float* slot = at_slot(tensor, layer, column.slot, n / s.head_dim);
        return slot + (size_t)column.position * s.head_dim + n % s.head_dim;
    }

    float* at_slot(float* tensor, int layer, int64_t slot, int kv_head) const {
        return tensor + (((size_t)layer * s.kv_heads + kv_head) * cache.positions + slot) * s.head_dim;
    }

    // Query heads that share a key/value head are computed together, as long as that leaves work for all threads.
    void attend(int layer) {
        const int group = s.heads / s.kv_heads, d = s.head_dim, taken = heads_at_once(group), pieces = s.heads / taken;
        pool.parallel_for(count * pieces, [&](int piece) {
            const int c = piece / pieces, h = piece % pieces * taken;
            const float* keys = at_slot(cache.keys, layer, columns[c].slot, h / group);
            const float* values = at_slot(cache.values, layer, columns[c].slot, h / group);
            attention(a.queries[c] + h * d, taken, keys, values, columns[c].position + 1, d, a.attended[c] + h * d);
        });
    }

    int heads_at_once(int group) const {
        int taken = group;
        while (taken % 2 == 0 && (taken > MAX_QUERIES || count * s.heads / taken < 2 * pool.threads())) taken /= 2;
        return taken > MAX_QUERIES ? 1 : taken;
    }

    ThreadPool& pool;
    const Stack& s;
    const KVCache& cache;
    Workspace& a;
    const std::vector<Column>& columns;
    const int count;
};

}  // namespace fish
