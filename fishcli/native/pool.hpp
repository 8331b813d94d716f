// Threads that run the same function side by side and meet at barriers, some 300 times a frame.
//
// They spin where the others are a moment late and sleep where they are not. Work is handed out in small pieces,
// so that a processor which another process uses too holds nobody up.
#pragma once
#include <atomic>
#include <condition_variable>
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

class Pool {
public:
    explicit Pool(int threads) : count(threads) {
        for (int i = 1; i < count; i++) workers.emplace_back([this] { serve(); });
    }

    ~Pool() {
        job = nullptr;
        start();
        for (auto& worker : workers) worker.join();
    }

    // Run a function on every thread, this one included; returns when all are done.
    void run(const std::function<void()>& function) {
        job = &function;
        start();
        function();
        barrier();
    }

    // Hand out 0..pieces-1 to the threads, each calling `function(piece)`; all meet at the end.
    template <class Function> void share(int pieces, Function function) {
        for (int piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) function(piece);
        barrier();
    }

    void barrier() {
        const unsigned now = turn.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
            arrived.store(0, std::memory_order_relaxed);
            next.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn.load(std::memory_order_acquire) == now; spins++)
            if (spins < PATIENCE) pause();
            else std::this_thread::yield();
    }

    const int count;

private:
    static constexpr int PATIENCE = 4000;  // pauses, some 100 microseconds

    void start() {
        if (count == 1) return;
        {
            std::lock_guard<std::mutex> held(mutex);
            jobs.fetch_add(1, std::memory_order_release);
        }
        wake.notify_all();
    }

    void serve() {
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

    std::vector<std::thread> workers;
    std::mutex mutex;
    std::condition_variable wake;
    const std::function<void()>* job = nullptr;
    alignas(64) std::atomic<unsigned> jobs{0};
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<int> next{0};
    alignas(64) std::atomic<unsigned> turn{0};
};

}  // namespace fish
