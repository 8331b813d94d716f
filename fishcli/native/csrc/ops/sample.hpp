// Sampling from logits as lm/sampling.py does: repetition penalty, top-p, temperature, and a draw by inversion.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/simd.hpp"

namespace fish {

struct SamplingParams {
    float temperature, top_p, repetition_penalty;
};
static_assert(sizeof(SamplingParams) == 12, "three tensors stacked by native_lm.py");

class Sampler {
public:
    // Allocate for `count` logits: a thread that samples must not run out of memory.
    void reserve(int count) { weights.reserve(count), heap.reserve(count), nucleus.reserve(count); }

    // Choose one of logits (count,), which are changed; -1 where their maximum is not finite. `uniform` in [0, 1)
    // decides the draw. Entries of `history` (window,) that are `count` or more stand for "no frame".
    int sample(float* logits, int count, const int64_t* history, int window, SamplingParams params, float uniform) {
        if (!std::isfinite(maximum(logits, count))) return -1;
        penalise(logits, count, history, window, params.repetition_penalty);
        if (params.temperature <= 0) return (int)(std::max_element(logits, logits + count) - logits);
        select_nucleus(logits, count, params.top_p);
        return draw(logits, std::max(params.temperature, 1e-6f), uniform);
    }

private:
    // NaN where one of the logits is NaN.
    static float maximum(const float* logits, int count) {
        V largest = splat(-INFINITY);
        Vi nans = {};
        int i = 0;
        for (; i + W <= count; i += W) {
            const V v = load<V>(logits + i);
            largest = v > largest ? v : largest, nans |= v != v;
        }
        float most = -INFINITY;
        bool nan = false;
        for (int j = 0; j < W; j++) most = std::max(most, largest[j]), nan |= nans[j] != 0;
        for (; i < count; i++) most = std::max(most, logits[i]), nan |= logits[i] != logits[i];
        return nan ? NAN : most;
    }

    // Repetition penalty (arXiv:1909.05858) on each entry of the history, once however often it occurs.
    static void penalise(float* logits, int count, const int64_t* history, int window, float penalty) {
        for (int i = 0; i < window; i++) {
            const int64_t id = history[i];
            if (id < 0 || id >= count || std::find(history, history + i, id) != history + i) continue;
            logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
        }
    }

    // Top-p (arXiv:1904.09751): the likeliest entries in order, up to a cumulative probability of top_p and at least
    // one. A heap sorts no more entries than those.
    void select_nucleus(const float* logits, int count, float top_p) {
        const double total = exponentials(logits, count);
        auto less = [&](int a, int b) { return logits[a] != logits[b] ? logits[a] < logits[b] : a > b; };
        std::make_heap(heap.begin(), heap.end(), less);
        double cumulative = 0;
        nucleus.clear();
        for (auto end = heap.end(); end != heap.begin(); --end) {
            const int best = heap.front();
            cumulative += weights[best] / total;
            // Rounded sums exceed 1 now and then: top_p = 1 keeps every entry whatever they come to.
            if (top_p < 1 && cumulative > top_p && !nucleus.empty()) break;
            nucleus.push_back(best);
            std::pop_heap(heap.begin(), end, less);
        }
    }

    // Set the weights to e^(logit - maximum), and return their sum.
    double exponentials(const float* logits, int count) {
        const float most = *std::max_element(logits, logits + count);
        weights.resize(count), heap.resize(count);
        double total = 0;
        for (int i = 0; i < count; i += W) {
            float in[W] = {}, out[W];
            const int n = std::min(W, count - i);
            std::copy(logits + i, logits + i + n, in);
            store(out, exp(load<V>(in) - most));
            for (int j = 0; j < n; j++) total += weights[i + j] = out[j], heap[i + j] = i + j;
        }
        return total;
    }

    // Invert the cumulative distribution of the nucleus.
    int draw(const float* logits, float temperature, float uniform) {
        double total = 0;
        for (int id : nucleus) total += weights[id] = std::exp((logits[id] - logits[nucleus[0]]) / temperature);
        double cumulative = 0;
        size_t last = 0;
        for (size_t i = 0; i < nucleus.size(); i++) {
            if (weights[nucleus[i]] > 0) last = i;
            cumulative += weights[nucleus[i]];
            if (cumulative > uniform * total) return nucleus[i];
        }
        return nucleus[last];
    }

    std::vector<float> weights;
    std::vector<int> heap, nucleus;
};

}  // namespace fish
