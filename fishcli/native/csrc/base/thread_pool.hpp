// A thread pool whose threads run one function together and meet at barriers, some 300 times a frame.
//
// A thread that waits spins while the others are about to come, then yields, and sleeps where they are far behind, since
// another process or the quota of a container holds them up; and between two frames. Work is cut into
// pieces; each thread takes its own contiguous pieces first, since memory is read fastest in order, and then helps the
// others. So a core that another process uses as well delays nobody for long.
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

inline void spin_pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The calling thread in its pool.
struct PoolThread {
    int number = 0;
    const uint8_t *prefetched = nullptr, *prefetch_end = nullptr;
};

class ThreadPool {
public:
    // Where the system starts fewer threads, the pool works with those.
    explicit ThreadPool(int wanted) : next_pieces(wanted) {
        workers.reserve(wanted);
        try {
            for (int i = 1; i < wanted; i++) workers.emplace_back([this, i] { serve(i); });
        } catch (const std::exception&) {  // system_error, or no memory for its state
        }
        count = (int)workers.size() + 1;
    }

    ~ThreadPool() {
        job = nullptr;
        start();
        for (auto& worker : workers) worker.join();
    }

    // Run a function on every thread, the calling one included, and return when all are done. One caller at a time.
    void run(const std::function<void()>& function) {
        std::lock_guard<std::mutex> alone(running);
        job = &function;
        self.number = 0;
        start();
        function();
        barrier();
    }

    // Within `run`: hand out the pieces 0..pieces-1, each to one thread as `function(piece)`, then meet at a barrier.
    template <class Function> void parallel_for(int pieces, Function function) {
        const int number = self.number, threads = count;
        for (int i = 0; i < threads; i++) {
            const int owner = (number + i) % threads;
            const int begin = (int64_t)pieces * owner / threads, end = (int64_t)pieces * (owner + 1) / threads;
            auto& next = next_pieces[owner].value;
            for (int piece; (piece = begin + next.fetch_add(1, std::memory_order_relaxed)) < end;) function(piece);
        }
        barrier();
    }

    void barrier() {
        const unsigned now = generation.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
            arrived.store(0, std::memory_order_relaxed);
            for (auto& each : next_pieces) each.value.store(0, std::memory_order_relaxed);
            generation.store(now + 1);  // in one order with `sleeping`: a thread sees the new one, or is seen asleep
            if (sleeping.load()) {
                { std::lock_guard<std::mutex> held(mutex); }
                next_generation.notify_all();
            }
            return;
        }
        PoolThread& me = self;
        for (int spins = 0, yields = 0; generation.load(std::memory_order_acquire) == now; spins++)
            if (me.prefetched < me.prefetch_end) __builtin_prefetch(me.prefetched, 0, 2), me.prefetched += 64;
            else if (spins < SPINS) spin_pause();
            else if (yields++ < YIELDS) std::this_thread::yield();
            else sleep_until_after(now);
    }

    // Have the calling thread prefetch memory that it will read next while it waits at barriers.
    void prefetch_in_barrier(const uint8_t* data, size_t bytes) {
        self.prefetched = data, self.prefetch_end = data + bytes;
    }

    // The first of the pieces that `parallel_for` gives to the calling thread.
    int first_piece(int pieces) const { return (int64_t)pieces * self.number / count; }

    int threads() const { return count; }

    // The number of the calling thread in its pool, from 0.
    static int thread_number() { return self.number; }

    // Whether this process is a fork of the one that started the threads: the child has only the thread that forked.
    bool forked() const { return getpid() != owner; }

private:
    struct alignas(64) Counter {
        std::atomic<int> value{0};
    };

    static inline thread_local PoolThread self;
    static constexpr int SPINS = 4000;  // about 100 microseconds
    // Some 40 milliseconds, longer than another process keeps a core. Who sleeps sooner loses the core to it: after 500
    // the step took 1.25 times as long beside a busy process, after 4,000 1.8 times, after this as long as without.
    static constexpr int YIELDS = 100'000;

    void sleep_until_after(unsigned now) {
        std::unique_lock<std::mutex> held(mutex);
        sleeping.fetch_add(1);
        next_generation.wait(held, [&] { return generation.load() != now; });
        sleeping.fetch_sub(1, std::memory_order_relaxed);
    }

    void start() {
        if (count == 1) return;
        {
            std::lock_guard<std::mutex> held(mutex);
            jobs.fetch_add(1, std::memory_order_release);
        }
        wake.notify_all();
    }

    void serve(int number) {
        self.number = number;
        for (unsigned done = 0;;) {
            for (int spins = 0; spins < SPINS && jobs.load(std::memory_order_acquire) == done; spins++) spin_pause();
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
    int count = 1;
    std::vector<Counter> next_pieces;  // of each thread
    std::vector<std::thread> workers;
    std::mutex running, mutex;
    std::condition_variable wake, next_generation;
    const std::function<void()>* job = nullptr;
    alignas(64) std::atomic<unsigned> jobs{0};
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<unsigned> generation{0};  // of barriers
    std::atomic<int> sleeping{0};                     // threads, at the barrier
};

}  // namespace fish
