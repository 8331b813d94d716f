"""Weights in 8 or 4 bits: how they are stored, and the linear layers that hold them.

A row of a matrix is cut into blocks, and the same 16 lanes are in each: a group of weights, which share a scale, is
what one lane has in some blocks after one another. A processor that multiplies a block at once then finds the sum
of each group in a lane of its own. Activations are not stored in this form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Quantize = Literal["none", "int8", "int4"]
_LANES = 16


class _Layout(NamedTuple):
    """A block holds `halves` times 16 lanes times `each` weights; a group is what a lane has in `blocks` of them."""

    halves: int
    each: int
    blocks: int

    @property
    def block(self) -> int:
        return self.halves * _LANES * self.each

    @property
    def span(self) -> int:
        """Weights that 16 scales serve."""
        return self.block * self.blocks

    def groups(self, weight: Tensor) -> Tensor:
        """(out, inp) -> (out, spans, lanes, blocks, halves, each), with zeros after the last weight."""
        padded = F.pad(weight, (0, -weight.shape[1] % self.span))
        return padded.view(len(weight), -1, self.blocks, self.halves, _LANES, self.each).permute(0, 1, 4, 2, 3, 5)

    def rows(self, groups: Tensor, inp: int) -> Tensor:
        """The reverse: (out, blocks, halves, lanes, each), with the blocks that `inp` weights need."""
        return groups.permute(0, 1, 3, 4, 2, 5).flatten(1, 2)[:, : -(-inp // self.block)]


# int8: weight k of a row is in group (k // 512, k % 32 // 2), of 32.
# int4: in group (k // 512, k % 64 // 4), of 32 too. A byte holds weights k, in its lower half, and k + 64 of a block.
_LAYOUTS = {"int8": _Layout(halves=1, each=2, blocks=16), "int4": _Layout(halves=2, each=4, blocks=4)}
_SHRINK = torch.linspace(0.7, 1.0, 7)  # of the range of 4 bits: a few weights that are clipped spare the others error


class Linear(nn.Module):
    """Weights as they are, and no random numbers to start from. x (..., inp) -> (..., out), in the dtype of x."""

    def __init__(self, inp: int, out: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, inp), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out), requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class QuantizedLinear(nn.Module):
    """The same with weights and scales as `quantized` makes them; PyTorch widens them to multiply."""

    def __init__(self, inp: int, out: int, bias: bool = False, *, kind: Literal["int8", "int4"]) -> None:
        super().__init__()
        layout, dtype = _LAYOUTS[kind], torch.int8 if kind == "int8" else torch.uint8
        width = -(-inp // layout.block) * layout.block // layout.halves
        self.kind, self.inp = kind, inp
        self.weight = nn.Parameter(torch.empty(out, width, dtype=dtype), requires_grad=False)
        scales = torch.empty(out, -(-inp // layout.span) * _LANES, dtype=torch.bfloat16)
        self.scales = nn.Parameter(scales, requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out), requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, dequantize(self.weight, self.scales, self.inp, x.dtype), self.bias)


LINEAR: dict[Quantize, Callable[..., nn.Module]] = {
    "none": Linear,
    "int8": partial(QuantizedLinear, kind="int8"),
    "int4": partial(QuantizedLinear, kind="int4"),
}


def quantize_weight(weight: Tensor, kind: Literal["int8", "int4"]) -> tuple[Tensor, Tensor]:
    """A matrix (out, inp) -> what `QuantizedLinear` holds of it: weight int8 or uint8, scales bfloat16."""
    layout, inp = _LAYOUTS[kind], weight.shape[1]
    groups = layout.groups(weight.float())
    if kind == "int8":
        scales = (groups.abs().amax((3, 4, 5)) / 127).bfloat16()
        return layout.rows(_rounded(groups, scales, 127), inp).flatten(1).to(torch.int8), scales.flatten(1)
    scales = _fitted(groups)
    lower, upper = (layout.rows(_rounded(groups, scales, 7), inp) + 8).to(torch.uint8).unbind(2)
    return (lower | upper << 4).flatten(1), scales.flatten(1)


def dequantize(weight: Tensor, scales: Tensor, inp: int, dtype: torch.dtype) -> Tensor:
    """What `quantized` made -> the matrix (out, inp) that it stands for."""
    layout = _LAYOUTS["int8" if weight.dtype == torch.int8 else "int4"]
    if weight.dtype == torch.int8:
        rows = weight.view(len(weight), -1, layout.halves, _LANES, layout.each).to(dtype)
    else:
        rows = torch.stack([weight & 15, weight >> 4], dim=1).view(len(weight), 2, -1, _LANES, layout.each)
        rows = rows.transpose(1, 2).to(dtype) - 8
    each_block = scales.unflatten(1, (-1, 1, _LANES)).expand(-1, -1, layout.blocks, -1).flatten(1, 2)
    return (rows * each_block[:, : rows.shape[1], None, :, None].to(dtype)).flatten(1)[:, :inp]


def _rounded(groups: Tensor, scales: Tensor, most: int) -> Tensor:
    """Groups in units of their scales, as whole numbers from -most - 1 (-127 for int8) to most."""
    least = -127 if most == 127 else -most - 1
    return (groups / _each(torch.where(scales == 0, 1, scales))).round_().clamp_(least, most)


def _fitted(groups: Tensor) -> Tensor:
    """The scales, of a few that are tried, that leave the least square error in 4 bits."""
    # The greatest weight becomes -8: the range goes one further on that side.
    low, high = groups.amin((3, 4, 5)), groups.amax((3, 4, 5))
    edge = torch.where(high > -low, high, low) / -8
    best, scales = torch.full_like(edge, torch.inf), edge.bfloat16()
    for shrink in _SHRINK:
        scale = (edge * shrink).bfloat16()
        error = (_rounded(groups, scale, 7) * _each(scale) - groups).square_().sum((3, 4, 5))
        scales, best = torch.where(error < best, scale, scales), torch.minimum(error, best)
    return scales


def _each(scales: Tensor) -> Tensor:
    return scales.float()[..., None, None, None]
