"""The interface of a runner: the prefill of a prompt and the decode step of a batch."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fishcli.lm.kv_cache import KVCache
from fishcli.lm.model import Transformer
from fishcli.lm.sampling import SamplingTensors


class Batch(NamedTuple):
    """The input of a decode step for B sequences, on the CPU: a runner moves it, so that nothing waits for a device."""

    columns: Tensor  # (B, K + 1): the token and codes of each last position
    slots: Tensor  # (B,): first position of each slot in the KV cache
    positions: Tensor  # (B,): of the columns in their sequences
    history: Tensor  # (B, K, WINDOW): the choices of the last frames, more than `codes` where there are none
    params: SamplingTensors
    uniforms: Tensor  # (B, K) in [0, 1): what each sequence draws with

    def to(self, device: torch.device) -> Batch:
        """Return the same on a device."""
        params = SamplingTensors(*(each.to(device) for each in self.params))
        columns, slots, positions, history = (tensor.to(device) for tensor in self[:4])
        return Batch(columns, slots, positions, history, params, self.uniforms.to(device))


class Runner(Protocol):
    """Executes a language model.

    `exact`: the codes of a sequence are the same bits alone and in any batch, whatever the blocks of its prefill.
    `block`: the columns of a prefill that it computes best at once; one that is exact takes any number.
    """

    model: Transformer
    exact: bool
    block: int

    def cache(self, positions: int) -> KVCache:
        """Allocate a KV cache for the slow transformer."""

    def prefill(self, columns: Tensor, cache: KVCache, slot: int, start: int) -> None:
        """Compute the keys and values of columns (T, K + 1) of one sequence, at its positions from `start` on."""

    def hidden(self, columns: Tensor, cache: KVCache, slot: int, start: int) -> Tensor:
        """Prefill, and return the hidden states (T, dim) that `model.logits` takes."""

    def step(self, cache: KVCache, batch: Batch) -> tuple[Tensor, Tensor]:
        """Feed each last column and sample the next frame -> columns (B, K + 1), choices (B, K), on the CPU.

        A sequence whose first choice is `model.codes` has come to the end of speech. A choice is -1 where the logits
        are not finite. The column then means nothing.
        """
