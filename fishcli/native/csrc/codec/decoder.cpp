// The codec's decoder: the latent of some frames to their samples, for any number of streams at once.
//
// Frames are worked through in blocks, and each stage cuts its own into smaller ones, so that the rows between two
// convolutions stay in the cache, and weights are not read from memory more often than that needs.
#include "ops/conv.hpp"

using namespace fish;

namespace {

// What `codec/native.py` passes; it declares the same structures.
struct ConvNeXt {
    const float* depthwise;  // (kernel, channels)
    const float* bias;
    Conv widen, narrow;  // what the norm's weights and gamma multiply is folded into them
    int32_t kernel, channels;
};

struct Upsample {
    Conv conv;
    ConvNeXt block;
    int32_t rate;
};

struct Stage {
    Conv up;
    const Conv* convs;  // (kernels, dilations, 2)
    int32_t rate, channels;
};

struct Decoder {
    const Upsample* upsamples;
    const Stage* stages;
    Conv pre;
    const float* post;  // (taps, channels)
    float post_bias;
    int32_t upsample_count, stage_count, kernels, dilations, post_taps;
    float eps;
};

constexpr int FRAMES = 16;       // in a block
constexpr int ROOM = 128 << 10;  // floats that a stage makes at once, about

// The last rows of a layer's input, which the next ones are computed with; `at`: where a stream keeps them.
struct Past {
    size_t at;
    int rows, width;
    size_t size() const { return (size_t)rows * width; }
};

// One sequence of frames. Its pasts are zeros at the start.
struct Stream {
    std::vector<float> memory;

    void restore(const Past& past, float* now) const {
        std::copy_n(memory.data() + past.at, past.size(), now - past.size());
    }

    void save(const Past& past, const float* now, int steps) {
        std::copy_n(now + (size_t)steps * past.width - past.size(), past.size(), memory.data() + past.at);
    }
};

// Activations, from `now` on, with room for a past before them.
struct Signal {
    float* now = nullptr;
    std::vector<float> held;

    void shape(size_t before, size_t after) {
        before = (before + 15) / 16 * 16;
        held.assign(before + after + 16, 0.f);
        now = held.data() + (-(uintptr_t)held.data() % 64) / sizeof(float) + before;
    }
};

// Several threads may call it; one works at a time.
class Runner {
public:
    Runner(const Decoder& decoder, Pool& pool) : pool(pool), d(decoder) {
        int rows = FRAMES;
        size_t wide = 0, widest = 0, past = 0;
        for (int i = 0; i < d.upsample_count; i++) {
            const ConvNeXt& block = d.upsamples[i].block;
            rows *= d.upsamples[i].rate;
            blocks.push_back(keep(block.kernel - 1, block.channels, past));
            wide = std::max<size_t>(wide, padded(block.channels));
            widest = std::max<size_t>(widest, block.widen.out);
        }
        x.shape(0, rows * wide), a.shape(past, rows * wide);
        normed.shape(0, rows * wide), hidden.shape(0, rows * widest);
        pre = keep(d.pre.reach(), d.pre.in, past);
        pre_in.shape(pre.size(), (size_t)rows * pre.width);
        shape_stages(rows);
        each_conv([&](const Conv& conv) { scratch.reserve(this->pool, scratch_floats(conv)); });
    }

    template <class Use> void each_conv(Use use) const {
        for (int i = 0; i < d.upsample_count; i++)
            use(d.upsamples[i].conv), use(d.upsamples[i].block.widen), use(d.upsamples[i].block.narrow);
        use(d.pre);
        for (int i = 0; i < d.stage_count; i++) {
            use(d.stages[i].up);
            std::for_each_n(d.stages[i].convs, d.kernels * d.dilations * 2, use);
        }
    }

    Stream* stream() const { return new Stream{std::vector<float>(kept)}; }

    Status push(Stream& stream, const float* latent, int frames, float* samples) {
        std::lock_guard<std::mutex> alone(working);
        pool.run([&] {
            float* to = samples;
            for (int start = 0; start < frames; start += FRAMES) {
                const int count = std::min(FRAMES, frames - start);
                const int rows = begin(stream, latent + (size_t)start * d.pre.in, count);
                to = stage(stream, 0, rows, to);
            }
        });
        return DONE;
    }

    Pool& pool;

private:
    struct Pasts {
        Past up, first;
        std::vector<Past> inner;  // (kernels, dilations, 2), the first of each kernel unused
        Signal in;
        int block;  // rows of the input that are worked through at once
    };

