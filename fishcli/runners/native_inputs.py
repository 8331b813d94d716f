"""Checks of what is passed to the C++ by address: each raises ValueError, and takes a few microseconds."""

from __future__ import annotations

import operator
from collections.abc import Set

import torch
from torch import Tensor

_INTEGERS = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_FLOATS = frozenset({torch.bfloat16, torch.float16, torch.float32, torch.float64})


def integers(name: str, tensor: Tensor, *shape: int | None) -> Tensor:
    """Return a tensor of a shape, where None stands for any size, as contiguous int64."""
    _check(name, tensor, _INTEGERS, shape)
    return tensor.to(torch.int64).contiguous()


def floats(name: str, tensor: Tensor, *shape: int | None) -> Tensor:
    """Return a tensor of a shape as contiguous float32."""
    _check(name, tensor, _FLOATS, shape)
    return tensor.to(torch.float32).contiguous()


def contiguous(name: str, tensor: Tensor, *shape: int) -> None:
    """Check a tensor that is written in place: float32, contiguous and of a shape."""
    _check(name, tensor, {torch.float32}, shape)
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: not contiguous")


def index(name: str, value: object, most: int) -> int:
    """Return a whole number from 0 to `most`."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # anything else is a TypeError
    except TypeError as error:
        raise ValueError(f"{name}: {value!r} is not a whole number") from error
    if not 0 <= number <= most:
        raise ValueError(f"{name}: {number} is not between 0 and {most}")
    return number


def _check(name: str, tensor: Tensor, dtypes: Set[torch.dtype], shape: tuple[int | None, ...]) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype not in dtypes:
        expected = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise ValueError(f"{name}: not a tensor of {expected}")
    if tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        raise ValueError(f"{name}: not a dense tensor on the CPU")
    if tensor.dim() != len(shape) or any(b not in (None, a) for a, b in zip(tensor.shape, shape, strict=True)):
        raise ValueError(f"{name}: shape {tuple(tensor.shape)} instead of {shape}")
