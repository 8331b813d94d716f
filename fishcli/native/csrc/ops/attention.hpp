// Attention of the queries of one position over the positions before it.
#pragma once
#include <algorithm>
#include <cmath>

#include "base/simd.hpp"

namespace fish {

inline float dot(const float* a, const float* b, int n) {
    V total = {};
    int i = 0;
    for (; i + W <= n; i += W) total = fma(load<V>(a + i), load<V>(b + i), total);
    float y = sum(total);
    for (; i < n; i++) y = fma(a[i], b[i], y);
    return y;
}

constexpr int MOST_QUERIES = 16;  // that are given at once

// The products of a query (d,) with n keys (n, d), four at a time; `out` has room for a multiple of four.
inline void scores(const float* query, const float* keys, int n, int d, float* out) {
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

// out (d,) = fade * out + the sum of n values (n, d), each times its weight; COUNT vectors of it at a time.
template <int COUNT>
inline int add_weighted(const float* weights, const float* values, int n, int d, float fade, float* out, int j) {
    for (; j + COUNT * W <= d; j += COUNT * W) {
        V even[COUNT], odd[COUNT] = {};  // two sums, since each addition waits for the one before it
        for (int c = 0; c < COUNT; c++) even[c] = fade * load<V>(out + j + c * W);
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

constexpr int KEYS = 64;  // and as many values are in the first cache while all queries go over them

// What is known of a softmax after some of its values: their greatest, and the sum of e^(each - greatest).
struct Softmax {
    float greatest = -INFINITY, total = 0;
};

// Takes n more values of one query (d,) into `out` (d,): their sum by weights that add up to `softmax.total`.
inline void attend(const float* query, const float* keys, const float* values, int n, int d, Softmax& softmax,
                   float* out) {
    float p[KEYS];
    scores(query, keys, n, d, p);
    std::fill(p + n, p + KEYS, -INFINITY);
    V largest = splat(softmax.greatest), sizes = {};
    for (int i = 0; i < KEYS; i += W) {
        const V each = load<V>(p + i) * (1.f / std::sqrt((float)d));
        store(p + i, each);
        largest = each > largest ? each : largest;
    }
    float peak = largest[0];
    for (int i = 1; i < W; i++) peak = std::max(peak, largest[i]);
    for (int i = 0; i < KEYS; i += W) {
        const V each = load<V>(p + i), weight = each == -INFINITY ? V{} : exp(each - peak);
        store(p + i, weight);
        sizes += weight;
    }
    const float fade = std::exp(softmax.greatest - peak);
    softmax = {peak, fma(softmax.total, fade, sum(sizes))};
    int j = add_weighted<4>(p, values, n, d, fade, out, 0);
    j = add_weighted<1>(p, values, n, d, fade, out, j);
    for (; j < d; j++) {
        out[j] *= fade;
        for (int i = 0; i < n; i++) out[j] = fma(p[i], values[(size_t)i * d + j], out[j]);
    }
}

// Queries (count, d) over the same keys and values (length, d), a block of them after the other (arXiv:1805.02867).
inline void attention(const float* queries, int count, const float* keys, const float* values, int length, int d,
                      float* out) {
    Softmax softmax[MOST_QUERIES];
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
