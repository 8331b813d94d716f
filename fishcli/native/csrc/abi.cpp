// The sizes of the structures that Python passes: native/build.py compares them with its own when it loads the library.
#include "codec/model.hpp"
#include "lm/model.hpp"

namespace fish {
namespace {

struct StructSize {
    const char* name;
    int64_t bytes;
};

#define FISH_SIZE(name) {#name, sizeof(name)}
constexpr StructSize SIZES[] = {
    FISH_SIZE(Matrix), FISH_SIZE(WeightSource), FISH_SIZE(Embedding), FISH_SIZE(Block),    FISH_SIZE(Stack),
    FISH_SIZE(Model),  FISH_SIZE(KVCache),      FISH_SIZE(Batch),     FISH_SIZE(Conv),     FISH_SIZE(ConvNeXt),
    FISH_SIZE(Stage),  FISH_SIZE(Upsample),     FISH_SIZE(Decoder),
};
#undef FISH_SIZE

}  // namespace
}  // namespace fish

// The size of a structure in bytes, or -1 for a name that is not there.
extern "C" int64_t fish_struct_size(const char* name) {
    for (const auto& each : fish::SIZES)
        if (!std::strcmp(each.name, name)) return each.bytes;
    return -1;
}
