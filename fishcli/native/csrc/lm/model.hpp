// The language model as native_lm.py describes it: it declares the same structures.
#pragma once
#include <cstdint>

#include "ops/embedding.hpp"
#include "ops/matrix.hpp"
#include "ops/sample.hpp"

namespace fish {

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

struct Model {
    Stack slow, fast;
    Embedding embeddings, codebook_embeddings, fast_embeddings;
    Matrix output, fast_project_in, fast_output;
    const float *norm, *fast_norm;
    int64_t semantic;  // the token of code 0
    int32_t codebooks, codebook_size, codes, window;
};

// Keys and values, each (layers, kv_heads, positions, head_dim).
struct KVCache {
    float* keys;
    float* values;
    int64_t positions;
};

// The input of a decode step for B sequences: `Batch` in runners/base.py.
struct Batch {
    const int64_t* columns;        // (B, K + 1)
    const int64_t* slots;          // (B,)
    const int64_t* positions;      // (B,)
    const int64_t* history;        // (B, K, window)
    const SamplingParams* params;  // (B,)
    const float* uniforms;         // (B, K)
    int32_t count;
};

static_assert(sizeof(void*) != 8 || (sizeof(Block) == 144 && sizeof(Stack) == 56 && sizeof(Batch) == 56), "no padding");

}  // namespace fish
