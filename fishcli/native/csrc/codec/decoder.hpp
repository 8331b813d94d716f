// The codec's decoder: latents of some frames to their samples, for any number of streams.
//
// Frames are decoded in blocks, and each stage cuts its own into smaller ones, so that the rows between two
// convolutions stay in the cache and weights are not read from memory more often than that takes.
#pragma once
#include <mutex>

#include "base/status.hpp"
#include "codec/conv_state.hpp"
#include "codec/model.hpp"
#include "ops/conv.hpp"
#include "ops/conv_to_samples.hpp"
#include "ops/depthwise_conv.hpp"
#include "ops/layer_norm.hpp"

namespace fish {

constexpr int FRAMES = 16;               // in a block
constexpr int STAGE_FLOATS = 128 << 10;  // that a stage makes at once, about

// Several threads may call it; one works at a time.
class StreamingDecoder {
public:
    StreamingDecoder(const Decoder& decoder, ThreadPool& pool) : pool(pool), d(decoder) {
        int rows = FRAMES;
        size_t wide = 0, widest = 0, before = 0;
        for (int i = 0; i < d.upsample_count; i++) {
            const ConvNeXt& block = d.upsamples[i].block;
            rows *= d.upsamples[i].rate;
            block_states.push_back(new_state(block.kernel - 1, block.channels, before));
            wide = std::max<size_t>(wide, padded(block.channels));
            widest = std::max<size_t>(widest, block.widen.out);
        }
        x.resize(0, rows * wide), a.resize(before, rows * wide);
        normed.resize(0, rows * wide), hidden.resize(0, rows * widest);
        pre = new_state(reach(d.pre), d.pre.in, before);
        pre_in.resize(pre.size(), (size_t)rows * pre.width);
        allocate_stages(rows);
        reserve_scratch();
    }

    DecoderStream* stream() const { return new DecoderStream{std::vector<float>(state_floats)}; }

    // latent (frames, channels) of the next frames of a stream -> their samples.
    Status push(DecoderStream& stream, const float* latent, int frames, float* samples) {
        std::lock_guard<std::mutex> alone(working);
        pool.run([&] {
            float* to = samples;
            for (int start = 0; start < frames; start += FRAMES) {
                const int count = std::min(FRAMES, frames - start);
                const int rows = upsample(stream, latent + (size_t)start * d.pre.in, count);
                to = stage(stream, 0, rows, to);
            }
        });
        return DONE;
    }

    ThreadPool& pool;

private:
    struct StageStates {
        ConvState up, first;
        std::vector<ConvState> inner;  // (kernels, dilations, 2), the first of each kernel unused
        Signal in;
        int block;  // rows of the input that are worked through at once
    };

    // A conv state in the streams' memory; `most` grows to the floats of the longest.
    ConvState new_state(int rows, int channels, size_t& most) {
        const ConvState state{state_floats, rows, padded(channels)};
        state_floats += state.size();
        most = std::max(most, state.size());
        return state;
    }

    void allocate_stages(int rows) {
        size_t before = 0, floats = 0;
        stages.resize(d.stage_count);
        for (int i = 0; i < d.stage_count; i++) {
            const Stage& stage = d.stages[i];
            StageStates& own = stages[i];
            own.up = new_state(reach(stage.up), stage.up.in, before);
            own.in.resize(own.up.size(), (size_t)rows * own.up.width);
            allocate_resblocks(stage, own, before);
            own.block = std::max(1, std::min(rows, STAGE_FLOATS / stage.up.out));
            rows = own.block * stage.rate;
            floats = std::max(floats, (size_t)own.block * stage.up.out);
        }
        post = new_state(d.post_taps - 1, d.stages[d.stage_count - 1].channels, before);
        post_in.resize(post.size(), (size_t)rows * post.width);
        for (Signal* each : {&whole, &first, &rest, &sum, &inner, &active}) each->resize(before, floats);
    }

    // The first convolutions of all kernels have one input, and so one state.
    void allocate_resblocks(const Stage& stage, StageStates& own, size_t& before) {
        int longest = 0;
        for (int k = 0; k < d.kernels; k++)
            for (int c = 0; c < 2 * d.dilations; c++) {
                const int rows = reach(stage.convs[k * d.dilations * 2 + c]);
                own.inner.push_back(c ? new_state(rows, stage.channels, before) : ConvState{});
                if (!c) longest = std::max(longest, rows);
            }
        own.first = new_state(longest, stage.channels, before);
    }

    void reserve_scratch() {
        auto reserve = [&](const Conv& conv) { scratch.reserve(pool, conv); };
        for (int i = 0; i < d.upsample_count; i++)
            for (const Conv* conv : {&d.upsamples[i].conv, &d.upsamples[i].block.widen, &d.upsamples[i].block.narrow})
                reserve(*conv);
        reserve(d.pre);
        for (int i = 0; i < d.stage_count; i++) {
            reserve(d.stages[i].up);
            std::for_each_n(d.stages[i].convs, d.kernels * d.dilations * 2, reserve);
        }
    }

    template <class Chore> void conv(const Conv& conv, const float* x, int rows, const Epilogue& after, Chore chore) {
        convolve(pool, scratch, conv, x, rows, after, chore);
    }

