// Prefill and decode step of the language model: a slow transformer over positions, a fast one over the codes of one.
#pragma once
#include <algorithm>
#include <mutex>
#include <vector>

#include "base/status.hpp"
#include "lm/transformer.hpp"

namespace fish {

// Several threads may call it; one works at a time.
class LanguageModel {
public:
    LanguageModel(const Model& model, ThreadPool& pool) : pool(pool), m(model) {}

    // Write the keys and values of columns (count, K + 1) of one sequence at the positions from `start` on, and their
    // hidden states (count, dim) unless `hidden` is null.
    Status prefill(const int64_t* columns, int count, const KVCache& cache, int64_t slot, int start, float* hidden) {
        if (!known(columns, count)) return BAD_COLUMN;
        if (!within(cache, slot, start) || !within(cache, slot, (int64_t)start + count - 1)) return BAD_POSITION;
        std::lock_guard<std::mutex> alone(working);
        slow_columns.clear();
        for (int i = 0; i < count; i++) slow_columns.push_back({slot, start + i});
        slow.resize(m.slow, count);
        pool.run([&] {
            embed(columns, count);
            Transformer(pool, m.slow, cache, slow, slow_columns).run(!hidden);
        });
        for (int c = 0; hidden && c < count; c++) std::copy_n(slow.x[c], m.slow.dim, hidden + (size_t)c * m.slow.dim);
        return DONE;
    }

    // Feed the last column of each sequence and sample its next frame: columns (B, K + 1) and choices (B, K).
    Status step(const Batch& batch, const KVCache& cache, int64_t* columns, int64_t* choices) {
        if (const Status status = check(batch, cache)) return status;
        std::lock_guard<std::mutex> alone(working);
        allocate(batch);
        const KVCache fast_cache{fast_keys.data(), fast_values.data(), (int64_t)batch.count * m.codebooks};
        pool.run([&] {
            embed(batch.columns, batch.count);
            Transformer(pool, m.slow, cache, slow, slow_columns).run();
            sample(slow, m.norm, m.slow, m.output, 1, 0, batch, 0, columns, choices);
            if (m.codebooks > 1) sample_codes(batch, fast_cache, columns, choices);
        });
        return DONE;
    }

    ThreadPool& pool;

private:
    // Whether all tokens and codes of columns (count, K + 1) have embeddings.
    bool known(const int64_t* columns, int count) const {
        auto below = [](int64_t id, int64_t end) { return id >= 0 && id < end; };
        for (int c = 0; c < count; c++, columns += m.codebooks + 1) {
            if (!below(columns[0], m.embeddings.rows)) return false;
            for (int i = 1; i <= m.codebooks; i++)
                if (!below(columns[i], m.codebook_size)) return false;
        }
        return true;
    }

    // Whether a position of a slot is in the KV cache and in the table of rotations.
    bool within(const KVCache& cache, int64_t slot, int64_t position) const {
        return slot >= 0 && position >= 0 && position < m.slow.positions && slot < cache.positions - position;
    }

    Status check(const Batch& batch, const KVCache& cache) const {
        if (!known(batch.columns, batch.count)) return BAD_COLUMN;
        for (int b = 0; b < batch.count; b++)
            if (!within(cache, batch.slots[b], batch.positions[b])) return BAD_POSITION;
        const int64_t* end = batch.history + (size_t)batch.count * m.codebooks * m.window;
        return std::any_of(batch.history, end, [](int64_t id) { return id < 0; }) ? BAD_HISTORY : DONE;
    }

    // Everything that the threads need in a step. A sequence's slot in the fast transformer's cache has K positions.
    void allocate(const Batch& batch) {
        const int count = batch.count, K = m.codebooks, most = std::max(m.output.rows, m.fast_output.rows);
        slow_columns.clear(), fast_columns.clear(), first_columns.clear();
        for (int b = 0; b < count; b++) {
            const int64_t fast_slot = (int64_t)b * K;
            slow_columns.push_back({batch.slots[b], (int32_t)batch.positions[b]});
            fast_columns.push_back({fast_slot, 0});
            first_columns.push_back({fast_slot, 0}), first_columns.push_back({fast_slot, 1});
        }
        slow.resize(m.slow, count), fast.resize(m.fast, 2 * count);
        logits.resize(count, most);
        samplers.resize(std::max(samplers.size(), (size_t)count));
        for (Sampler& sampler : samplers) sampler.reserve(most);
        const size_t size = (size_t)m.fast.layers * count * m.fast.kv_heads * K * m.fast.head_dim;
        fast_keys.resize(size), fast_values.resize(size);
    }

