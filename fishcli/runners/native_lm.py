"""A model on a CPU, run by the C++ of `fishcli.native`: the structures that are passed, and a `Runner` over them.

Keys, values and activations are float32 whatever the weights are stored in.
"""

from __future__ import annotations

import ctypes
import operator
import weakref
from collections.abc import Iterable, Set
from ctypes import POINTER, byref, c_float, c_int32, c_int64, c_void_p
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn

from fishcli.lm.kv_cache import KVCache
from fishcli.lm.model import Block, Transformer
from fishcli.lm.quantize import Linear, QuantizedLinear
from fishcli.lm.sampling import WINDOW
from fishcli.lm.settings import StackSettings
from fishcli.native import build
from fishcli.runners.base import Batch

_NAME = "language model"
_FORMATS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}  # `Format` in product.hpp


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("data", "bias")),
        *((name, c_int32) for name in ("rows", "cols", "format", "tile")),
    ]


class _Source(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("weights", "scales")),
        *((name, c_int32) for name in ("stride", "scale_stride")),
    ]


class _Table(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("rows", c_int64), ("cols", c_int32), ("format", c_int32)]


class _Block(ctypes.Structure):
    _fields_ = [
        ("attention_norm", c_void_p),
        *((name, _Matrix) for name in ("wqkv", "wo")),
        ("ffn_norm", c_void_p),
        *((name, _Matrix) for name in ("w13", "w2")),
    ]


class _Stack(ctypes.Structure):
    _fields_ = [
        *((name, c_int32) for name in ("layers", "dim", "heads", "kv_heads", "head_dim", "inner")),
        ("eps", c_float),
        ("blocks", POINTER(_Block)),
        ("rotation", c_void_p),
        ("positions", c_int32),
    ]


_INTEGERS = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_FLOATS = frozenset({torch.bfloat16, torch.float16, torch.float32, torch.float64})

_TABLES = ("embeddings", "codebook_embeddings", "fast_embeddings")
_MATRICES = ("output", "fast_project_in", "fast_output")


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _Stack) for name in ("slow", "fast")),
        *((name, _Table) for name in _TABLES),
        *((name, _Matrix) for name in _MATRICES),
        *((name, c_void_p) for name in ("norm", "fast_norm")),
        ("semantic", c_int64),
        *((name, c_int32) for name in ("codebooks", "codebook_size", "codes", "window")),
    ]


class _KVCache(ctypes.Structure):
    _fields_ = [("keys", c_void_p), ("values", c_void_p), ("positions", c_int64)]


class _Rows(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("columns", "slots", "positions", "history", "params", "uniforms")),
        ("count", c_int32),
    ]


