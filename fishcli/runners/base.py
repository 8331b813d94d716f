"""One frame of B rows: the step that generation repeats, and what runs it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fishcli.lm.model import Past, Transformer, Where
from fishcli.lm.sampling import Knobs, choose


class Rows(NamedTuple):
    """What a step has to know of B rows; noise (B, K) in [0, 1) decides the draws."""

    columns: Tensor  # (B, K + 1): the token and codes of each row's last position
    positions: Tensor  # (B,): where that is
    history: Tensor  # (B, K, WINDOW): the choices of the last frames, more than `codes` where there are none
    knobs: Knobs
    noise: Tensor


class Runner(Protocol):
    """Runs a model: PyTorch as it is (`Eager`), as its compiler makes it, or the C++ of `fishcli.native`."""

    model: Transformer

    def past(self, rows: int, length: int) -> Past:
        """Room for the keys and values of the slow transformer."""

    def prefill(self, columns: Tensor, past: Past, row: int, start: int) -> None:
        """Compute the keys and values of columns (T, K + 1) of a row, at the positions from `start` on."""

    def hidden(self, columns: Tensor, past: Past, row: int, start: int) -> Tensor:
        """The same -> the hidden states (T, dim), of which `model.logits` makes the logits of what comes next."""

    def step(self, past: Past, rows: Rows) -> tuple[Tensor, Tensor]:
        """Feed each row's last column, choose its next frame -> columns (B, K + 1) and choices (B, K).

        A row whose first choice is `model.codes` has ended; its column then means nothing.
        """


class Eager:
    """The model in PyTorch, operation by operation."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def past(self, rows: int, length: int) -> Past:
        return self.model.past(rows, length)

    def prefill(self, columns: Tensor, past: Past, row: int, start: int) -> None:
        self.hidden(columns, past, row, start)

    def hidden(self, columns: Tensor, past: Past, row: int, start: int) -> Tensor:
        end, group = start + len(columns), self.model.settings.slow.group
        return self.model.slow(columns[None], past, Where.prefill(row, start, end, group, self.model.device))[0]

    def step(self, past: Past, rows: Rows) -> tuple[Tensor, Tensor]:
        return step(self.model, past, rows, Where.step(rows.positions, int(rows.positions.max()) + 1))


def step(model: Transformer, past: Past, rows: Rows, where: Where) -> tuple[Tensor, Tensor]:
    """`Runner.step` on a model; `where` are the rows' positions."""
    hidden = model.slow(rows.columns[:, None], past, where)[:, 0]
    first = choose(model.logits(hidden), rows.history[:, 0], rows.knobs, rows.noise[:, 0])
    codes = [torch.where(first < model.codes, first, 0)]
    fast_past = model.fast_past(len(first))
    # The first two places are known at once, and one pass over the weights serves both.
    places = [model.fast_input(hidden), model.fast_embeddings(codes[0])]
    for i in range(1, model.settings.codebooks):
        x = model.fast(torch.stack(places, dim=1), i + 1 - len(places), fast_past)[:, -1]
        codes.append(choose(model.fast_logits(x), rows.history[:, i], rows.knobs, rows.noise[:, i]))
        places = [model.fast_embeddings(codes[-1])]
    columns = torch.stack([model.semantic + codes[0], *codes], dim=1)
    return columns, torch.stack([first, *codes[1:]], dim=1)