    // The latent to the input of the first stage. Returns its rows.
    int upsample(DecoderStream& stream, const float* latent, int rows) {
        const int dim = d.pre.in;
        pool.parallel_for(rows, [&](int t) {
            std::copy_n(latent + (size_t)t * dim, dim, x.now + (size_t)t * padded(dim));
        });
        for (int i = 0; i < d.upsample_count; i++) {
            const Upsample& up = d.upsamples[i];
            const bool last = i == d.upsample_count - 1;
            conv(up.conv, x.now, rows, {a.now}, [&] {
                stream.restore(block_states[i], a.now);
                if (last) stream.restore(pre, pre_in.now);
            });
            rows *= up.rate;
            convnext(stream, up.block, block_states[i], rows, last ? pre_in.now : x.now);
        }
        conv(d.pre, pre_in.now, rows, {nullptr, stages[0].in.now}, [&] {
            stream.save(pre, pre_in.now, rows);
            stream.restore(stages[0].up, stages[0].in.now);
        });
        return rows;
    }

    // A block of ConvNeXt on `a`.
    void convnext(DecoderStream& stream, const ConvNeXt& block, const ConvState& state, int rows, float* to) {
        const size_t width = state.width;
        pool.parallel_for(rows, [&](int t) {
            float* y = normed.now + t * width;
            depthwise_conv(block.depthwise, block.bias, block.kernel, a.now + t * width, width, y);
            layer_norm(y, block.channels, d.eps);
        });
        conv(block.widen, normed.now, rows, {nullptr, hidden.now, GELU}, [&] { stream.save(state, a.now, rows); });
        conv(block.narrow, hidden.now, rows, {to, nullptr, SILU, a.now}, [] {});
    }

    // The rows in the input of stage i to samples. Returns their end.
    float* stage(DecoderStream& stream, int i, int rows, float* samples) {
        if (i == d.stage_count) return finish(stream, rows, samples);
        const Stage& s = d.stages[i];
        StageStates& own = stages[i];
        for (int start = 0; start < rows; start += own.block) {
            const int count = std::min(own.block, rows - start);
            conv(s.up, own.in.now + (size_t)start * own.up.width, count, {whole.now, first.now}, [&] {
                if (start == 0) stream.save(own.up, own.in.now, rows);
                stream.restore(own.first, first.now);
            });
            for (int kernel = 0; kernel < d.kernels; kernel++) resblock(stream, i, kernel, count * s.rate);
            samples = stage(stream, i + 1, count * s.rate, samples);
        }
        return samples;
    }

    // A residual block of HiFi-GAN (arXiv:2010.05646). The activated mean of a stage's blocks goes to the next stage.
    void resblock(DecoderStream& stream, int i, int kernel, int rows) {
        const bool end = i == d.stage_count - 1;
        const ConvState& next_state = end ? post : stages[i + 1].up;
        float* next = end ? post_in.now : stages[i + 1].in.now;
        const Conv* convs = d.stages[i].convs + kernel * d.dilations * 2;
        const ConvState* states = stages[i].inner.data() + kernel * d.dilations * 2;
        for (int c = 0; c < 2 * d.dilations; c += 2) {
            const float* from = c ? active.now : first.now;
            conv(convs[c], from, rows, {nullptr, inner.now}, [&] {
                if (c) stream.save(states[c], from, rows);
                else if (kernel == 0) stream.save(stages[i].first, from, rows);
                stream.restore(states[c + 1], inner.now);
            });
            const bool last = c == 2 * d.dilations - 2, mean = last && kernel == d.kernels - 1;
            Epilogue after{rest.now, active.now, SILU, c ? rest.now : whole.now};
            if (last) after.plain = sum.now, after.active = nullptr, after.more = kernel ? sum.now : nullptr;
            if (mean) after.plain = nullptr, after.active = next, after.scale = 1.f / d.kernels;
            conv(convs[c + 1], inner.now, rows, after, [&] {
                stream.save(states[c + 1], inner.now, rows);
                if (mean) stream.restore(next_state, next);
                else if (!last) stream.restore(states[c + 2], active.now);
            });
        }
    }

    // The last convolution. Returns the end of the samples.
    float* finish(DecoderStream& stream, int rows, float* samples) {
        const int pieces = (rows + SAMPLES - 1) / SAMPLES;
        pool.parallel_for(pieces + 1, [&](int i) {
            if (i == pieces) return stream.save(post, post_in.now, rows);
            const int start = i * SAMPLES;
            const float* x = post_in.now + (size_t)start * post.width - post.size();
            const int count = std::min(SAMPLES, rows - start);
            conv_to_samples(d.post, d.post_bias, d.post_taps, x, post.width, count, samples + start);
        });
        return samples + rows;
    }

    const Decoder d;
    std::mutex working;
    size_t state_floats = 0;  // of a stream
    std::vector<ConvState> block_states;
    std::vector<StageStates> stages;
    ConvState pre, post;
    ConvScratch scratch;
    Signal x, a, normed, hidden, pre_in, post_in;
    Signal whole, first, rest, sum, inner, active;  // of the stage at work
};

}  // namespace fish