class Native:
    """A `Runner`. Raises `build.Unavailable` where the library or a shape that it needs is not there."""

    exact = True

    def __init__(self, model: Transformer, threads: int) -> None:
        self.model = model
        s = model.settings
        if any(each % 4 for stack in (s.slow, s.fast) for each in (stack.dim, stack.qkv)):
            raise build.Unavailable("the model's dimensions are not multiples of 4")
        self._library, pool = _bound(build.load()), build.pool(threads)
        self._kept: list[object] = []  # what the structures point to
        self._packed = _Packed(self._library, pool, model)
        self._runner = c_void_p(_had(self._library.fish_lm_new(byref(self._described()), pool)))
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
        slot = _index("slot", slot, cache.positions)
        start = _index("start", start, self.model.settings.max_seq_len)
        if len(columns):
            given = self._runner, columns.data_ptr(), len(columns), byref(described), slot, start, hidden
            build.check(self._library.fish_lm_prefill(*given), _NAME)

    def step(self, cache: KVCache, batch: Batch) -> tuple[Tensor, Tensor]:
        columns, count, k = self._columns(batch.columns), len(batch.columns), self.model.settings.codebooks
        given = [
            columns,
            _integers("slots", batch.slots, count),
            _integers("positions", batch.positions, count),
            _integers("history", batch.history, count, k, WINDOW),
            torch.stack([_floats(name, each, count) for name, each in batch.params._asdict().items()], dim=1),
            _floats("uniforms", batch.uniforms, count, k),
        ]
        described, described_cache = _Rows(*map(Tensor.data_ptr, given), count), self._described_cache(cache)
        if count > cache.positions:
            raise ValueError(f"{count} sequences have no room in a KV cache of {cache.positions} positions")
        next_columns, choices = torch.empty_like(columns), columns.new_empty(count, k)
        if count:
            result = next_columns.data_ptr(), choices.data_ptr()
            build.check(
                self._library.fish_lm_step(self._runner, byref(described), byref(described_cache), *result), _NAME
            )
        return next_columns, choices

    def _columns(self, columns: Tensor) -> Tensor:
        return _integers("columns", columns, None, self.model.settings.codebooks + 1)

    def _described_cache(self, cache: KVCache) -> _KVCache:
        s = self.model.settings.slow
        for tensor in (cache.keys, cache.values):
            if _stored("KV cache", tensor, {torch.float32}).shape != (
                s.layers,
                s.kv_heads,
                cache.positions,
                s.head_dim,
            ):
                raise ValueError(f"The KV cache is not one of this model: {tuple(tensor.shape)}")
            if not tensor.is_contiguous():
                raise ValueError("The KV cache is not contiguous")
        return _KVCache(cache.keys.data_ptr(), cache.values.data_ptr(), cache.positions)

    def _described(self) -> _Model:
        m, s = self.model, self.model.settings
        return _Model(
            slow=self._stack(s.slow, m.layers, m.rotation),
            fast=self._stack(s.fast, m.fast_layers, m.fast_rotation),
            norm=self._floats(m.norm.weight),
            fast_norm=self._floats(m.fast_norm.weight),
            semantic=m.semantic,
            codebooks=s.codebooks,
            codebook_size=s.codebook_size,
            codes=m.codes,
            window=WINDOW,
            **{name: self._table(getattr(m, name).weight) for name in _TABLES},
            **{name: self._matrix(getattr(m, name, None)) for name in _MATRICES},
        )

    def _stack(self, s: StackSettings, blocks: Iterable[nn.Module], rotation: Tensor) -> _Stack:
        described = (_Block * s.layers)(*(self._block(cast(Block, block)) for block in blocks))
        self._kept.append(described)
        return _Stack(
            *(s.layers, s.dim, s.heads, s.kv_heads, s.head_dim, s.inner, s.eps),
            described,
            self._floats(rotation),
            len(rotation),
        )

    def _block(self, block: Block) -> _Block:
        attention, feed_forward = block.attention, block.feed_forward
        described = _Block(
            self._floats(block.attention_norm.weight),
            self._matrix(attention.wqkv),
            self._matrix(attention.wo),
            self._floats(block.ffn_norm.weight),
            self._matrix(feed_forward.w13),
            self._matrix(feed_forward.w2),
        )
        # At once: there is no room for all matrices twice.
        build.forget((tensor.data_ptr(), tensor.nbytes) for tensor in block.parameters())
        return described

    def _matrix(self, layer: nn.Module | None) -> _Matrix:
        if not _linear(layer):
            return _Matrix()
        matrix = self._packed.matrix(layer)
        matrix.bias = None if layer.bias is None else self._floats(layer.bias)
        return matrix

    def _table(self, weight: Tensor) -> _Table:
        return _Table(self._pointer(weight), *weight.shape, _FORMATS[weight.dtype])

    def _floats(self, tensor: Tensor) -> int:
        return self._pointer(tensor.float())

    def _pointer(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


class _Packed:
    """The matrices of a model, in the order in which the C++ reads them and in large pages of memory.

    (The processor looks up the place of each page, and with those of 4 KB, that takes a tenth of a frame in bfloat16.)
    """

    def __init__(self, library: ctypes.CDLL, pool: c_void_p, model: nn.Module) -> None:
        self._library, self._pool = library, pool
        size = sum(self._size(layer) for layer in model.modules() if _linear(layer))
        self._next = _had(library.fish_pages_new(size))
        weakref.finalize(self, library.fish_pages_delete, self._next).atexit = False

    def matrix(self, layer: Linear | QuantizedLinear) -> _Matrix:
        """Pack one of those that the model had when this was made."""
        weight, scales = layer.weight.contiguous(), _scales(layer)
        matrix = _Matrix(data=self._next, rows=len(weight), cols=_inputs(layer), format=_FORMATS[weight.dtype])
        self._next += self._size(layer)
        source = _Source(weights=weight.data_ptr(), stride=weight.stride(0) * weight.itemsize)
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


def _integers(name: str, tensor: Tensor, *shape: int | None) -> Tensor:
    """Return a tensor of a shape, None for any size, as contiguous int64. Raises ValueError."""
    return _shaped(name, _stored(name, tensor, _INTEGERS), shape).to(torch.int64).contiguous()


def _floats(name: str, tensor: Tensor, *shape: int | None) -> Tensor:
    """Return a tensor of a shape as contiguous float32. Raises ValueError."""
    return _shaped(name, _stored(name, tensor, _FLOATS), shape).to(torch.float32).contiguous()


def _stored(name: str, tensor: Tensor, dtypes: Set[torch.dtype]) -> Tensor:
    """Return a tensor whose memory can be read. Raises ValueError."""
    if not isinstance(tensor, Tensor) or tensor.dtype not in dtypes:
        raise ValueError(f"{name}: not a tensor of {', '.join(sorted(map(str, dtypes)))}")
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        raise ValueError(f"{name}: not a dense tensor on the CPU")
    return tensor


def _shaped(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> Tensor:
    if len(tensor.shape) != len(shape) or any(
        wanted not in (None, size) for size, wanted in zip(tensor.shape, shape, strict=True)
    ):
        raise ValueError(f"{name}: shape {tuple(tensor.shape)} in place of {shape}")
    return tensor


def _index(name: str, value: object, most: int) -> int:
    try:
        index = operator.index(value)  # type: ignore[arg-type]  # what is no number is a TypeError
    except TypeError as error:
        raise ValueError(f"{name}: {value!r} is no whole number") from error
    if not 0 <= index <= most:
        raise ValueError(f"{name}: {index} does not lie from 0 to {most}")
    return index


def _had(address: int) -> int:
    """Return an address of the library, which is null where it had no memory."""
    if not address:
        raise MemoryError(f"There is no memory left for the {_NAME}.")
    return address


def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions declared."""
    pointer, number, status = c_void_p, ctypes.c_int, c_int32
    for name, result, arguments in (
        ("packed_size", c_int64, [number] * 3),
        ("pack", status, [pointer, POINTER(_Matrix), POINTER(_Source)]),
        ("new", pointer, [POINTER(_Model), pointer]),
        ("delete", None, [pointer]),
        ("prefill", status, [pointer, pointer, number, POINTER(_KVCache), c_int64, number, pointer]),
        ("step", status, [pointer, POINTER(_Rows), POINTER(_KVCache), pointer, pointer]),
    ):
        function = getattr(library, f"fish_lm_{name}")
        function.restype, function.argtypes = result, arguments
    library.fish_pages_new.restype, library.fish_pages_new.argtypes = pointer, [c_int64]
    library.fish_pages_delete.restype, library.fish_pages_delete.argtypes = None, [pointer]
    return library