    // A place in the streams' memory; `most` grows to the floats of the longest past.
    Past keep(int rows, int channels, size_t& most) {
        const Past past{kept, rows, padded(channels)};
        kept += past.size();
        most = std::max(most, past.size());
        return past;
    }

    void shape_stages(int rows) {
        size_t past = 0, room = 0;
        stages.resize(d.stage_count);
        for (int i = 0; i < d.stage_count; i++) {
            const Stage& stage = d.stages[i];
            Pasts& p = stages[i];
            p.up = keep(stage.up.reach(), stage.up.in, past);
            p.in.shape(p.up.size(), (size_t)rows * p.up.width);
            int first = 0;
            for (int k = 0; k < d.kernels; k++)
                for (int c = 0; c < 2 * d.dilations; c++) {
                    const int reach = stage.convs[k * d.dilations * 2 + c].reach();
                    p.inner.push_back(c ? keep(reach, stage.channels, past) : Past{});
                    if (!c) first = std::max(first, reach);
                }
            p.first = keep(first, stage.channels, past);
            p.block = std::max(1, std::min(rows, ROOM / stage.up.out));
            rows = p.block * stage.rate;
            room = std::max(room, (size_t)p.block * stage.up.out);
        }
        post = keep(d.post_taps - 1, d.stages[d.stage_count - 1].channels, past);
        post_in.shape(post.size(), (size_t)rows * post.width);
        for (Signal* each : {&whole, &first, &rest, &sum, &inner, &active}) each->shape(past, room);
    }

    // The latent to the input of the first stage, whose rows are returned.
    int begin(Stream& stream, const float* latent, int rows) {
        const int dim = d.pre.in;
        pool.share(rows, [&](int t) { std::copy_n(latent + (size_t)t * dim, dim, x.now + (size_t)t * padded(dim)); });
        for (int i = 0; i < d.upsample_count; i++) {
            const Upsample& up = d.upsamples[i];
            const bool last = i == d.upsample_count - 1;
            convolve(pool, scratch, up.conv, x.now, rows, {a.now}, [&] {
                stream.restore(blocks[i], a.now);
                if (last) stream.restore(pre, pre_in.now);
            });
            rows *= up.rate;
            convnext(stream, up.block, blocks[i], rows, last ? pre_in.now : x.now);
        }
        convolve(pool, scratch, d.pre, pre_in.now, rows, {nullptr, stages[0].in.now}, [&] {
            stream.save(pre, pre_in.now, rows);
            stream.restore(stages[0].up, stages[0].in.now);
        });
        return rows;
    }

    // The block of ConvNeXt (Liu et al., 2022), from `a`.
    void convnext(Stream& stream, const ConvNeXt& block, const Past& past, int rows, float* to) {
        const size_t width = past.width;
        pool.share(rows, [&](int t) {
            float* y = normed.now + t * width;
            depthwise(block, a.now + t * width, width, y);
            norm(y, block.channels);
        });
        convolve(pool, scratch, block.widen, normed.now, rows, {nullptr, hidden.now, GELU}, [&] {
            stream.save(past, a.now, rows);
        });
        convolve(pool, scratch, block.narrow, hidden.now, rows, {to, nullptr, SILU, a.now}, [] {});
    }

    static void depthwise(const ConvNeXt& block, const float* x, size_t width, float* y) {
        x -= (block.kernel - 1) * width;
        for (size_t c = 0; c < width; c += W) {
            V total = load<V>(block.bias + c);
            for (int k = 0; k < block.kernel; k++)
                total = fma(load<V>(block.depthwise + k * width + c), load<V>(x + k * width + c), total);
            store(y + c, total);
        }
    }

    // LayerNorm without its weights.
    void norm(float* x, int channels) const {
        float mean = 0, square = 0;
        for (int c = 0; c < channels; c++) mean += x[c];
        mean /= channels;
        for (int c = 0; c < channels; c++) square = fma(x[c] - mean, x[c] - mean, square);
        const float scale = 1.f / std::sqrt(square / channels + d.eps);
        for (int c = 0; c < channels; c++) x[c] = (x[c] - mean) * scale;
    }

