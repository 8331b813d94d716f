"""Finite scalar quantization (Mentzer et al., 2023): each of a few channels is rounded to one of a few levels.

The rounded values are the digits of a code in a mixed base: levels (8, 5, 5, 5) make codes of 0 to 999.
"""

from itertools import accumulate
from operator import mul
from typing import cast

import torch
from torch import Tensor, nn

from fishcli.codec.settings import QuantizerSettings


class Group(nn.Module):
    """The projections of one codebook between its group of channels and its digits."""

    def __init__(self, channels: int, digits: int) -> None:
        super().__init__()
        plain = channels == digits
        self.project_in = nn.Identity() if plain else nn.Linear(channels, digits)
        self.project_out = nn.Identity() if plain else nn.Linear(digits, channels)


class GroupedFSQ(nn.Module):
    """FSQ of `groups` equal parts of the channels, each with a codebook of its own."""

    def __init__(self, channels: int, settings: QuantizerSettings) -> None:
        super().__init__()
        self.levels = settings.levels
        self.basis = tuple(accumulate(settings.levels[:-1], mul, initial=1))  # 1, 8, 40, 200
        size = channels // settings.groups
        self.rvqs = nn.ModuleList(Group(size, len(settings.levels)) for _ in range(settings.groups))

    def project(self, x: Tensor) -> Tensor:
        """Return z (T, groups, digits), not bounded yet, of x (T, channels)."""
        parts = x.chunk(len(self.groups), dim=-1)
        return torch.stack([g.project_in(part) for g, part in zip(self.groups, parts, strict=True)], dim=1)

    def quantize(self, z: Tensor) -> Tensor:
        """Return the codes (groups, T) int16 of z (T, groups, digits)."""
        levels = torch.tensor(self.levels, device=z.device)
        # Bounded twice, as in training.
        digits = _bound(_bound(z.float(), levels), levels).round().long() + levels // 2
        basis = torch.tensor(self.basis, device=z.device)
        return (digits * basis).sum(-1).T.to(torch.int16)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Return x (T, channels), in the dtype of the weights, of codes (groups, T)."""
        codes = codes.T.long()
        # Numbers of Python: tensors of them would be copied to a GPU for every piece.
        digits = [codes // base % levels - levels // 2 for base, levels in zip(self.basis, self.levels, strict=True)]
        z = torch.stack([d / (levels // 2) for d, levels in zip(digits, self.levels, strict=True)], -1).to(self.dtype)
        return torch.cat([g.project_out(z[:, i]) for i, g in enumerate(self.groups)], dim=-1)

    @property
    def groups(self) -> list[Group]:
        """The projections of each codebook, in the order of the codebooks."""
        return cast(list[Group], list(self.rvqs))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; float32 if no group has a projection."""
        return next((p.dtype for p in self.parameters()), torch.float32)


def _bound(z: Tensor, levels: Tensor) -> Tensor:
    """Return z squeezed into a range that rounds to one of `levels` integers around zero: the paper's `bound`."""
    half = (levels - 1) * 1.001 / 2
    offset = torch.where(levels % 2 == 0, 0.5, 0.0)
    return torch.tanh(z + torch.atanh(offset / half)) * half - offset
