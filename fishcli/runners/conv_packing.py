"""Packs convolutions in the layout that the C++ reads: ops/conv_kernel.hpp and ops/winograd.hpp."""

from __future__ import annotations

import ctypes
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fishcli.native import structs

_Structure = TypeVar("_Structure", bound=ctypes.Structure)

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5)  # and infinity
_GROUP = 4  # taps that are transformed together
_LEAST_TAPS = 3  # from which on Winograd's way takes fewer multiplications


class ConvPacker:
    """Packs for vectors of so many floats and panels of so many outputs; `kept` is the memory that it points to."""

    def __init__(self, vector: int, panel: int) -> None:
        self.vector, self.panel = vector, panel
        self.kept: list[object] = []

    def linear(self, weight: Tensor, bias: Tensor) -> structs.Conv:
        """weight (out, in), bias (out,): a convolution of one tap."""
        return self._conv(weight[None, :, None], bias)

    def causal(self, weight: Tensor, bias: Tensor, dilation: int = 1, winograd: bool = False) -> structs.Conv:
        """weight (out, in, kernel), bias (out,)."""
        return self._conv(weight.permute(0, 2, 1)[None], bias, dilation, winograd)

    def transposed(self, weight: Tensor, bias: Tensor, stride: int) -> structs.Conv:
        """weight (in, out, kernel), bias (out,): a convolution with `stride` times the outputs.

        That of phase p takes every stride-th tap from p on.
        """
        weight = F.pad(weight, (0, -weight.shape[2] % stride)).unflatten(2, (-1, stride))
        # A transposed convolution's first tap is for the newest input.
        return self._conv(weight.flip(2).permute(3, 1, 2, 0), bias)

    def _conv(self, weight: Tensor, bias: Tensor, dilation: int = 1, winograd: bool = False) -> structs.Conv:
        """weight (phases, out, taps, in), bias (out,)."""
        phases, _, taps, inp = weight.shape
        winograd = winograd and taps >= _LEAST_TAPS
        weight = self.padded(weight, 1).flatten(0, 1)
        bias = self.padded(bias, 0).repeat(phases)
        panels = [panel.permute(1, 2, 0) for panel in weight.split(self.panel)]  # (taps, in, out)
        packed = torch.cat([(_transformed(panel) if winograd else panel).flatten() for panel in panels])
        points, taps = (len(_POINTS) + 1, -(-taps // _GROUP)) if winograd else (1, taps)
        return structs.Conv(self.pointer(packed), self.pointer(bias), inp, len(bias), taps, dilation, points)

    def padded(self, tensor: Tensor, dim: int) -> Tensor:
        """Return a tensor with zeros up to whole vectors along `dim`."""
        after = -tensor.shape[dim] % self.vector
        return F.pad(tensor, [0, 0] * (tensor.dim() - 1 - dim) + [0, after])

    def array(self, kind: type[_Structure], items: list[_Structure]) -> ctypes.Array[_Structure]:
        """Return structures as an array that is kept."""
        array = (kind * len(items))(*items)
        self.kept.append(array)
        return array

    def pointer(self, tensor: Tensor) -> int:
        """Return the address of a tensor that is kept."""
        tensor = tensor.contiguous()
        self.kept.append(tensor)
        return tensor.data_ptr()


def _transformed(weight: Tensor) -> Tensor:
    """weight (taps, in, out) -> (points, groups of taps, in, out): the values of each group at the points."""
    groups = F.pad(weight, (0, 0, 0, 0, -len(weight) % _GROUP, 0)).unflatten(0, (-1, _GROUP)).double()
    points = torch.tensor(_POINTS, dtype=torch.float64)
    others = (points[:, None] - points).fill_diagonal_(1).prod(1)
    values = torch.linalg.vander(points, N=_GROUP) / others[:, None]
    at_infinity = torch.eye(_GROUP, dtype=torch.float64)[-1:]
    # One tap after the other: the bits of a matrix product depend on where its operands lie in memory.
    factors = torch.cat((values, at_infinity))[:, :, None, None, None]
    return sum(factors[:, i] * groups[:, i] for i in range(_GROUP)).float()
