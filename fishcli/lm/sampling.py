"""Choosing the next token or code from its logits, for B rows at once, each in its own way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fishcli.errors import SettingError

WINDOW = 16  # frames that the repetition penalty looks back


@dataclass(frozen=True)
class Sampling:
    """How one speech is sampled. `temperature` 0 is greedy; without a `seed` the Engine draws one.

    `max_new_tokens` bounds the frames of each chunk of text; 0: as many as the context holds.
    """

    temperature: float = 0.7
    top_p: float = 0.7
    repetition_penalty: float = 1.2
    seed: int | None = None
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        _between("temperature", self.temperature, 0, 2)
        _between("top_p", self.top_p, 0, 1, open_below=True)
        _between("repetition_penalty", self.repetition_penalty, 0, 2, open_below=True)
        if self.seed is not None:
            _between("seed", self.seed, 0, 2**63 - 1)
        _between("max_new_tokens", self.max_new_tokens, 0, 2**31)


def _between(name: str, value: float, low: float, high: float, open_below: bool = False) -> None:
    """NaN and infinities fail every comparison, so they are refused like any other value out of range."""
    if not (low < value if open_below else low <= value) or not value <= high or not math.isfinite(value):
        bounds = f"{'more than' if open_below else 'at least'} {low} and at most {high}"
        raise SettingError(f"{name} must be {bounds}, not {value}.")


class Knobs(NamedTuple):
    """The sampling settings of B rows as tensors, each (B,) float32."""

    temperature: Tensor
    top_p: Tensor
    repetition_penalty: Tensor

    @classmethod
    def of(cls, samplings: list[Sampling], device: torch.device) -> Knobs:
        """Stack the settings of each row."""
        rows = [(s.temperature, s.top_p, s.repetition_penalty) for s in samplings]
        return cls(*torch.tensor(rows, dtype=torch.float32, device=device).unbind(1))


def choose(logits: Tensor, history: Tensor, knobs: Knobs, noise: Tensor) -> Tensor:
    """Logits (B, V), history (B, W) of earlier choices and noise (B,) in [0, 1) -> choices (B,).

    Draws by inverting the cumulative distribution, so that one number from a row's own generator decides it.
    """
    probabilities, order = distribution(logits, history, knobs)
    cumulative = probabilities.cumsum(-1)
    place = (cumulative <= noise[:, None] * cumulative[:, -1:]).sum(-1, keepdim=True)
    # Rounding must not carry a draw past the last entry that may be chosen, and greedy takes the first.
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    place = torch.where(knobs.temperature[:, None] > 0, place.minimum(last), 0)
    return order.gather(1, place).squeeze(1)


def distribution(logits: Tensor, history: Tensor, knobs: Knobs) -> tuple[Tensor, Tensor]:
    """Logits (B, V) -> probabilities (B, V), highest first, and the entries they belong to (B, V).

    Top-p looks at the distribution before temperature: entries beyond a cumulative probability of p go,
    the first stays always.
    """
    penalised = penalise(logits.float(), history, knobs.repetition_penalty)
    ordered, order = penalised.sort(dim=-1, descending=True, stable=True)
    beyond = F.softmax(ordered, dim=-1).cumsum(-1) > knobs.top_p[:, None]
    beyond[:, 0] = False
    ordered = ordered.masked_fill(beyond, -math.inf)
    return F.softmax(ordered / knobs.temperature[:, None].clamp_min(1e-6), dim=-1), order


def penalise(logits: Tensor, history: Tensor, penalty: Tensor) -> Tensor:
    """Move each entry that occurs in history (B, W) away from being chosen, once however often it occurs.

    Entries of V or more in the history stand for nothing: they fall into a spare column.
    """
    history = history.clamp_max(logits.shape[1])
    logits = F.pad(logits, (0, 1))
    seen = logits.gather(1, history)
    seen = torch.where(seen > 0, seen / penalty[:, None], seen * penalty[:, None])
    return logits.scatter(1, history, seen)[:, :-1]
