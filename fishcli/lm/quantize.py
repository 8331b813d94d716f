"""Group-wise quantization of weights to int8 or int4: the storage layout, and the linear layers that hold it.

A scale (bfloat16) serves a group of 32 weights of one output channel (a row of the matrix). Quantization is symmetric
about zero: weight = scale * integer. The layout is that of the kernels: a row is cut into blocks of 16 lanes, and a
group is one lane of a few consecutive blocks. A kernel that multiplies a block at once thus accumulates each group in a
lane of its own. Only weights are quantized here; activations stay in floating point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Quantize = Literal["none", "int8", "int4"]  # the format of the weights of the transformer blocks
_LANES = 16


class _Layout(NamedTuple):
    """A block holds `halves` x 16 lanes x `each` weights of a row; a group is one lane of `blocks` of them."""

    halves: int
    each: int
    blocks: int

    @property
    def block(self) -> int:
        """Weights of a block."""
        return self.halves * _LANES * self.each

    @property
    def span(self) -> int:
        """Weights that 16 scales serve: 16 groups."""
        return self.block * self.blocks

    def groups(self, weight: Tensor) -> Tensor:
        """Return a matrix (out, inp), padded with zeros, as (out, spans, lanes, blocks, halves, each)."""
        padded = F.pad(weight, (0, -weight.shape[1] % self.span))
        return padded.view(len(weight), -1, self.blocks, self.halves, _LANES, self.each).permute(0, 1, 4, 2, 3, 5)

    def rows(self, groups: Tensor, inp: int) -> Tensor:
        """Return groups in their order in memory, (out, blocks, halves, lanes, each), as many blocks as `inp` fills."""
        return groups.permute(0, 1, 3, 4, 2, 5).flatten(1, 2)[:, : -(-inp // self.block)]


# int8: weight k of a row belongs to group (k // 512, k % 32 // 2).
# int4: to group (k // 512, k % 64 // 4). A byte holds weight k of a block in its lower half, k + 64 in its upper half.
_LAYOUTS = {"int8": _Layout(halves=1, each=2, blocks=16), "int4": _Layout(halves=2, each=4, blocks=4)}
_SHRINK = torch.linspace(0.7, 1.0, 7)  # of the int4 range: clipping a few weights lowers the error of all others


class Linear(nn.Module):
    """A linear layer without initialisation. x (..., inp) -> (..., out), in the dtype of x."""

    def __init__(self, inp: int, out: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, inp), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out), requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is stored as `quantize` returns it, and dequantized for each product in PyTorch."""

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


def quantize(weight: Tensor, kind: Literal["int8", "int4"]) -> tuple[Tensor, Tensor]:
    """Return a matrix (out, inp) as stored: weight (out, W), int8 or (int4) uint8, and scales (out, G) bfloat16.

    W is `inp` rounded up to whole blocks, halved for int4; G is 16 for each 512 weights begun. int8 maps the largest
    magnitude of a group to 127; int4 tries seven scales and keeps the one of least square error.
    """
    layout, inp = _LAYOUTS[kind], weight.shape[1]
    groups = layout.groups(weight.float())
    if kind == "int8":
        scales = (groups.abs().amax((3, 4, 5)) / 127).bfloat16()
        return layout.rows(_rounded(groups, scales, 127), inp).flatten(1).to(torch.int8), scales.flatten(1)
    scales = _least_error_scales(groups)
    lower, upper = (layout.rows(_rounded(groups, scales, 7), inp) + 8).to(torch.uint8).unbind(2)
    return (lower | upper << 4).flatten(1), scales.flatten(1)


def dequantize(weight: Tensor, scales: Tensor, inp: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix (out, inp) that `quantize` stored, in `dtype`."""
    layout = _LAYOUTS["int8" if weight.dtype == torch.int8 else "int4"]
    if weight.dtype == torch.int8:
        rows = weight.view(len(weight), -1, layout.halves, _LANES, layout.each).to(dtype)
    else:
        rows = torch.stack([weight & 15, weight >> 4], dim=1).view(len(weight), 2, -1, _LANES, layout.each)
        rows = rows.transpose(1, 2).to(dtype) - 8
    each_block = scales.unflatten(1, (-1, 1, _LANES)).expand(-1, -1, layout.blocks, -1).flatten(1, 2)
    return (rows * each_block[:, : rows.shape[1], None, :, None].to(dtype)).flatten(1)[:, :inp]


def _rounded(groups: Tensor, scales: Tensor, most: int) -> Tensor:
    """Return groups / scales rounded to integers from -most - 1 (-127 for int8) to most."""
    least = -127 if most == 127 else -most - 1
    return (groups / _each(torch.where(scales == 0, 1, scales))).round_().clamp_(least, most)


def _least_error_scales(groups: Tensor) -> Tensor:
    """Return the int4 scale of each group that leaves the least square error, of seven candidates."""
    # The weight of the largest magnitude becomes -8, since int4 has one more value on that side.
    low, high = groups.amin((3, 4, 5)), groups.amax((3, 4, 5))
    edge = torch.where(high > -low, high, low) / -8
    best, scales = torch.full_like(edge, torch.inf), edge.bfloat16()
    for shrink in _SHRINK:
        scale = (edge * shrink).bfloat16()
        error = (_rounded(groups, scale, 7) * _each(scale) - groups).square_().sum((3, 4, 5))
        scales, best = torch.where(error < best, scale, scales), torch.minimum(error, best)
    return scales


def _each(scales: Tensor) -> Tensor:
    """Return scales (out, spans, lanes) so that they broadcast over groups."""
    return scales.float()[..., None, None, None]
