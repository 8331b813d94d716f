"""A model on a CPU, run by the C++ of `fishcli.native`: the structures that are passed, and a `Runner` over them.

Keys, values and activations are float32 whatever the weights are stored in.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable
from ctypes import POINTER, byref, c_float, c_int32, c_int64, c_void_p
from typing import Any, cast

import torch
from torch import Tensor, nn

from fishcli import native
from fishcli.device import SMALL
from fishcli.lm.quantize import QuantizedLinear
from fishcli.lm.sampling import WINDOW
from fishcli.lm.settings import StackSettings
from fishcli.lm.step import Rows
from fishcli.lm.transformer import Block, Past, Transformer

_FORMATS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}  # `Format` in product.hpp


_LEAST = 1 << 18  # bytes, below which a weight is not worth moving
_LINE = 64  # bytes that the processor's cache fetches at once


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("data", "scales", "bias")),
        *((name, c_int32) for name in ("rows", "cols", "format", "stride", "scale_stride")),
    ]


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
    ]


_MATRICES = ("embeddings", "codebook_embeddings", "output", "project_in", "fast_embeddings", "fast_output")


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _Stack) for name in ("slow", "fast")),
        *((name, _Matrix) for name in _MATRICES),
        *((name, c_void_p) for name in ("norm", "fast_norm")),
        ("semantic", c_int64),
        *((name, c_int32) for name in ("codebooks", "codebook_size", "codes", "window")),
    ]


class _Past(ctypes.Structure):
    _fields_ = [("keys", c_void_p), ("values", c_void_p), ("rows", c_int32), ("length", c_int32)]


class _Rows(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("columns", "positions", "history", "knobs", "noise")),
        ("count", c_int32),
    ]


class Native:
    """A `Runner`. Raises `native.Unavailable` where the library or a shape that it needs is not there."""

    def __init__(self, model: Transformer, threads: int) -> None:
        self.model = model
        s = model.settings
        if any(each % 4 for stack in (s.slow, s.fast) for each in (stack.dim, stack.qkv)):
            raise native.Unavailable("the model's dimensions are not multiples of 4")
        self._library, pool = _bound(native.load()), native.pool(threads)
        self._kept: list[object] = []  # what the structures point to
        self._pages = _Pages(self._library, model)
        self._runner = c_void_p(self._library.fish_lm_new(byref(self._described()), pool))
        weakref.finalize(self, self._library.fish_lm_delete, self._runner)

    def past(self, rows: int, length: int) -> Past:
        return Past(self.model.settings.slow, rows, length, torch.float32, self.model.device)

    def prefill(self, columns: Tensor, past: Past, row: int, start: int) -> Tensor:
        columns = columns.to(torch.int64).contiguous()
        hidden = torch.empty(len(columns), self.model.settings.slow.dim)
        self._library.fish_lm_prefill(
            self._runner,
            columns.data_ptr(),
            len(columns),
            byref(_described_past(past)),
            row,
            start,
            hidden.data_ptr(),
        )
        return hidden.to(self.model.norm.weight.dtype)

    def step(self, past: Past, rows: Rows) -> tuple[Tensor, Tensor]:
        integers = (each.to(torch.int64).contiguous() for each in (rows.columns, rows.positions, rows.history))
        given = [*integers, torch.stack(rows.knobs, dim=1).contiguous(), rows.noise.contiguous()]
        described = _Rows(*(tensor.data_ptr() for tensor in given), len(rows.columns))
        columns, choices = torch.empty_like(given[0]), given[0].new_empty(rows.noise.shape)
        self._library.fish_lm_step(
            self._runner, byref(described), byref(_described_past(past)), columns.data_ptr(), choices.data_ptr()
        )
        return columns, choices

    def _described(self) -> _Model:
        m, s = self.model, self.model.settings
        project_in = self._matrix(m.fast_project_in) if s.fast.dim != s.slow.dim else _Matrix()
        matrices = {
            **{name: self._matrix(getattr(m, name)) for name in _MATRICES if name != "project_in"},
            "project_in": project_in,
        }
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
            **matrices,
        )

    def _stack(self, s: StackSettings, blocks: Iterable[nn.Module], rotation: Tensor) -> _Stack:
        described = (_Block * s.layers)(*(self._block(cast(Block, block)) for block in blocks))
        self._kept.append(described)
        return _Stack(
            s.layers, s.dim, s.heads, s.kv_heads, s.head_dim, s.inner, s.eps, described, self._floats(rotation)
        )

    def _block(self, block: Block) -> _Block:
        attention, feed_forward = block.attention, block.feed_forward
        return _Block(
            self._floats(block.attention_norm.weight),
            self._matrix(attention.wqkv),
            self._matrix(attention.wo),
            self._floats(block.ffn_norm.weight),
            self._matrix(feed_forward.w13),
            self._matrix(feed_forward.w2),
        )

    def _matrix(self, layer: Any) -> _Matrix:
        weight, scales, bias = layer.weight, getattr(layer, "scales", None), getattr(layer, "bias", None)
        return _Matrix(
            data=self._pages.moved(weight) or self._pointer(weight),
            scales=None if scales is None else self._pointer(scales),
            bias=None if bias is None else self._floats(bias),
            rows=len(weight),
            cols=layer.inp if isinstance(layer, QuantizedLinear) else weight.shape[1],
            format=_FORMATS[weight.dtype],
            stride=weight.stride(0) * weight.itemsize,
            scale_stride=0 if scales is None else scales.stride(0),
        )

    def _floats(self, tensor: Tensor) -> int:
        return self._pointer(tensor.float())

    def _pointer(self, tensor: Tensor) -> int:
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


class _Pages:
    """Large pages for the matrices of a large model's blocks, which are read for every frame.

    The processor looks up the place of each page of memory; with the usual ones, of 4 KB, that takes a tenth of a
    frame in bfloat16 and a twentieth in int8. What is mapped from a file cannot have large ones, so it moves.
    """

    def __init__(self, library: ctypes.CDLL, model: Transformer) -> None:
        self._library, self._used = library, 0
        blocks = [*model.layers.parameters(), *model.fast_layers.parameters()]
        self._weights = {weight.data_ptr() for weight in blocks if weight.nbytes >= _LEAST}
        self._size = sum(_rounded(weight.nbytes) for weight in blocks if weight.nbytes >= _LEAST)
        self._start = library.fish_pages_new(self._size) if self._size > SMALL else None
        if self._start:
            weakref.finalize(self, library.fish_pages_delete, self._start)

    def moved(self, weight: Tensor) -> int | None:
        """Where a weight lies now; None where it stays."""
        if not self._start or weight.data_ptr() not in self._weights or not weight.is_contiguous():
            return None
        place = self._start + self._used
        self._used += _rounded(weight.nbytes)
        self._library.fish_move(place, weight.data_ptr(), weight.nbytes)
        return int(place)


def _rounded(size: int) -> int:
    return -(-size // _LINE) * _LINE


def _described_past(past: Past) -> _Past:
    return _Past(past.keys.data_ptr(), past.values.data_ptr(), past.rows, past.length)


def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions declared."""
    pointer, number = c_void_p, ctypes.c_int
    for name, result, arguments in (
        ("new", pointer, [POINTER(_Model), pointer]),
        ("delete", None, [pointer]),
        ("prefill", None, [pointer, pointer, number, POINTER(_Past), number, number, pointer]),
        ("step", None, [pointer, POINTER(_Rows), POINTER(_Past), pointer, pointer]),
    ):
        function = getattr(library, f"fish_lm_{name}")
        function.restype, function.argtypes = result, arguments
    library.fish_pages_new.restype, library.fish_pages_new.argtypes = pointer, [c_int64]
    library.fish_pages_delete.restype, library.fish_pages_delete.argtypes = None, [pointer]
    library.fish_move.restype, library.fish_move.argtypes = None, [pointer, pointer, c_int64]
    return library
