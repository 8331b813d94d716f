// The C++ without Python, for emulated processors and the thread sanitizer: prints means, and what differs before it
// exits with 1.
//
// A random model in each format: the bits of a column do not depend on the block, the threads and the batch, also while
// four threads call at once. A random decoder: the same for two streams.
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <thread>

#include "codec/decoder.hpp"
#include "lm/language_model.hpp"

using namespace fish;

constexpr int DIM = 640, INNER = 1100, HEADS = 10, KV_HEADS = 2, HEAD = 64, LAYERS = 2, CODES = 60, BOOKS = 3;
constexpr int COLUMNS = 19, SLOT = 64, WINDOW = 16, POSITIONS = 256;

static std::mt19937 random_bits(0);

static std::vector<float> floats(size_t count, float scale) {
    std::vector<float> all(count);
    for (float& x : all) x = scale * ((float)(random_bits() >> 8) / (1 << 23) - 1);
    return all;
}

// What a model and a decoder point to.
struct Memory {
    std::vector<std::vector<float>> held;
    const float* keep(std::vector<float> all) { return held.emplace_back(std::move(all)).data(); }
    const float* random(size_t count, float scale) { return keep(floats(count, scale)); }
};

struct RandomModel {
    Memory memory;
    std::vector<std::vector<uint8_t>> packed;
    std::vector<Block> slow, fast;
    Model model{};

    RandomModel(ThreadPool& pool, Format format) {
        model.slow = stack(pool, format, slow, LAYERS), model.fast = stack(pool, format, fast, 1);
        model.embeddings = table(300), model.codebook_embeddings = table(64 * BOOKS), model.fast_embeddings = table(64);
        model.output = matrix(pool, F32, CODES + 1, DIM), model.fast_output = matrix(pool, F32, CODES, DIM);
        model.norm = memory.random(DIM, 2), model.fast_norm = memory.random(DIM, 2);
        model.semantic = 200, model.codebooks = BOOKS, model.codebook_size = 64, model.codes = CODES;
        model.window = WINDOW;
    }

    Embedding table(int rows) { return {(const uint8_t*)memory.random((size_t)rows * DIM, 1), rows, DIM, F32}; }

    Matrix matrix(ThreadPool& pool, Format format, int rows, int cols) {
        const int chunks = (cols + chunk_weights(format) - 1) / chunk_weights(format);
        const int stride = quantized(format) ? chunks * chunk_bytes(format) : cols * (format == F32 ? 4 : 2);
        const int scales = (cols + SPAN - 1) / SPAN * LANES;
        std::vector<uint8_t> weights((size_t)rows * stride), packed_scales((size_t)rows * scales * 2);
        fill(weights, format, cols);
        fill(packed_scales, BF16, scales);
        for (size_t i = 1; i < packed_scales.size(); i += 2) packed_scales[i] &= 0x7f;  // positive
        Matrix m{nullptr, nullptr, rows, cols, format, (int32_t)tile_bytes(format, cols)};
        m.data = packed.emplace_back((rows + 3) / 4 * (size_t)m.tile + FAR).data();
        pack(pool, m, {weights.data(), (const uint16_t*)packed_scales.data(), stride, scales});
        return m;
    }

    // Weights of about 1 / sqrt(cols); any bytes are integers.
    static void fill(std::vector<uint8_t>& bytes, Format format, int cols) {
        if (quantized(format))
            for (uint8_t& each : bytes) each = random_bits();
        else
            for (size_t i = 0, size = format == F32 ? 4 : 2; i < bytes.size(); i += size) {
                const float x = floats(1, format == BF16 && cols < 100 ? 0.001f : 0.05f)[0];
                std::memcpy(bytes.data() + i, (const uint8_t*)&x + 4 - size, size);
            }
    }

    Stack stack(ThreadPool& pool, Format format, std::vector<Block>& blocks, int layers) {
        for (int i = 0; i < layers; i++)
            blocks.push_back({memory.random(DIM, 2), matrix(pool, format, (HEADS + 2 * KV_HEADS) * HEAD, DIM),
                              matrix(pool, format, DIM, HEADS * HEAD), memory.random(DIM, 2),
                              matrix(pool, format, 2 * INNER, DIM), matrix(pool, format, DIM, INNER)});
        const float* rotation = memory.random(POSITIONS * HEAD, 1);
        return {layers, DIM, HEADS, KV_HEADS, HEAD, INNER, 1e-6f, blocks.data(), rotation, POSITIONS};
    }
};

static std::vector<int64_t> some_columns(int count) {
    std::vector<int64_t> columns;
    for (int c = 0; c < count; c++) {
        columns.push_back(190 + c * 7 % 70);
        for (int i = 0; i < BOOKS; i++) columns.push_back((c * 31 + i * 17) % CODES);
    }
    return columns;
}

struct Cache {
    std::vector<float> keys, values;
    KVCache cache;
    explicit Cache(int64_t positions)
        : keys(LAYERS * KV_HEADS * positions * HEAD),
          values(keys.size()),
          cache{keys.data(), values.data(), positions} {}
};

static std::vector<float> hidden(LanguageModel& lm, std::initializer_list<int> blocks) {
    const auto columns = some_columns(COLUMNS);
    Cache cache(100);
    std::vector<float> out(COLUMNS * DIM);
    int start = 0;
    for (int count : blocks) {
        lm.prefill(columns.data() + start * (BOOKS + 1), count, cache.cache, 7, start, out.data() + start * DIM);
        start += count;
    }
    out.resize(start * DIM);
    return out;
}

