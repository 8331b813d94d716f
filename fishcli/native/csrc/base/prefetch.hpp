// Prefetch of weights: a hardware prefetcher looks ahead less far than memory is late, and stops at the end of a page.
#pragma once
#include <cstdint>

namespace fish {

constexpr int FAR = 16 << 10;  // bytes ahead of their use at which weights are fetched from memory into the L2 cache
constexpr int NEAR = 4 << 10;  // and from there into the L1 cache

// Prefetches for one of the `parts` passes that go over a tile one after another. Each pass fetches its share of the
// next tiles from memory, so that memory is never idle; the first brings the tile itself into the L1 cache.
class Prefetcher {
public:
    explicit Prefetcher(const uint8_t* tile) : Prefetcher(tile, 0, 0, 1) {}
    Prefetcher(const uint8_t* tile, int bytes, int part, int parts)
        : far(tile + FAR + bytes / parts * part), parts(parts), first(part == 0) {}

    // Call it with the next BYTES of the tile, which are at p.
    template <int BYTES> inline void next(const uint8_t* p) {
        const int share = BYTES / parts;
        for (int i = 0; i < BYTES; i += 64) {
            if (i < share) __builtin_prefetch(far + i, 0, 2);
            if (first) __builtin_prefetch(p + NEAR + i, 0, 3);
        }
        far += share;
    }

private:
    const uint8_t* far;
    const int parts;
    const bool first;
};

}  // namespace fish
