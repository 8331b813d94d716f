// Having memory brought before it is needed.
#pragma once
#include <cstdint>

namespace fish {

// Bytes before their use at which weights are fetched from memory, and then from the second cache: the processor by
// itself is more timid, and stops at the end of a page.
constexpr int FAR = 16 << 10, NEAR = 4 << 10;

// Fetches ahead of a product that goes over a tile, of which it is one of `parts` that do: each fetches its share of
// what comes from memory, evenly, so that there is always something on the way; the first brings the tile itself near.
class Fetcher {
public:
    explicit Fetcher(const uint8_t* tile) : Fetcher(tile, 0, 0, 1) {}
    Fetcher(const uint8_t* tile, int bytes, int part, int parts)
        : far(tile + FAR + bytes / parts * part), parts(parts), first(part == 0) {}

    // With the next BYTES of the tile, which are at p.
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