// Columns, choices and new keys of some sequences of a batch of nine.
static std::vector<float> stepped(LanguageModel& lm, int from, int count) {
    const std::vector<int64_t> positions{3, 9, 17, 1, 30, 31, 32, 2, 5}, columns = some_columns(SLOT);
    Cache cache(9 * SLOT);
    std::vector<int64_t> slots, history(9 * BOOKS * WINDOW, 10), next(9 * (BOOKS + 1)), choices(9 * BOOKS);
    for (int b = 0; b < 9; b++) slots.push_back((8 - b) * SLOT);
    for (int b = from; b < from + count; b++)
        lm.prefill(columns.data(), (int)positions[b], cache.cache, slots[b], 0, nullptr);
    const std::vector<SamplingParams> params(9, {0.7f, 0.9f, 1.2f});
    const std::vector<float> uniforms(9 * BOOKS, 0.4f);
    lm.step({columns.data() + from * (BOOKS + 1), slots.data() + from, positions.data() + from, history.data(),
             params.data(), uniforms.data(), count}, cache.cache, next.data(), choices.data());
    std::vector<float> out;
    for (int b = from; b < from + count; b++) {
        for (int i = 0; i < BOOKS; i++) out.push_back(choices[(b - from) * BOOKS + i]);
        for (int head = 0; head < LAYERS * KV_HEADS; head++) {
            const float* key = cache.keys.data() + (head * 9 * SLOT + slots[b] + positions[b]) * HEAD;
            out.insert(out.end(), key, key + HEAD);
        }
    }
    return out;
}

static int failures = 0;
static std::mutex printing;

static void same(const std::vector<float>& a, const float* b, const char* what, int format, int number) {
    if (!std::memcmp(a.data(), b, a.size() * sizeof(float))) return;
    std::lock_guard<std::mutex> held(printing);
    failures++;
    std::printf("%s differ: format %d, %d\n", what, format, number);
}

// A weighted mean that another processor's can be compared with. (Equal NaN or zeros would say nothing.)
static void print_mean(const std::vector<float>& a, int format) {
    double total = 0;
    for (size_t i = 0; i < a.size(); i++) total += std::abs(a[i]) * (i % 7);
    failures += !(total > 0 && std::isfinite(total));
    std::printf("%d %.6g\n", format, total / a.size());
}

static void check_format(Format format) {
    ThreadPool one(1), two(2), three(3);
    RandomModel random(one, format);
    LanguageModel first(random.model, one);
    const auto expected = hidden(first, {COLUMNS}), batch = stepped(first, 0, 9);
    print_mean(expected, format);
    for (int count = 1; count < COLUMNS; count++)
        same(hidden(first, {count}), expected.data(), "blocks", format, count);
    for (ThreadPool* pool : {&one, &two, &three}) {
        LanguageModel lm(random.model, *pool);
        same(hidden(lm, {7, 12}), expected.data(), "cuts", format, pool->threads());
        for (int count = pool->threads(), from = 0; from + count <= 9; from += count, count++)
            same(stepped(lm, from, count), batch.data() + batch.size() / 9 * from, "batches", format, count);
    }
    LanguageModel shared(random.model, two);
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; i++)
        callers.emplace_back([&, i] {
            if (i % 2) same(hidden(shared, {5, 14}), expected.data(), "hidden states of callers", format, i);
            else same(stepped(shared, i, 3), batch.data() + batch.size() / 9 * i, "steps of callers", format, i);
        });
    for (auto& caller : callers) caller.join();
}

struct RandomDecoder {
    Memory memory;
    Upsample upsample{};
    Stage stage{};
    std::vector<Conv> convs;
    Decoder decoder{};

    Conv conv(int in, int out, int taps, int dilation, bool at_points = false) {
        const int wide = padded(out), points = at_points ? POINTS : 1;
        return {memory.random((size_t)wide * in * taps * points, 0.05f), memory.random(wide, 0.1f), in, wide, taps,
                dilation, points};
    }

    RandomDecoder() {
        const ConvNeXt block{memory.random(7 * padded(24), 0.3f), memory.random(padded(24), 0.1f), conv(24, 96, 1, 1),
                             conv(96, 24, 1, 1), 7, 24};
        upsample = {conv(24, 2 * padded(24), 1, 1), block, 2};
        for (int taps : {1, 2})
            for (int dilation : {2 * taps - 1, 1}) convs.push_back(conv(20, 20, taps, dilation, true));
        stage = {conv(40, 5 * padded(20), 2, 1), convs.data(), 5, 20};
        const float* post = memory.random(4 * padded(20), 0.1f);
        decoder = {&upsample, &stage, conv(24, 40, 3, 1), post, 0.1f, 1, 1, 1, 2, 4, 1e-6f};
    }
};

static void check_decoder() {
    RandomDecoder random;
    ThreadPool one(1), two(2);
    const auto latent = floats(40 * 24, 1);
    std::vector<float> expected(400);
    for (ThreadPool* pool : {&one, &two}) {
        StreamingDecoder decoder(random.decoder, *pool);
        auto decode = [&](std::vector<float>& samples) {
            std::unique_ptr<DecoderStream> stream(decoder.stream());
            decoder.push(*stream, latent.data(), 40, samples.data());
        };
        std::vector<float> a(400), b(400);
        std::thread other([&] { decode(b); });
        decode(a);
        other.join();
        if (pool == &one) expected = a, print_mean(a, -1);
        for (const auto& samples : {a, b}) same(samples, expected.data(), "samples", -1, pool->threads());
    }
}

int main() {
    for (Format format : {F32, BF16, I8, I4}) check_format(format);
    check_decoder();
    return failures != 0;
}
