"""One frame of B rows: the step that generation repeats."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fishcli.lm.sampling import Knobs, choose
from fishcli.lm.transformer import Past, Transformer, Where


class Rows(NamedTuple):
    """What a step has to know of B rows."""

    columns: Tensor  # (B, K + 1): the token and codes of each row's last position
    positions: Tensor  # (B,): where that is
    history: Tensor  # (B, K, WINDOW): the choices of the last frames, more than `codes` where there are none
    knobs: Knobs


def step(model: Transformer, past: Past, rows: Rows, noise: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Feed each row's last column, choose its next frame -> columns (B, K + 1) and choices (B, K).

    noise (B, K) lies in [0, 1) and decides the draws; every position of the rows lies below `end`. A row whose
    first choice is `model.codes` has ended; its column then means nothing.
    """
    hidden = model.slow(rows.columns[:, None], past, Where.step(rows.positions, end))[:, 0]
    first = choose(model.logits(hidden), rows.history[:, 0], rows.knobs, noise[:, 0])
    codes = [torch.where(first < model.codes, first, 0)]
    fast_past = model.fast_past(len(first))
    model.fast(model.fast_input(hidden), 0, fast_past)
    for i in range(1, model.settings.codebooks):
        x = model.fast(model.fast_embeddings(codes[-1]), i, fast_past)
        codes.append(choose(model.fast_logits(x), rows.history[:, i], rows.knobs, noise[:, i]))
    columns = torch.stack([model.semantic + codes[0], *codes], dim=1)
    return columns, torch.stack([first, *codes[1:]], dim=1)


class Step(Protocol):
    """`step`, or what a compiler made of it."""

    def __call__(
        self, model: Transformer, past: Past, rows: Rows, noise: Tensor, end: int
    ) -> tuple[Tensor, Tensor]: ...
