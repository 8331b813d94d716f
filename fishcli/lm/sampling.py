"""Choosing the next token or code from its logits, for B rows at once, each in its own way."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fishcli.request import SamplingParams

WINDOW = 16  # frames that the repetition penalty looks back


class SamplingTensors(NamedTuple):
    """The sampling settings of B rows as tensors, each (B,) float32."""

    temperature: Tensor
    top_p: Tensor
    repetition_penalty: Tensor

    @classmethod
    def of(cls, samplings: list[SamplingParams], device: torch.device) -> SamplingTensors:
        """Stack the settings of each row."""
        rows = [(s.temperature, s.top_p, s.repetition_penalty) for s in samplings]
        return cls(*torch.tensor(rows, dtype=torch.float32, device=device).unbind(1))


def sample(logits: Tensor, history: Tensor, params: SamplingTensors, uniforms: Tensor) -> Tensor:
    """Logits (B, V), history (B, W) of earlier choices and uniforms (B,) in [0, 1) -> choices (B,).

    Draws by inverting the cumulative distribution, so that one number from a row's own generator decides it.
    """
    probabilities, order = distribution(logits, history, params)
    cumulative = probabilities.cumsum(-1)
    place = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    # Rounding must not carry a draw cache the last entry that may be chosen, and greedy takes the first.
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    place = torch.where(params.temperature[:, None] > 0, place.minimum(last), 0)
    return order.gather(1, place).squeeze(1)


def distribution(logits: Tensor, history: Tensor, params: SamplingTensors) -> tuple[Tensor, Tensor]:
    """Logits (B, V) -> probabilities (B, V), highest first, and the entries they belong to (B, V).

    Top-p looks at the distribution before temperature: entries beyond a cumulative probability of p go,
    the first stays always.
    """
    penalised = penalise(logits.float(), history, params.repetition_penalty)
    ordered, order = penalised.sort(dim=-1, descending=True, stable=True)
    beyond = F.softmax(ordered, dim=-1).cumsum(-1) > params.top_p[:, None]
    beyond[:, 0] = False
    ordered = ordered.masked_fill(beyond, -math.inf)
    return F.softmax(ordered / params.temperature[:, None].clamp_min(1e-6), dim=-1), order


def penalise(logits: Tensor, history: Tensor, penalty: Tensor) -> Tensor:
    """Move each entry that occurs in history (B, W) away from being chosen, once however often it occurs.

    Entries of V or more in the history stand for nothing: they fall into a spare column.
    """
    history = history.clamp_max(logits.shape[1])
    logits = F.pad(logits, (0, 1))
    seen = logits.gather(1, history)
    seen = torch.where(seen > 0, seen / penalty[:, None], seen * penalty[:, None])
    return logits.scatter(1, history, seen)[:, :-1]
