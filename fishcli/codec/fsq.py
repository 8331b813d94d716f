"""Finite scalar quantization (Mentzer et al., 2023): a few channels, each rounded to a few levels, are a code."""

from itertools import accumulate
from operator import mul
from typing import cast

import torch
from torch import Tensor, nn

from fishcli.codec.settings import QuantizerSettings


class Group(nn.Module):
    """One codebook: the projections between a group's channels and its digits."""

    def __init__(self, channels: int, digits: int) -> None:
        super().__init__()
        plain = channels == digits
        self.project_in = nn.Identity() if plain else nn.Linear(channels, digits)
        self.project_out = nn.Identity() if plain else nn.Linear(digits, channels)


class GroupedFSQ(nn.Module):
    """Codes of `groups` codebooks for as many equal parts of the channels."""

    def __init__(self, channels: int, settings: QuantizerSettings) -> None:
        super().__init__()
        self.levels = settings.levels
        self.places = tuple(accumulate(settings.levels[:-1], mul, initial=1))  # 1, 8, 40, 200
        size = channels // settings.groups
        self.rvqs = nn.ModuleList(Group(size, len(settings.levels)) for _ in range(settings.groups))

    def project(self, x: Tensor) -> Tensor:
        """x (T, channels) -> (T, groups, digits), not bounded yet."""
        parts = x.chunk(len(self.groups), dim=-1)
        return torch.stack([g.project_in(part) for g, part in zip(self.groups, parts, strict=True)], dim=1)

    def quantize(self, z: Tensor) -> Tensor:
        """z (T, groups, digits) -> codes (groups, T) int16."""
        levels = torch.tensor(self.levels, device=z.device)
        # Bounded twice: that is what the weights were trained with.
        digits = _bound(_bound(z.float(), levels), levels).round().long() + levels // 2
        places = torch.tensor(self.places, device=z.device)
        return (digits * places).sum(-1).T.to(torch.int16)

    def values(self, codes: Tensor) -> Tensor:
        """codes (groups, T) -> x (T, channels) in the dtype of the weights."""
        levels, places = (torch.tensor(v, device=codes.device) for v in (self.levels, self.places))
        digits = codes.T.long()[..., None] // places % levels
        z = ((digits - levels // 2) / (levels // 2)).to(self.dtype)
        return torch.cat([g.project_out(z[:, i]) for i, g in enumerate(self.groups)], dim=-1)

    @property
    def groups(self) -> list[Group]:
        """One a codebook, in the order of the codebooks and of the channels."""
        return cast(list[Group], list(self.rvqs))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; float32 where there is no projection."""
        return next((p.dtype for p in self.parameters()), torch.float32)


def _bound(z: Tensor, levels: Tensor) -> Tensor:
    """z squeezed so that it rounds to one of `levels` values around zero."""
    half = (levels - 1) * 1.001 / 2
    offset = torch.where(levels % 2 == 0, 0.5, 0.0)
    return torch.tanh(z + torch.atanh(offset / half)) * half - offset
