"""The language model on a CPU, executed by the C++ of `fishcli.native`.

Keys, values and activations are float32 whatever the weights are stored in.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable
from ctypes import POINTER, byref, c_int32, c_int64, c_void_p
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn

from fishcli.lm.kv_cache import KVCache
from fishcli.lm.model import Block, Transformer
from fishcli.lm.quantize import Linear, QuantizedLinear
from fishcli.lm.sampling import WINDOW
from fishcli.lm.settings import StackSettings
from fishcli.native import build, structs
from fishcli.runners import native_inputs as inputs
from fishcli.runners.base import Batch

_NAME = "language model"
_FORMATS = {getattr(torch, name): number for number, name in enumerate(structs.FORMATS)}
_EMBEDDINGS = ("embeddings", "codebook_embeddings", "fast_embeddings")
_MATRICES = ("output", "fast_project_in", "fast_output")


class Native:
    """A `Runner`. Raises `build.Unavailable` where the library is missing or the model's shape is not supported.

    Its methods raise ValueError for a tensor of the wrong shape or dtype, and for an index that is out of range.
    """

    exact = True
    block = 96  # columns: Ctrl-C takes effect within 200 ms

    def __init__(self, model: Transformer, threads: int) -> None:
        self.model = model
        s = model.settings
        if any(each % 4 for stack in (s.slow, s.fast) for each in (stack.dim, stack.qkv)):
            raise build.Unavailable("the model's dimensions are not multiples of 4")
        self._library, pool = _declared(build.load()), build.pool(threads)
        self._kept: list[object] = []  # the memory that the structures point to
        self._packed = _PackedWeights(self._library, pool, model)
        self._runner = c_void_p(_allocated(self._library.fish_lm_new(byref(self._described()), pool)))
        # Not at exit: another thread may be in the middle of a step.
        weakref.finalize(self, self._library.fish_lm_delete, self._runner).atexit = False

    def cache(self, positions: int) -> KVCache:
        return KVCache(self.model.settings.slow, positions, torch.float32, self.model.device)

    def prefill(self, columns: Tensor, cache: KVCache, slot: int, start: int) -> None:
        self._prefill(self._columns(columns), cache, slot, start, None)

    def hidden(self, columns: Tensor, cache: KVCache, slot: int, start: int) -> Tensor:
        columns = self._columns(columns)
        hidden = torch.empty(len(columns), self.model.settings.slow.dim)
        self._prefill(columns, cache, slot, start, hidden.data_ptr())
        return hidden.to(self.model.norm.weight.dtype)

    def _prefill(self, columns: Tensor, cache: KVCache, slot: int, start: int, hidden: int | None) -> None:
        described = self._described_cache(cache)
        slot = inputs.index("slot", slot, cache.positions)
        start = inputs.index("start", start, self.model.settings.max_seq_len)
        if len(columns):
            given = self._runner, columns.data_ptr(), len(columns), byref(described), slot, start, hidden
            build.check(self._library.fish_lm_prefill(*given), _NAME)

    def step(self, cache: KVCache, batch: Batch) -> tuple[Tensor, Tensor]:
        columns, described_cache = self._columns(batch.columns), self._described_cache(cache)
        count, k = len(columns), self.model.settings.codebooks
        if count > cache.positions:
            raise ValueError(f"columns: {count} sequences have no room in a KV cache of {cache.positions} positions")
        given = [
            columns,
            inputs.integers("slots", batch.slots, count),
            inputs.integers("positions", batch.positions, count),
            inputs.integers("history", batch.history, count, k, WINDOW),
            torch.stack([inputs.floats(name, each, count) for name, each in batch.params._asdict().items()], dim=1),
            inputs.floats("uniforms", batch.uniforms, count, k),
        ]
        next_columns, choices = torch.empty_like(columns), columns.new_empty(count, k)
        if count:
            described = structs.Batch(*map(Tensor.data_ptr, given), count)
            result = next_columns.data_ptr(), choices.data_ptr()
            status = self._library.fish_lm_step(self._runner, byref(described), byref(described_cache), *result)
            build.check(status, _NAME)
        return next_columns, choices

    def _columns(self, columns: Tensor) -> Tensor:
        return inputs.integers("columns", columns, None, self.model.settings.codebooks + 1)

    def _described_cache(self, cache: KVCache) -> structs.KVCache:
        s = self.model.settings.slow
        for tensor in (cache.keys, cache.values):
            inputs.contiguous("KV cache", tensor, s.layers, s.kv_heads, cache.positions, s.head_dim)
        return structs.KVCache(cache.keys.data_ptr(), cache.values.data_ptr(), cache.positions)

    def _described(self) -> structs.Model:
        m, s = self.model, self.model.settings
        return structs.Model(
            slow=self._stack(s.slow, m.layers, m.rotation),
            fast=self._stack(s.fast, m.fast_layers, m.fast_rotation),
            norm=self._floats(m.norm.weight),
            fast_norm=self._floats(m.fast_norm.weight),
            semantic=m.semantic,
            codebooks=s.codebooks,
            codebook_size=s.codebook_size,
            codes=m.codes,
            window=WINDOW,
            **{name: self._embedding(getattr(m, name).weight) for name in _EMBEDDINGS},
            **{name: self._matrix(getattr(m, name, None)) for name in _MATRICES},
        )

    def _stack(self, s: StackSettings, blocks: Iterable[nn.Module], rotation: Tensor) -> structs.Stack:
        described = (structs.Block * s.layers)(*(self._block(cast(Block, block)) for block in blocks))
        self._kept.append(described)
        sizes = (s.layers, s.dim, s.heads, s.kv_heads, s.head_dim, s.inner)
        return structs.Stack(*sizes, s.eps, described, self._floats(rotation), len(rotation))

    def _block(self, block: Block) -> structs.Block:
        attention, feed_forward = block.attention, block.feed_forward
        described = structs.Block(
            self._floats(block.attention_norm.weight),
            self._matrix(attention.wqkv),
            self._matrix(attention.wo),
            self._floats(block.ffn_norm.weight),
            self._matrix(feed_forward.w13),
            self._matrix(feed_forward.w2),
        )
        # Block by block: the weights need not fit into memory twice.
        build.forget((tensor.data_ptr(), tensor.nbytes) for tensor in block.parameters())
        return described

    def _matrix(self, layer: nn.Module | None) -> structs.Matrix:
        if not _linear(layer):
            return structs.Matrix()
        matrix = self._packed.matrix(layer)
        matrix.bias = None if layer.bias is None else self._floats(layer.bias)
        return matrix

    def _embedding(self, weight: Tensor) -> structs.Embedding:
        return structs.Embedding(self._pointer(weight), *weight.shape, _FORMATS[weight.dtype])

    def _floats(self, tensor: Tensor) -> int:
        return self._pointer(tensor.float())

    def _pointer(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


class _PackedWeights:
    """The matrices of a model in the layout of ops/matrix.hpp, in huge pages.

    (With pages of 4 KB, address translation takes a tenth of a frame in bfloat16.)
    """

    def __init__(self, library: ctypes.CDLL, pool: c_void_p, model: nn.Module) -> None:
        self._library, self._pool = library, pool
        size = sum(self._size(layer) for layer in model.modules() if _linear(layer))
        self._next = _allocated(library.fish_pages_new(size))
        weakref.finalize(self, library.fish_pages_delete, self._next).atexit = False

    def matrix(self, layer: Linear | QuantizedLinear) -> structs.Matrix:
        """Pack a layer that the model had when this was made."""
        weight, scales = layer.weight.contiguous(), _scales(layer)
        matrix = structs.Matrix(data=self._next, rows=len(weight), cols=_inputs(layer), format=_FORMATS[weight.dtype])
        self._next += self._size(layer)
        source = structs.WeightSource(weights=weight.data_ptr(), stride=weight.stride(0) * weight.itemsize)
        if scales is not None:
            source.scales, source.scale_stride = scales.data_ptr(), scales.stride(0)
        build.check(self._library.fish_lm_pack(self._pool, byref(matrix), byref(source)), _NAME)
        return matrix

    def _size(self, layer: Linear | QuantizedLinear) -> int:
        return int(self._library.fish_lm_packed_size(_FORMATS[layer.weight.dtype], len(layer.weight), _inputs(layer)))


def _linear(layer: nn.Module | None) -> TypeGuard[Linear | QuantizedLinear]:
    return isinstance(layer, (Linear, QuantizedLinear))


def _inputs(layer: Linear | QuantizedLinear) -> int:
    return layer.inp if isinstance(layer, QuantizedLinear) else layer.weight.shape[1]


def _scales(layer: Linear | QuantizedLinear) -> Tensor | None:
    return layer.scales.contiguous() if isinstance(layer, QuantizedLinear) else None


def _allocated(address: int | None) -> int:
    """Return an address from the library, which is null where there was no memory."""
    if not address:
        raise MemoryError(f"There is no memory left for the {_NAME}.")
    return address


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the types of the library's functions, and return it."""
    pointer, number, status, cache = c_void_p, ctypes.c_int, c_int32, POINTER(structs.KVCache)
    for name, result, arguments in (
        ("lm_packed_size", c_int64, [number] * 3),
        ("lm_pack", status, [pointer, POINTER(structs.Matrix), POINTER(structs.WeightSource)]),
        ("lm_new", pointer, [POINTER(structs.Model), pointer]),
        ("lm_delete", None, [pointer]),
        ("lm_prefill", status, [pointer, pointer, number, cache, c_int64, number, pointer]),
        ("lm_step", status, [pointer, POINTER(structs.Batch), cache, pointer, pointer]),
        ("pages_new", pointer, [c_int64]),
        ("pages_delete", None, [pointer]),
    ):
        function = getattr(library, f"fish_{name}")
        function.restype, function.argtypes = result, arguments
    return library
