// The step of the language model on a CPU, and the prefill before it. Called by `native.py` through ctypes.
#include "ops/sampling.hpp"
#include "lm/transformer.hpp"

using namespace fish;

// Embeddings (rows, cols), one after another; F32 or BF16.
struct Table {
    const uint8_t* data;
    int64_t rows;
    int32_t cols;
    Format format;
};

struct Model {
    Stack slow, fast;
    Table embeddings, codebook_embeddings, fast_embeddings;
    Matrix output, fast_project_in, fast_output;
    const float *norm, *fast_norm;
    int64_t semantic;
    int32_t codebooks, codebook_size, codes, window;
};

struct Rows {
    const int64_t *columns, *slots, *positions, *history;  // (B, K + 1), (B,), (B,), (B, K, window)
    const Knobs* knobs;                            // (B,)
    const float* noise;                            // (B, K)
    int32_t count;
};

// Adds row `index` of a table to out.
static void add(const Table& table, int64_t index, float* out) {
    const uint8_t* p = table.data + index * table.cols * (table.format == F32 ? 4 : 2);
    for (int i = 0; i < table.cols; i++) {
        uint32_t bits = table.format == F32 ? load<uint32_t>(p + 4 * i) : (uint32_t)load<uint16_t>(p + 2 * i) << 16;
        out[i] += load<float>(&bits);
    }
}

static void shape(Activations& a, const Stack& s, int columns) {
    const Format format = s.blocks[0].wqkv.format;  // as all matrices of a stack
    a.x.shape(columns, s.dim), a.normed.shape(columns, s.dim, format);
    a.queries.shape(columns, s.heads * s.head_dim), a.attended.shape(columns, s.heads * s.head_dim, format);
    a.gates.shape(columns, 2 * s.inner), a.inner.shape(columns, s.inner, format);
}

// Several threads may call it; one works at a time.
class Runner {
public:
    Runner(const Model& model, Pool& pool) : pool(pool), m(model) {}

    // columns (count, K + 1) of one row at the positions from `start` on: their keys and values, and hidden (count, dim)
    // if it is wanted.
    Status prefill(const int64_t* columns, int count, const KVCache& cache, int64_t slot, int start, float* hidden) {
        if (!known(columns, count)) return BAD_COLUMN;
        if (!within(cache, slot, start) || !within(cache, slot, (int64_t)start + count - 1)) return BAD_POSITION;
        std::lock_guard<std::mutex> alone(working);
        where.clear();
        for (int i = 0; i < count; i++) where.push_back({slot, start + i});
        shape(slow, m.slow, count);
        pool.run([&] {
            embed(columns, count);
            Forward(pool, m.slow, cache, slow, where).run(hidden);
        });
        for (int c = 0; hidden && c < count; c++) std::copy_n(slow.x[c], m.slow.dim, hidden + (size_t)c * m.slow.dim);
        return DONE;
    }

    // As `step` in step.py: writes columns (B, K + 1) and choices (B, K).
    Status step(const Rows& rows, const KVCache& cache, int64_t* columns, int64_t* choices) {
        const int K = m.codebooks, count = rows.count;
        if (!known(rows.columns, count)) return BAD_COLUMN;
        for (int b = 0; b < count; b++)
            if (!within(cache, rows.slots[b], rows.positions[b])) return BAD_POSITION;
        const int64_t* end = rows.history + (size_t)count * K * m.window;
        if (std::any_of(rows.history, end, [](int64_t id) { return id < 0; })) return BAD_HISTORY;
        std::lock_guard<std::mutex> alone(working);
        where.clear(), first.clear();
        for (int b = 0; b < count; b++) {
            where.push_back({rows.slots[b], (int)rows.positions[b]});
            first.push_back({(int64_t)b * K, 0}), first.push_back({(int64_t)b * K, 1});
        }
        shape(slow, m.slow, count), shape(fast, m.fast, 2 * count);
        const int most = std::max(m.output.rows, m.fast_output.rows);
        logits.shape(count, most);
        samplers.resize(std::max(samplers.size(), (size_t)count));
        for (Sampler& sampler : samplers) sampler.reserve(most);
        const KVCache fast_past = room(count);
        pool.run([&] {
            embed(rows.columns, count);
            Forward(pool, m.slow, cache, slow, where).run();
            choose(slow, m.norm, m.slow, m.output, 1, 0, rows, 0, columns, choices);
            enter(count, columns);
            // The first two places are known at once, and one pass over the weights serves both.
            if (K > 1) Forward(pool, m.fast, fast_past, fast, first).run();
            for (int place = 1; place < K; place++) {
                if (place > 1) {
                    pool.share(count, [&](int b) {
                        follow(b, place, columns, fast.x[b]);
                        where[b] = {(int64_t)b * K, place};
                    });
                    Forward(pool, m.fast, fast_past, fast, where).run();
                }
                const int stride = place > 1 ? 1 : 2;
                choose(fast, m.fast_norm, m.fast, m.fast_output, stride, stride - 1, rows, place, columns, choices);
            }
        });
        return DONE;
    }

    Pool& pool;

private:
    // Whether the embeddings have all tokens and codes of columns (count, K + 1).
    bool known(const int64_t* columns, int count) const {
        auto below = [](int64_t id, int64_t end) { return id >= 0 && id < end; };
        for (int c = 0; c < count; c++, columns += m.codebooks + 1) {
            if (!below(columns[0], m.embeddings.rows)) return false;
            for (int i = 1; i <= m.codebooks; i++)
                if (!below(columns[i], m.codebook_size)) return false;
        }
        return true;
    }

