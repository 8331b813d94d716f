"""Sampling: the next code from its logits, for B sequences at once, each with its own parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fishcli.request import SamplingParams

WINDOW = 16  # frames that the repetition penalty looks back


class SamplingTensors(NamedTuple):
    """The sampling parameters of B sequences, each (B,) float32."""

    temperature: Tensor
    top_p: Tensor
    repetition_penalty: Tensor

    @classmethod
    def stack(cls, params: Sequence[SamplingParams], device: torch.device | None = None) -> SamplingTensors:
        """Return the parameters of each sequence, none of them None, as tensors (on the CPU)."""
        rows = [(p.temperature, p.top_p, p.repetition_penalty) for p in params]
        return cls(*torch.tensor(rows, dtype=torch.float32, device=device).unbind(1))


def sample(logits: Tensor, history: Tensor, params: SamplingTensors, uniforms: Tensor) -> Tensor:
    """Logits (B, V), earlier choices (B, W) and uniform draws (B,) in [0, 1) -> choices (B,), -1 for logits with NaN.

    Inverts the cumulative distribution, so that one number from a sequence's own generator decides.
    """
    probabilities, order = distribution(logits, history, params)
    cumulative = probabilities.cumsum(-1)
    index = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    # Rounding must not carry a draw past the last entry of the nucleus. Greedy takes the first.
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    index = torch.where(params.temperature[:, None] > 0, index.minimum(last), 0).clamp_min(0)
    finite = logits.amax(-1).isfinite()  # the maximum of logits with NaN is NaN
    return torch.where(finite, order.gather(1, index).squeeze(1), -1)


def distribution(logits: Tensor, history: Tensor, params: SamplingTensors) -> tuple[Tensor, Tensor]:
    """Logits (B, V) -> probabilities (B, V), highest first, and the entries they belong to (B, V).

    Top-p (nucleus sampling, arXiv:1904.09751) looks at the distribution before temperature: entries beyond a
    cumulative probability of p go, the first always stays.
    """
    penalised = penalise(logits.float(), history, params.repetition_penalty)
    ordered, order = penalised.sort(dim=-1, descending=True, stable=True)
    top_p = params.top_p[:, None]
    # Rounded sums exceed 1 now and then: p = 1 keeps every entry whatever they come to.
    beyond = (F.softmax(ordered, dim=-1).cumsum(-1) > top_p) & (top_p < 1)
    beyond[:, 0] = False
    ordered = ordered.masked_fill(beyond, -math.inf)
    return F.softmax(ordered / params.temperature[:, None].clamp_min(1e-6), dim=-1), order


def penalise(logits: Tensor, history: Tensor, penalty: Tensor) -> Tensor:
    """Apply the repetition penalty (arXiv:1909.05858) to each entry of history (B, W), once however often it occurs.

    Entries of V or more stand for "no frame": they fall into a spare column.
    """
    history = history.clamp_max(logits.shape[1])
    logits = F.pad(logits, (0, 1))
    seen = logits.gather(1, history)
    seen = torch.where(seen > 0, seen / penalty[:, None], seen * penalty[:, None])
    return logits.scatter(1, history, seen)[:, :-1]
