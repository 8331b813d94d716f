"""The structures that Python passes to the C++, under the names that they have there; `build` compares their sizes."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from typing import Any

FORMATS = ("float32", "bfloat16", "int8", "uint8")  # of weights, by number: `Format` in ops/matrix.hpp


def _fields(kind: Any, *names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names]


class Matrix(ctypes.Structure):
    """A packed weight: ops/matrix.hpp."""

    _fields_ = [*_fields(c_void_p, "data", "bias"), *_fields(c_int32, "rows", "cols", "format", "tile")]


class WeightSource(ctypes.Structure):
    """A weight as PyTorch stores it."""

    _fields_ = [*_fields(c_void_p, "weights", "scales"), *_fields(c_int32, "stride", "scale_stride")]


class Embedding(ctypes.Structure):
    """An embedding table."""

    _fields_ = [("data", c_void_p), ("rows", c_int64), *_fields(c_int32, "cols", "format")]


class Block(ctypes.Structure):
    """A transformer block."""

    _fields_ = [
        ("attention_norm", c_void_p),
        *_fields(Matrix, "wqkv", "wo"),
        ("ffn_norm", c_void_p),
        *_fields(Matrix, "w13", "w2"),
    ]


class Stack(ctypes.Structure):
    """The slow or the fast transformer."""

    _fields_ = [
        *_fields(c_int32, "layers", "dim", "heads", "kv_heads", "head_dim", "inner"),
        ("eps", c_float),
        ("blocks", POINTER(Block)),
        ("rotation", c_void_p),
        ("positions", c_int32),
    ]


class Model(ctypes.Structure):
    """A language model."""

    _fields_ = [
        *_fields(Stack, "slow", "fast"),
        *_fields(Embedding, "embeddings", "codebook_embeddings", "fast_embeddings"),
        *_fields(Matrix, "output", "fast_project_in", "fast_output"),
        *_fields(c_void_p, "norm", "fast_norm"),
        ("semantic", c_int64),
        *_fields(c_int32, "codebooks", "codebook_size", "codes", "window"),
    ]


class KVCache(ctypes.Structure):
    """The keys and values of all slots."""

    _fields_ = [*_fields(c_void_p, "keys", "values"), ("positions", c_int64)]


class Batch(ctypes.Structure):
    """The input of a decode step."""

    _fields_ = [
        *_fields(c_void_p, "columns", "slots", "positions", "history", "params", "uniforms"),
        ("count", c_int32),
    ]


class Conv(ctypes.Structure):
    """A convolution of the decoder: ops/conv_kernel.hpp."""

    _fields_ = [*_fields(c_void_p, "weights", "bias"), *_fields(c_int32, "in", "out", "taps", "dilation", "points")]


class ConvNeXt(ctypes.Structure):
    """A block of the quantizer's upsampling."""

    _fields_ = [
        *_fields(c_void_p, "depthwise", "bias"),
        *_fields(Conv, "widen", "narrow"),
        *_fields(c_int32, "kernel", "channels"),
    ]


class Upsample(ctypes.Structure):
    """A transposed convolution and a block of ConvNeXt."""

    _fields_ = [("conv", Conv), ("block", ConvNeXt), ("rate", c_int32)]


class Stage(ctypes.Structure):
    """A transposed convolution and residual blocks."""

    _fields_ = [("up", Conv), ("convs", POINTER(Conv)), *_fields(c_int32, "rate", "channels")]


class Decoder(ctypes.Structure):
    """The codec's decoder."""

    _fields_ = [
        ("upsamples", POINTER(Upsample)),
        ("stages", POINTER(Stage)),
        ("pre", Conv),
        ("post", c_void_p),
        ("post_bias", c_float),
        *_fields(c_int32, "upsample_count", "stage_count", "kernels", "dilations", "post_taps"),
        ("eps", c_float),
    ]


ALL: tuple[type[ctypes.Structure], ...] = (
    *(Matrix, WeightSource, Embedding, Block, Stack, Model, KVCache, Batch),
    *(Conv, ConvNeXt, Upsample, Stage, Decoder),
)
