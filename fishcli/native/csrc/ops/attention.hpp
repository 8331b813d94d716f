// Attention of the queries of one position over the positions up to it, with an online softmax (arXiv:1805.02867).
#pragma once
#include <algorithm>
#include <cmath>

#include "base/simd.hpp"

namespace fish {

constexpr int MAX_QUERIES = 16;  // in a call
constexpr int KEYS = 64;         // in a block: it stays in the L1 cache while all queries go over it

// The products of a query (d,) with n keys (n, d), four at a time; `out` has room for a multiple of four.
inline void attention_scores(const float* query, const float* keys, int n, int d, float* out) {
    for (int i = 0; i < n; i += 4) {
        const float* k[4];
        for (int r = 0; r < 4; r++) k[r] = keys + (size_t)std::min(i + r, n - 1) * d;
        V total[4] = {};
        int j = 0;
        for (; j + W <= d; j += W)
            for (int r = 0; r < 4; r++) total[r] = fma(load<V>(query + j), load<V>(k[r] + j), total[r]);
        sums(total[0], total[1], total[2], total[3], out + i);
        for (; j < d; j++)
            for (int r = 0; r < 4; r++) out[i + r] = fma(query[j], k[r][j], out[i + r]);
    }
}

// out (d,) = decay * out + weights (n,) @ values (n, d), COUNT vectors of it at a time from channel j on. Returns the
// first channel that is left.
template <int COUNT>
inline int add_weighted(const float* weights, const float* values, int n, int d, float decay, float* out, int j) {
    for (; j + COUNT * W <= d; j += COUNT * W) {
        V even[COUNT], odd[COUNT] = {};  // two sums, since each addition waits for the one before it
        for (int c = 0; c < COUNT; c++) even[c] = decay * load<V>(out + j + c * W);
        int i = 0;
        for (; i + 2 <= n; i += 2)
            for (int c = 0; c < COUNT; c++) {
                const float* at = values + (size_t)i * d + j + c * W;
                even[c] = fma(load<V>(at), weights[i], even[c]);
                odd[c] = fma(load<V>(at + d), weights[i + 1], odd[c]);
            }
        for (int c = 0; c < COUNT; c++) {
            if (i < n) even[c] = fma(load<V>(values + (size_t)i * d + j + c * W), weights[i], even[c]);
            store(out + j + c * W, even[c] + odd[c]);
        }
    }
    return j;
}

// The state of a softmax over the scores so far: their maximum, and the sum of e^(score - maximum).
struct OnlineSoftmax {
    float maximum = -INFINITY, total = 0;

    // Replace n <= KEYS products in p by their weights. Returns the factor for the weights before.
    float update(float* p, int n, float scale) {
        std::fill(p + n, p + KEYS, -INFINITY);
        V largest = splat(maximum), weights = {};
        for (int i = 0; i < KEYS; i += W) {
            const V score = load<V>(p + i) * scale;
            store(p + i, score);
            largest = score > largest ? score : largest;
        }
        float peak = largest[0];
        for (int i = 1; i < W; i++) peak = std::max(peak, largest[i]);
        for (int i = 0; i < KEYS; i += W) {
            const V score = load<V>(p + i), weight = score == -INFINITY ? V{} : exp(score - peak);
            store(p + i, weight);
            weights += weight;
        }
        const float decay = std::exp(maximum - peak);
        maximum = peak, total = fma(total, decay, sum(weights));
        return decay;
    }
};

// Add n <= KEYS positions to the unnormalised attention `out` (d,) of one query (d,).
inline void attend(const float* query, const float* keys, const float* values, int n, int d, OnlineSoftmax& softmax,
                   float* out) {
    float p[KEYS];
    attention_scores(query, keys, n, d, p);
    const float decay = softmax.update(p, n, 1.f / std::sqrt((float)d));
    int j = add_weighted<4>(p, values, n, d, decay, out, 0);
    j = add_weighted<1>(p, values, n, d, decay, out, j);
    for (; j < d; j++) {
        out[j] *= decay;
        for (int i = 0; i < n; i++) out[j] = fma(p[i], values[(size_t)i * d + j], out[j]);
    }
}

// Queries (count, d) over the same keys and values (length, d), block after block -> out (count, d).
inline void attention(const float* queries, int count, const float* keys, const float* values, int length, int d,
                      float* out) {
    OnlineSoftmax softmax[MAX_QUERIES];
    std::fill_n(out, count * d, 0.f);
    for (int start = 0; start < length; start += KEYS) {
        const int n = std::min(KEYS, length - start);
        const float *k = keys + (size_t)start * d, *v = values + (size_t)start * d;
        for (int q = 0; q < count; q++) attend(queries + q * d, k, v, n, d, softmax[q], out + q * d);
    }
    for (int q = 0; q < count; q++)
        for (int i = q * d; i < (q + 1) * d; i++) out[i] /= softmax[q].total;
}

}  // namespace fish
