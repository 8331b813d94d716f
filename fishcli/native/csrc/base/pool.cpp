// The threads that all models of a process share, the memory that they read, and how fast they can at best.
#include "base/pool.hpp"

#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "base/fetch.hpp"
#include "base/simd.hpp"

using namespace fish;

extern "C" {
Pool* fish_pool_new(int threads) {
    return made([&] { return new Pool(threads); });
}
int fish_pool_threads(const Pool* pool) { return pool->count(); }

// Memory in pages of 2 MB where the system has them: the processor then finds them sooner. Null where there is none.
void* fish_pages_new(int64_t bytes) {
    constexpr int64_t PAGE = 2 << 20;
    void* memory = std::aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (memory) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}
void fish_pages_delete(void* memory) { std::free(memory); }

// Has the system take back the pages of what is mapped from a file, and was not changed: it can read them again.
void fish_forget(const uint8_t* data, int64_t bytes) {
#if defined(__linux__)
    const uintptr_t page = sysconf(_SC_PAGESIZE), start = ((uintptr_t)data + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (start < end) madvise((void*)start, end - start, MADV_DONTNEED);
#endif
}

// Reads `bytes`, a multiple of 64 Ki, with all threads; the result keeps the compiler from leaving it out.
int32_t fish_read(Pool* pool, const uint8_t* data, int64_t bytes) {
    std::atomic<int32_t> result{0};
    if (pool->forked()) return 0;
    constexpr int PIECE = 64 << 10;
    pool->run([&] {
        pool->share((int)(bytes / PIECE), [&](int piece) {
            const uint8_t* p = data + (size_t)piece * PIECE;
            Vi total[4] = {};
            Fetcher fetcher(p);
            for (int i = 0; i < PIECE; i += sizeof total) {
                fetcher.next<sizeof total>(p + i);
                for (int j = 0; j < 4; j++) total[j] ^= load<Vi>(p + i + j * sizeof(Vi));
            }
            result ^= (total[0] ^ total[1] ^ total[2] ^ total[3])[0];
        });
    });
    return result;
}
}
