// Attention of one query over the positions before it.
#pragma once
#include <algorithm>
#include <cmath>

#include "simd.hpp"

namespace fish {

inline float dot(const float* a, const float* b, int n) {
    V total = {};
    int i = 0;
    for (; i + W <= n; i += W) total += load<V>(a + i) * load<V>(b + i);
    float y = sum(total);
    for (; i < n; i++) y += a[i] * b[i];
    return y;
}

// The products of a query (d,) with n keys (n, d), four at a time; `out` has room for a multiple of four.
inline void scores(const float* query, const float* keys, int n, int d, float scale, float* out) {
    for (int i = 0; i < n; i += 4) {
        const float* k[4];
        for (int r = 0; r < 4; r++) k[r] = keys + (size_t)std::min(i + r, n - 1) * d;
        V total[4] = {};
        int j = 0;
        for (; j + W <= d; j += W)
            for (int r = 0; r < 4; r++) total[r] += load<V>(query + j) * load<V>(k[r] + j);
        sums(total[0], total[1], total[2], total[3], out + i);
        for (int r = 0; r < 4; r++) out[i + r] = scale * (out[i + r] + dot(query + j, k[r] + j, d - j));
    }
}

// out (d,) = fade * out + the sum of n values (n, d), each times its weight; COUNT vectors of it at a time.
template <int COUNT> inline int add_weighted(const float* weights, const float* values, int n, int d, float fade, float* out, int j) {
    for (; j + COUNT * W <= d; j += COUNT * W) {
        V total[COUNT];
        for (int c = 0; c < COUNT; c++) total[c] = fade * load<V>(out + j + c * W);
        for (int i = 0; i < n; i++)
            for (int c = 0; c < COUNT; c++) total[c] += weights[i] * load<V>(values + (size_t)i * d + j + c * W);
        for (int c = 0; c < COUNT; c++) store(out + j + c * W, total[c]);
    }
    return j;
}

// One query (d,) over keys and values (length, d); the softmax is taken block by block (arXiv:1805.02867).
inline void attention(const float* query, const float* keys, const float* values, int length, int d, float* out) {
    constexpr int BLOCK = 64;
    const float scale = 1.f / std::sqrt((float)d);
    float p[BLOCK], greatest = -INFINITY, total = 0;
    std::fill(out, out + d, 0.f);
    for (int start = 0; start < length; start += BLOCK) {
        const int n = std::min(BLOCK, length - start);
        scores(query, keys + (size_t)start * d, n, d, scale, p);
        const float peak = std::max(greatest, *std::max_element(p, p + n)), fade = std::exp(greatest - peak);
        std::fill(p + n, p + BLOCK, -INFINITY);
        V sizes = {};
        for (int i = 0; i < BLOCK; i += W) {
            V each = load<V>(p + i);
            each = each == -INFINITY ? V{} : exp(each - peak);
            store(p + i, each);
            sizes += each;
        }
        total = total * fade + sum(sizes);
        greatest = peak;
        const float* v = values + (size_t)start * d;
        int j = add_weighted<4>(p, v, n, d, fade, out, 0);
        j = add_weighted<1>(p, v, n, d, fade, out, j);
        for (; j < d; j++) {
            out[j] *= fade;
            for (int i = 0; i < n; i++) out[j] += p[i] * v[(size_t)i * d + j];
        }
    }
    for (int i = 0; i < d; i++) out[i] /= total;
}

}  // namespace fish