    // The rows in the input of stage i to samples, of which the end is returned.
    float* stage(Stream& stream, int i, int rows, float* samples) {
        if (i == d.stage_count) return finish(stream, rows, samples);
        const Stage& s = d.stages[i];
        Pasts& p = stages[i];
        for (int start = 0; start < rows; start += p.block) {
            const int count = std::min(p.block, rows - start);
            convolve(pool, scratch, s.up, p.in.now + (size_t)start * p.up.width, count, {whole.now, first.now}, [&] {
                if (start == 0) stream.save(p.up, p.in.now, rows);
                stream.restore(p.first, first.now);
            });
            resblocks(stream, i, count * s.rate);
            samples = stage(stream, i + 1, count * s.rate, samples);
        }
        return samples;
    }

    // The mean of the residual blocks (HiFi-GAN, Kong et al., 2020), activated, to the input of the next stage.
    void resblocks(Stream& stream, int i, int rows) {
        const bool end = i == d.stage_count - 1;
        const Past& next_past = end ? post : stages[i + 1].up;
        float* next = end ? post_in.now : stages[i + 1].in.now;
        for (int k = 0; k < d.kernels; k++) {
            const Conv* convs = d.stages[i].convs + k * d.dilations * 2;
            const Past* pasts = stages[i].inner.data() + k * d.dilations * 2;
            for (int c = 0; c < 2 * d.dilations; c += 2) {
                const float* from = c ? active.now : first.now;
                convolve(pool, scratch, convs[c], from, rows, {nullptr, inner.now}, [&] {
                    if (c) stream.save(pasts[c], from, rows);
                    else if (k == 0) stream.save(stages[i].first, from, rows);
                    stream.restore(pasts[c + 1], inner.now);
                });
                const bool last = c == 2 * d.dilations - 2, mean = last && k == d.kernels - 1;
                Epilogue after{rest.now, active.now, SILU, c ? rest.now : whole.now};
                if (last) after.plain = sum.now, after.active = nullptr, after.more = k ? sum.now : nullptr;
                if (mean) after.plain = nullptr, after.active = next, after.scale = 1.f / d.kernels;
                convolve(pool, scratch, convs[c + 1], inner.now, rows, after, [&] {
                    stream.save(pasts[c + 1], inner.now, rows);
                    if (mean) stream.restore(next_past, next);
                    else if (!last) stream.restore(pasts[c + 2], active.now);
                });
            }
        }
    }

    // The last convolution, which has one output, and the hyperbolic tangent.
    float* finish(Stream& stream, int rows, float* samples) {
        constexpr int PIECE = 256;
        const int width = post.width, length = d.post_taps * width, pieces = (rows + PIECE - 1) / PIECE;
        pool.share(pieces + 1, [&](int i) {
            if (i == pieces) return stream.save(post, post_in.now, rows);
            float y[PIECE];
            const int start = i * PIECE, count = std::min(PIECE, rows - start);
            for (int t = 0; t < count; t += 4) {
                V total[4] = {};
                const float* x[4];
                for (int j = 0; j < 4; j++)
                    x[j] = post_in.now + (size_t)(start + std::min(t + j, count - 1)) * width - post.size();
                for (int c = 0; c < length; c += W)
                    for (int j = 0; j < 4; j++) total[j] = fma(load<V>(d.post + c), load<V>(x[j] + c), total[j]);
                sums(total[0], total[1], total[2], total[3], y + t);
            }
            for (int t = 0; t < count; t += W) store(y + t, tanh(load<V>(y + t) + d.post_bias));
            std::copy_n(y, count, samples + start);
        });
        return samples + rows;
    }

    const Decoder d;
    Scratch scratch;
    std::mutex working;
    size_t kept = 0;  // floats of a stream's memory
    std::vector<Past> blocks;
    std::vector<Pasts> stages;
    Past pre, post;
    Signal x, a, normed, hidden, pre_in, post_in;
    Signal whole, first, rest, sum, inner, active;  // of the stage at work
};

}  // namespace

extern "C" {
int fish_decoder_vector() { return W; }
int fish_decoder_panel() { return PANEL * W; }
Runner* fish_decoder_new(const Decoder* decoder, Pool* pool) {
    return made([&] { return new Runner(*decoder, *pool); });
}
void fish_decoder_delete(Runner* runner) { delete runner; }
Stream* fish_decoder_stream(const Runner* runner) {
    return made([&] { return runner->stream(); });
}
void fish_decoder_stream_delete(Stream* stream) { delete stream; }
Status fish_decoder_push(Runner* runner, Stream* stream, const float* latent, int frames, float* samples) {
    return guarded(runner->pool, [&] { return runner->push(*stream, latent, frames, samples); });
}
}
