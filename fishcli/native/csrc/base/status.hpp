// How a call from Python ended. No exception crosses ctypes.
#pragma once
#include <cstdint>

#include "base/thread_pool.hpp"

namespace fish {

// `check` in native/build.py raises the errors that these stand for.
enum Status : int32_t { DONE, NO_MEMORY, FORKED, BAD_COLUMN, BAD_POSITION, BAD_HISTORY };

// A new object, or null where there is no memory.
template <class Make> auto made(Make make) -> decltype(make()) {
    try {
        return make();
    } catch (...) {
        return nullptr;
    }
}

// The status of a call that uses a thread pool. Only the calling thread may run out of memory: the others work in what
// it allocated before they started.
template <class Call> Status guarded(const ThreadPool& pool, Call call) {
    if (pool.forked()) return FORKED;
    try {
        return call();
    } catch (...) {
        return NO_MEMORY;
    }
}

}  // namespace fish
