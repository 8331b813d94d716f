// The language model's functions that native_lm.py calls.
#include "lm/language_model.hpp"

using namespace fish;

extern "C" {
int64_t fish_lm_packed_size(int format, int rows, int cols) {
    return (rows + TILE_ROWS - 1) / TILE_ROWS * tile_bytes((Format)format, cols);
}

// Lay out a weight in a matrix whose `data` has room for it.
Status fish_lm_pack(ThreadPool* pool, Matrix* m, const WeightSource* source) {
    m->tile = (int32_t)tile_bytes(m->format, m->cols);
    return guarded(*pool, [&] { return pack(*pool, *m, *source), DONE; });
}

LanguageModel* fish_lm_new(const Model* model, ThreadPool* pool) {
    return made([&] { return new LanguageModel(*model, *pool); });
}
void fish_lm_delete(LanguageModel* lm) { delete lm; }

Status fish_lm_prefill(LanguageModel* lm, const int64_t* columns, int count, const KVCache* cache, int64_t slot,
                       int start, float* hidden) {
    return guarded(lm->pool, [&] { return lm->prefill(columns, count, *cache, slot, start, hidden); });
}

Status fish_lm_step(LanguageModel* lm, const Batch* batch, const KVCache* cache, int64_t* columns, int64_t* choices) {
    return guarded(lm->pool, [&] { return lm->step(*batch, *cache, columns, choices); });
}
}
