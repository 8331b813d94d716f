// Threads that run the same function side by side and meet at barriers, some 300 times a frame.
//
// They spin where the others are a moment late and sleep where they are not. Each thread goes through pieces of work
// that lie after one another, as memory is read fastest, and then helps the others: so a processor which another
// process uses too holds nobody up for long.
#pragma once
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fish {

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// What the calling thread is to its pool.
struct PoolThread {
    int number = 0;
    const uint8_t *wanted = nullptr, *wanted_end = nullptr;  // what it fetches while it waits
};

class Pool {
public:
    // Where the system gives no further thread, the pool works with those that it has.
    explicit Pool(int wanted) : taken(wanted) {
        workers.reserve(wanted);
        try {
            for (int i = 1; i < wanted; i++) workers.emplace_back([this, i] { serve(i); });
        } catch (const std::exception&) {
        }
        threads = (int)workers.size() + 1;
    }

    ~Pool() {
        job = nullptr;
        start();
        for (auto& worker : workers) worker.join();
    }

    // Run a function on every thread, this one included; returns when all are done. Who calls meanwhile waits.
    void run(const std::function<void()>& function) {
        std::lock_guard<std::mutex> alone(running);
        job = &function;
        self.number = 0;
        start();
        function();
        barrier();
    }

    // Hand out 0..pieces-1 to the threads, each calling `function(piece)`; all meet at the end.
    template <class Function> void share(int pieces, Function function) {
        const int number = self.number, count = threads;
        for (int i = 0; i < count; i++) {
            const int owner = (number + i) % count;
            const int begin = (int64_t)pieces * owner / count, end = (int64_t)pieces * (owner + 1) / count;
            auto& next = taken[owner].next;
            for (int piece; (piece = begin + next.fetch_add(1, std::memory_order_relaxed)) < end;) function(piece);
        }
        barrier();
    }

    void barrier() {
        const unsigned now = turn.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived.store(0, std::memory_order_relaxed);
            for (auto& each : taken) each.next.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
            return;
        }
        PoolThread& me = self;
        for (int spins = 0; turn.load(std::memory_order_acquire) == now; spins++)
            if (me.wanted < me.wanted_end) __builtin_prefetch(me.wanted, 0, 2), me.wanted += 64;
            else if (spins < PATIENCE) pause();
            else std::this_thread::yield();
    }

    // What the calling thread fetches while it waits for the others: it will read that next.
    void expect(const uint8_t* data, size_t bytes) { self.wanted = data, self.wanted_end = data + bytes; }

    // The first of the pieces that `share` gives to the calling thread.
    int first(int pieces) const { return (int64_t)pieces * self.number / threads; }

    int count() const { return threads; }

    // The calling thread's place among those of the pool.
    static int number() { return self.number; }

    // Whether this process is a fork of the one that has the threads: only the thread that forked exists in it.
    bool forked() const { return getpid() != owner; }

private:
    struct alignas(64) Counter {
        std::atomic<int> next{0};
    };

    static inline thread_local PoolThread self;
    static constexpr int PATIENCE = 4000;  // pauses, some 100 microseconds

    void start() {
        if (threads == 1) return;
        {
            std::lock_guard<std::mutex> held(mutex);
            jobs.fetch_add(1, std::memory_order_release);
        }
        wake.notify_all();
    }

    void serve(int number) {
        self.number = number;
        for (unsigned done = 0;;) {
            for (int spins = 0; spins < PATIENCE && jobs.load(std::memory_order_acquire) == done; spins++) pause();
            if (jobs.load(std::memory_order_acquire) == done) {
                std::unique_lock<std::mutex> held(mutex);
                wake.wait(held, [&] { return jobs.load() != done; });
            }
            done++;
            if (!job) return;
            (*job)();
            barrier();
        }
    }

    const pid_t owner = getpid();
    int threads = 1;
    std::vector<Counter> taken;  // of each thread's pieces
    std::vector<std::thread> workers;
    std::mutex running, mutex;
    std::condition_variable wake;
    const std::function<void()>* job = nullptr;
    alignas(64) std::atomic<unsigned> jobs{0};
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<unsigned> turn{0};
};

// How a call ended; `native/build.py` has the errors that these stand for.
enum Status : int32_t { DONE, NO_MEMORY, FORKED, BAD_COLUMN, BAD_POSITION, BAD_HISTORY };

// What `make` makes, or null: no exception may cross into ctypes.
template <class Make> auto made(Make make) -> decltype(make()) {
    try {
        return make();
    } catch (...) {
        return nullptr;
    }
}

// What `work` returns. Only the calling thread may run out of memory: the others take what was allocated before.
template <class Work> Status guarded(const Pool& pool, Work work) {
    if (pool.forked()) return FORKED;
    try {
        return work();
    } catch (...) {
        return NO_MEMORY;
    }
}

}  // namespace fish