    // Whether a position of a slot is in the KV cache, and in the table of rotations.
    bool within(const KVCache& cache, int64_t slot, int64_t position) const {
        return slot >= 0 && position >= 0 && position < m.slow.positions && slot < cache.positions - position;
    }

    void embed(const int64_t* columns, int count) {
        pool.share(count, [&](int c) {
            const int64_t* column = columns + (size_t)c * (m.codebooks + 1);
            float* x = slow.x[c];
            std::fill(x, x + m.slow.dim, 0.f);
            if (column[0] >= m.semantic && column[0] < m.semantic + m.codebook_size)
                for (int i = 0; i < m.codebooks; i++)
                    add(m.codebook_embeddings, column[1 + i] + (int64_t)i * m.codebook_size, x);
            add(m.embeddings, column[0], x);
        });
    }

    // What the fast transformer is first given: the hidden state, and what was chosen.
    void enter(int count, const int64_t* columns) {
        if (m.codebooks == 1) return;
        if (m.fast_project_in.data) {
            pool.share(count, [&](int b) { slow.x.round(b, m.fast_project_in.format); });
            multiply(pool, m.fast_project_in, slow.x, count, [&](int n, int b, int from, const float* out) {
                for (int c = 0; c < b; c++)
                    for (int r = 0; r < 4; r++) fast.x[2 * (from + c)][n + r] = out[4 * c + r] + m.fast_project_in.bias[n + r];
            });
        }
        pool.share(count, [&](int b) {
            if (!m.fast_project_in.data) std::copy(slow.x[b], slow.x[b] + m.slow.dim, fast.x[2 * b]);
            follow(b, 1, columns, fast.x[2 * b + 1]);
        });
    }

    // The input at a place of the fast transformer: the embedding of the code before it.
    void follow(int b, int place, const int64_t* columns, float* x) {
        std::fill(x, x + m.fast.dim, 0.f);
        add(m.fast_embeddings, columns[b * (m.codebooks + 1) + place], x);
    }

    // Row b's choice at a place, from the hidden state in column b * stride + offset.
    void choose(Activations& a, const float* weight, const Stack& s, const Matrix& output, int stride, int offset,
                const Rows& rows, int place, int64_t* columns, int64_t* choices) {
        const int K = m.codebooks;
        pool.share(rows.count, [&](int b) {
            norm(a.x[b * stride + offset], weight, s.dim, s.eps, a.normed[b]);
            a.normed.round(b, output.format);
        });
        multiply(pool, output, a.normed, rows.count, into(logits));
        pool.share(rows.count, [&](int b) {
            const int64_t* history = rows.history + (size_t)(b * K + place) * m.window;
            const float noise = rows.noise[b * K + place];
            const int choice = samplers[b].choose(logits[b], output.rows, history, m.window, rows.knobs[b], noise);
            const int code = choice >= 0 && choice < m.codes ? choice : 0;
            choices[b * K + place] = choice;
            columns[b * (K + 1) + 1 + place] = code;
            if (place == 0) columns[b * (K + 1)] = m.semantic + code;
        });
    }

    KVCache room(int rows) {
        const size_t size = (size_t)m.fast.layers * rows * m.fast.kv_heads * m.codebooks * m.fast.head_dim;
        keys.resize(size), values.resize(size);
        return {keys.data(), values.data(), (int64_t)rows * m.codebooks};
    }

    const Model m;
    std::mutex working;
    std::vector<Sampler> samplers;
    std::vector<Column> where, first;
    Activations slow, fast;
    Buffer logits;
    std::vector<float> keys, values;  // of the fast transformer
};

extern "C" {
int64_t fish_lm_packed_size(int format, int rows, int cols) {
    return (rows + TILE_ROWS - 1) / TILE_ROWS * tile_bytes((Format)format, cols);
}

// Lays out a weight in a matrix whose `data` has room for it.
Status fish_lm_pack(Pool* pool, Matrix* m, const Source* source) {
    m->tile = (int)tile_bytes(m->format, m->cols);
    const int height = piece_height(*pool, *m);
    return guarded(*pool, [&] {
        pool->run([&] {
            pool->share((m->rows + height - 1) / height, [&](int piece) {
                for (int n = piece * height; n < std::min(m->rows, (piece + 1) * height); n += TILE_ROWS)
                    pack((uint8_t*)m->at(n), *m, n, *source);
            });
        });
        return DONE;
    });
}

Runner* fish_lm_new(const Model* model, Pool* pool) {
    return made([&] { return new Runner(*model, *pool); });
}
void fish_lm_delete(Runner* runner) { delete runner; }
Status fish_lm_prefill(Runner* r, const int64_t* columns, int count, const KVCache* cache, int64_t slot, int start,
                       float* hidden) {
    return guarded(r->pool, [&] { return r->prefill(columns, count, *cache, slot, start, hidden); });
}
Status fish_lm_step(Runner* r, const Rows* rows, const KVCache* cache, int64_t* columns, int64_t* choices) {
    return guarded(r->pool, [&] { return r->step(*rows, *cache, columns, choices); });
}
}
