// Every kernel behind a plain function, so that test_kernels.py can compare it with PyTorch.
#include "lm/transformer.hpp"
#include "ops/conv.hpp"
#include "ops/conv_to_samples.hpp"
#include "ops/depthwise_conv.hpp"
#include "ops/layer_norm.hpp"

using namespace fish;

// Apply a function of vectors to n floats.
template <class Function> static void map(const float* x, int n, float* out, Function function) {
    for (int i = 0; i < n; i += W) {
        float in[W] = {}, result[W];
        const int count = std::min(W, n - i);
        std::copy_n(x + i, count, in);
        store(result, function(load<V>(in)));
        std::copy_n(result, count, out + i);
    }
}

extern "C" {
int kernel_vector() { return W; }
int kernel_panel() { return PANEL * W; }

void kernel_exp(const float* x, int n, float* out) {
    map(x, n, out, [](V v) { return exp(v); });
}
void kernel_silu(const float* x, int n, float* out) {
    map(x, n, out, [](V v) { return silu(v); });
}
void kernel_gelu(const float* x, int n, float* out) {
    map(x, n, out, [](V v) { return gelu(v); });
}
void kernel_tanh(const float* x, int n, float* out) {
    map(x, n, out, [](V v) { return tanh(v); });
}
void kernel_reciprocal(const float* x, int n, float* out) {
    map(x, n, out, [](V v) { return reciprocal(v); });
}
float kernel_dot(const float* a, const float* b, int n) { return dot(a, b, n); }
void kernel_rms_norm(const float* x, const float* weight, int n, float eps, float* out) {
    rms_norm(x, weight, n, eps, out);
}
void kernel_layer_norm(float* x, int n, float eps) { layer_norm(x, n, eps); }
void kernel_swiglu(const float* in, int n, float* out) { swiglu(in, n, out); }
void kernel_rotate(const float* rotation, int pairs, float* x) {
    for (int i = 0; i < pairs; i++) rotate(rotation + 2 * i, x[2 * i], x[2 * i + 1]);
}
void kernel_attention(const float* queries, int count, const float* keys, const float* values, int length, int d,
                      float* out) {
    attention(queries, count, keys, values, length, d, out);
}
void kernel_add_row(const Embedding* table, int64_t row, float* out) { table->add_row(row, out); }

int kernel_sample(float* logits, int count, const int64_t* history, int window, const SamplingParams* params,
                  float uniform) {
    Sampler sampler;
    sampler.reserve(count);
    return sampler.sample(logits, count, history, window, *params, uniform);
}

// Quantize one column for int8 or int4 weights, and return it dequantized.
void kernel_quantize(int format, const float* x, int n, float* out) {
    Activations a;
    a.resize(1, n, (Format)format);
    std::copy_n(x, n, a[0]);
    a.quantize(0, (Format)format);
    for (int i = 0; i < n; i++) {
        const int group = format == I4 ? i / SPAN * LANES + i % HALF4 / 4 : 0;
        out[i] = a.scales.data[group] * (format == I4 ? a.int8.data[i] : a.int16.data[i]);
    }
}

// x (columns, cols) @ weight.T -> out (columns, rows).
void kernel_matmul(ThreadPool* pool, Matrix* m, const WeightSource* source, const float* x, int columns, float* out) {
    std::vector<uint8_t> packed((m->rows + TILE_ROWS - 1) / TILE_ROWS * tile_bytes(m->format, m->cols) + 64);
    m->data = packed.data(), m->tile = (int32_t)tile_bytes(m->format, m->cols);
    pack(*pool, *m, *source);
    Activations in, result;
    in.resize(columns, m->cols, m->format), result.resize(columns, (m->rows + 3) / 4 * 4);
    for (int c = 0; c < columns; c++) {
        std::copy_n(x + (size_t)c * m->cols, m->cols, in[c]);
        in.quantize(c, m->format);
    }
    pool->run([&] { matmul(*pool, *m, in, columns, write_to(result)); });
    for (int c = 0; c < columns; c++) std::copy_n(result[c], m->rows, out + (size_t)c * m->rows);
}

int kernel_reach(const Conv* conv) { return reach(*conv); }

// x (reach + steps, padded in) -> out (steps, conv.out).
void kernel_conv(ThreadPool* pool, const Conv* conv, const float* x, int steps, float* out) {
    ConvScratch scratch;
    scratch.reserve(*pool, *conv);
    Epilogue after;
    after.plain = out;
    x += (size_t)reach(*conv) * padded(conv->in);
    pool->run([&] { convolve(*pool, scratch, *conv, x, steps, after, [] {}); });
}

void kernel_depthwise_conv(const float* weights, const float* bias, int kernel, const float* x, int width, float* y) {
    depthwise_conv(weights, bias, kernel, x, width, y);
}
void kernel_conv_to_samples(const float* weights, float bias, int taps, const float* x, int width, int count,
                            float* samples) {
    conv_to_samples(weights, bias, taps, x, width, count, samples);
}
}
