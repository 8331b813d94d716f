// The codec's decoder as native_codec.py describes it: it declares the same structures.
#pragma once
#include "ops/conv_kernel.hpp"

namespace fish {

// A block of ConvNeXt (arXiv:2201.03545). Its norm's weights and gamma are multiplied into `widen` and `narrow`.
struct ConvNeXt {
    const float* depthwise;  // (kernel, channels)
    const float* bias;
    Conv widen, narrow;
    int32_t kernel, channels;
};

struct Upsample {
    Conv conv;
    ConvNeXt block;
    int32_t rate;
};

struct Stage {
    Conv up;
    const Conv* convs;  // (kernels, dilations, 2)
    int32_t rate, channels;
};

struct Decoder {
    const Upsample* upsamples;
    const Stage* stages;
    Conv pre;
    const float* post;  // (taps, channels)
    float post_bias;
    int32_t upsample_count, stage_count, kernels, dilations, post_taps;
    float eps;
};

static_assert(sizeof(void*) != 8 || (sizeof(ConvNeXt) == 104 && sizeof(Stage) == 56), "no padding");

}  // namespace fish