    void embed(const int64_t* columns, int count) {
        pool.parallel_for(count, [&](int c) {
            const int64_t* column = columns + (size_t)c * (m.codebooks + 1);
            float* x = slow.x[c];
            std::fill(x, x + m.slow.dim, 0.f);
            if (column[0] >= m.semantic && column[0] < m.semantic + m.codebook_size)
                for (int i = 0; i < m.codebooks; i++)
                    m.codebook_embeddings.add_row(column[1 + i] + (int64_t)i * m.codebook_size, x);
            m.embeddings.add_row(column[0], x);
        });
    }

    // The codes of the codebooks after the first. The fast transformer's first two positions, the hidden state and the
    // first code, are known at once: one pass over the weights serves both.
    void sample_codes(const Batch& batch, const KVCache& cache, int64_t* columns, int64_t* choices) {
        const int count = batch.count;
        project_in(count);
        pool.parallel_for(count, [&](int b) { embed_code(b, 1, columns, fast.x[2 * b + 1]); });
        Transformer(pool, m.fast, cache, fast, first_columns).run();
        sample(fast, m.fast_norm, m.fast, m.fast_output, 2, 1, batch, 1, columns, choices);
        for (int codebook = 2; codebook < m.codebooks; codebook++) {
            pool.parallel_for(count, [&](int b) {
                embed_code(b, codebook, columns, fast.x[b]);
                fast_columns[b].position = codebook;
            });
            Transformer(pool, m.fast, cache, fast, fast_columns).run();
            sample(fast, m.fast_norm, m.fast, m.fast_output, 1, 0, batch, codebook, columns, choices);
        }
    }

    // The hidden states of the slow transformer, as the first position of the fast one.
    void project_in(int count) {
        const Matrix& project = m.fast_project_in;
        if (!project.data)
            return pool.parallel_for(count, [&](int b) { std::copy_n(slow.x[b], m.slow.dim, fast.x[2 * b]); });
        pool.parallel_for(count, [&](int b) { slow.x.quantize(b, project.format); });
        matmul(pool, project, slow.x, count, [&](int n, int width, int first, const float* out) {
            for (int c = 0; c < width; c++)
                for (int r = 0; r < 4; r++) fast.x[2 * (first + c)][n + r] = out[4 * c + r] + project.bias[n + r];
        });
    }

    // The input of the fast transformer at a position after the first: the embedding of the code before it.
    void embed_code(int b, int position, const int64_t* columns, float* x) {
        std::fill(x, x + m.fast.dim, 0.f);
        m.fast_embeddings.add_row(columns[b * (m.codebooks + 1) + position], x);
    }

    // Sample a codebook of each sequence from the hidden state in column b * stride + offset.
    void sample(Workspace& a, const float* norm, const Stack& s, const Matrix& output, int stride, int offset,
                const Batch& batch, int codebook, int64_t* columns, int64_t* choices) {
        pool.parallel_for(batch.count, [&](int b) {
            rms_norm(a.x[b * stride + offset], norm, s.dim, s.eps, a.normed[b]);
            a.normed.quantize(b, output.format);
        });
        matmul(pool, output, a.normed, batch.count, write_to(logits));
        pool.parallel_for(batch.count, [&](int b) {
            const int at = b * m.codebooks + codebook;
            const int64_t* history = batch.history + (size_t)at * m.window;
            const int choice = samplers[b].sample(logits[b], output.rows, history, m.window, batch.params[b],
                                                  batch.uniforms[at]);
            const int code = choice >= 0 && choice < m.codes ? choice : 0;
            int64_t* column = columns + b * (m.codebooks + 1);
            choices[at] = choice;
            column[1 + codebook] = code;
            if (codebook == 0) column[0] = m.semantic + code;
        });
    }

    const Model m;
    std::mutex working;
    std::vector<Sampler> samplers;
    std::vector<Column> slow_columns, fast_columns, first_columns;
    Workspace slow, fast;
    Activations logits;
    std::vector<float> fast_keys, fast_values;
};

}  // namespace fish
