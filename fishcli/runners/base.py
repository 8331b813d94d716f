"""One frame of B rows: the step that generation repeats, and what runs it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fishcli.lm.model import KVCache, Transformer, Where
from fishcli.lm.sampling import SamplingTensors, sample


class Rows(NamedTuple):
    """What a step has to know of B rows; uniforms (B, K) in [0, 1) decides the draws."""

    columns: Tensor  # (B, K + 1): the token and codes of each row's last position
    positions: Tensor  # (B,): where that is
    history: Tensor  # (B, K, WINDOW): the choices of the last frames, more than `codes` where there are none
    params: SamplingTensors
    uniforms: Tensor


class Runner(Protocol):
    """Runs a model: PyTorch as it is (`Eager`), as its compiler makes it, or the C++ of `fishcli.native`."""

    model: Transformer

    def cache(self, rows: int, length: int) -> KVCache:
        """Room for the keys and values of the slow transformer."""

    def prefill(self, columns: Tensor, cache: KVCache, row: int, start: int) -> None:
        """Compute the keys and values of columns (T, K + 1) of a row, at the positions from `start` on."""

    def hidden(self, columns: Tensor, cache: KVCache, row: int, start: int) -> Tensor:
        """The same -> the hidden states (T, dim), of which `model.logits` makes the logits of what comes next."""

    def step(self, cache: KVCache, rows: Rows) -> tuple[Tensor, Tensor]:
        """Feed each row's last column, choose its next frame -> columns (B, K + 1) and choices (B, K).

        A row whose first choice is `model.codes` has ended; its column then means nothing.
        """


class Eager:
    """The model in PyTorch, operation by operation."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    def cache(self, rows: int, length: int) -> KVCache:
        return self.model.cache(rows, length)

    def prefill(self, columns: Tensor, cache: KVCache, row: int, start: int) -> None:
        self.hidden(columns, cache, row, start)

    def hidden(self, columns: Tensor, cache: KVCache, row: int, start: int) -> Tensor:
        end, group = start + len(columns), self.model.settings.slow.group
        return self.model.slow(columns[None], cache, Where.prefill(row, start, end, group, self.model.device))[0]

    def step(self, cache: KVCache, rows: Rows) -> tuple[Tensor, Tensor]:
        return step(self.model, cache, rows, Where.step(rows.positions, int(rows.positions.max()) + 1))


def step(model: Transformer, cache: KVCache, rows: Rows, where: Where) -> tuple[Tensor, Tensor]:
    """`Runner.step` on a model; `where` are the rows' positions."""
    hidden = model.slow(rows.columns[:, None], cache, where)[:, 0]
    first = sample(model.logits(hidden), rows.history[:, 0], rows.params, rows.uniforms[:, 0])
    codes = [torch.where(first < model.codes, first, 0)]
    fast_cache = model.fast_cache(len(first))
    # The first two places are known at once, and one pass over the weights serves both.
    places = [model.fast_input(hidden), model.fast_embeddings(codes[0])]
    for i in range(1, model.settings.codebooks):
        x = model.fast(torch.stack(places, dim=1), i + 1 - len(places), fast_cache)[:, -1]
        codes.append(sample(model.fast_logits(x), rows.history[:, i], rows.params, rows.uniforms[:, i]))
        places = [model.fast_embeddings(codes[-1])]
    columns = torch.stack([model.semantic + codes[0], *codes], dim=1)
    return columns, torch.stack([first, *codes[1:]], dim=1)
