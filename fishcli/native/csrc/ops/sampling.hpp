// Choosing from logits as `sampling.py` does: penalty, top-p, temperature, and a draw by the inverted distribution.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/simd.hpp"

namespace fish {

struct Knobs {
    float temperature, top_p, penalty;
};

class Sampler {
public:
    // Room for `count` logits: threads that choose must not run out of memory.
    void reserve(int count) { weights.reserve(count), order.reserve(count), kept.reserve(count); }

    // Logits (count,) are changed. Entries of `history` that are `count` or more stand for nothing. -1 for logits whose
    // maximum is not finite.
    int choose(float* logits, int count, const int64_t* history, int window, Knobs knobs, float noise) {
        if (!std::isfinite(maximum(logits, count))) return -1;
        penalise(logits, count, history, window, knobs.penalty);
        if (knobs.temperature <= 0) return (int)(std::max_element(logits, logits + count) - logits);
        rank(logits, count, knobs.top_p);
        return draw(logits, std::max(knobs.temperature, 1e-6f), noise);
    }

private:
    // NaN where one of them is NaN.
    static float maximum(const float* logits, int count) {
        float most = logits[0];
        for (int i = 1; i < count; i++) most = logits[i] > most || logits[i] != logits[i] ? logits[i] : most;
        return most;
    }

    static void penalise(float* logits, int count, const int64_t* history, int window, float penalty) {
        for (int i = 0; i < window; i++) {
            const int64_t id = history[i];
            if (id < 0 || id >= count || std::find(history, history + i, id) != history + i) continue;
            logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
        }
    }

    // The likeliest entries, in order, up to a cumulative probability of top_p: only those are sorted.
    void rank(const float* logits, int count, float top_p) {
        const float greatest = *std::max_element(logits, logits + count);
        weights.resize(count), order.resize(count), kept.clear();
        double total = 0;
        for (int i = 0; i < count; i += W) {
            float in[W] = {}, out[W];
            const int n = std::min(W, count - i);
            std::copy(logits + i, logits + i + n, in);
            store(out, exp(load<V>(in) - greatest));
            for (int j = 0; j < n; j++) total += weights[i + j] = out[j], order[i + j] = i + j;
        }
        auto less = [&](int a, int b) { return logits[a] != logits[b] ? logits[a] < logits[b] : a > b; };
        std::make_heap(order.begin(), order.end(), less);
        double cumulative = 0;
        for (auto end = order.end(); end != order.begin(); --end) {
            const int best = order.front();
            cumulative += weights[best] / total;
            if (top_p < 1 && cumulative > top_p && !kept.empty()) break;  // rounded sums exceed 1 now and then
            kept.push_back(best);
            std::pop_heap(order.begin(), end, less);
        }
    }

    int draw(const float* logits, float temperature, float noise) {
        double total = 0;
        for (int id : kept) total += weights[id] = std::exp((logits[id] - logits[kept[0]]) / temperature);
        double cumulative = 0;
        size_t last = 0;
        for (size_t i = 0; i < kept.size(); i++) {
            if (weights[kept[i]] > 0) last = i;
            cumulative += weights[kept[i]];
            if (cumulative > noise * total) return kept[i];
        }
        return kept[last];
    }

    std::vector<float> weights;
    std::vector<int> order, kept;
};

}  // namespace fish
