// What all models of a process share: the thread pool, memory in huge pages, and a measure of memory bandwidth.
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "base/prefetch.hpp"
#include "base/simd.hpp"
#include "base/status.hpp"

using namespace fish;

extern "C" {
ThreadPool* fish_pool_new(int threads) {
    return made([&] { return new ThreadPool(threads); });
}
int fish_pool_threads(const ThreadPool* pool) { return pool->threads(); }

// Memory in pages of 2 MB where the system has them: there are fewer addresses to look up. Null where there is none.
void* fish_pages_new(int64_t bytes) {
    constexpr int64_t PAGE = 2 << 20;
    void* memory = std::aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (memory) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}
void fish_pages_delete(void* memory) { std::free(memory); }

// Give the pages of a mapped file back to the system, which can read them again.
void fish_forget(const uint8_t* data, int64_t bytes) {
#if defined(__linux__)
    const uintptr_t page = sysconf(_SC_PAGESIZE), start = ((uintptr_t)data + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (start < end) madvise((void*)start, end - start, MADV_DONTNEED);
#endif
}

// Read `bytes`, a multiple of 64 Ki, with all threads. The compiler would drop the loads if nothing came of them.
int32_t fish_read(ThreadPool* pool, const uint8_t* data, int64_t bytes) {
    std::atomic<int32_t> result{0};
    constexpr int PIECE = 64 << 10;
    auto read = [&](int piece) {
        const uint8_t* p = data + (size_t)piece * PIECE;
        Vi total[4] = {};
        Prefetcher prefetcher(p);
        for (int i = 0; i < PIECE; i += sizeof total) {
            prefetcher.next<sizeof total>(p + i);
            for (int j = 0; j < 4; j++) total[j] ^= load<Vi>(p + i + j * sizeof(Vi));
        }
        result ^= (total[0] ^ total[1] ^ total[2] ^ total[3])[0];
    };
    guarded(*pool, [&] {
        pool->run([&] { pool->parallel_for((int)(bytes / PIECE), read); });
        return DONE;
    });
    return result;
}
}
