// The threads that all models of a process share, and what they can read from memory at best.
#include "pool.hpp"

#include "simd.hpp"

using namespace fish;

extern "C" {
Pool* fish_pool_new(int threads) { return new Pool(threads); }
void fish_pool_delete(Pool* pool) { delete pool; }

// Reads `bytes`, a multiple of 64 Ki, with all threads; the result keeps the compiler from leaving it out.
int32_t fish_read(Pool* pool, const uint8_t* data, int64_t bytes) {
    std::atomic<int32_t> result{0};
    constexpr int PIECE = 64 << 10, FETCH = 4096;
    pool->run([&] {
        pool->share((int)(bytes / PIECE), [&](int piece) {
            const uint8_t* p = data + (size_t)piece * PIECE;
            Vi total[4] = {};
            for (int i = 0; i < PIECE; i += sizeof total) {
                for (size_t j = 0; j < sizeof total; j += 64) __builtin_prefetch(p + i + j + FETCH);
                for (int j = 0; j < 4; j++) total[j] ^= load<Vi>(p + i + j * sizeof(Vi));
            }
            result ^= (total[0] ^ total[1] ^ total[2] ^ total[3])[0];
        });
    });
    return result;
}
}
