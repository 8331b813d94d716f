"""The model in PyTorch, operation by operation."""

from __future__ import annotations

import torch
from torch import Tensor

from fishcli.lm.kv_cache import KVCache, KVIndex
from fishcli.lm.model import Transformer
from fishcli.lm.sampling import sample
from fishcli.runners.base import Batch

_BLOCK = 128  # columns of a prefill: smaller blocks are slower, larger ones take more memory
_GPU_BLOCK = 1024  # a GPU takes as long for few columns as for a thousand


class Eager:
    """A `Runner`, not exact: which kernels PyTorch picks, and so the last bits, depends on the shape of a batch."""

    exact = False

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.block = _GPU_BLOCK if model.device.type == "cuda" else _BLOCK

    def cache(self, positions: int) -> KVCache:
        return self.model.cache(positions)

    def prefill(self, columns: Tensor, cache: KVCache, slot: int, start: int) -> None:
        self.hidden(columns, cache, slot, start)

    def hidden(self, columns: Tensor, cache: KVCache, slot: int, start: int) -> Tensor:
        model, end = self.model, start + len(columns)
        index = KVIndex.prefill(slot, start, end, model.settings.slow.group, model.device)
        return model.slow(columns[None], cache, index)[0]

    def step(self, cache: KVCache, batch: Batch) -> tuple[Tensor, Tensor]:
        device, length = self.model.device, int(batch.positions.max()) + 1
        slots = batch.slots if len(batch.slots) == 1 else batch.slots.to(device)  # a lone slot is a bound of a slice
        batch = batch.to(device)
        columns, choices = decode_step(self.model, cache, batch, KVIndex.step(slots, batch.positions, length))
        return columns.cpu(), choices.cpu()


def decode_step(model: Transformer, cache: KVCache, batch: Batch, index: KVIndex) -> tuple[Tensor, Tensor]:
    """One frame: the slow transformer samples the first code, the fast one the others -> as `Runner.step`."""
    hidden = model.slow(batch.columns[:, None], cache, index)[:, 0]
    choices = [sample(model.logits(hidden), batch.history[:, 0], batch.params, batch.uniforms[:, 0])]
    codes = [torch.where(choices[0] < model.codes, choices[0], 0).clamp_min(0)]
    fast_cache = model.fast_cache(len(hidden))
    # The first two inputs are known at once, and one pass over the weights serves both.
    inputs = [model.fast_input(hidden), model.fast_embeddings(codes[0])]
    for i in range(1, model.settings.codebooks):
        x = model.fast(torch.stack(inputs, dim=1), i + 1 - len(inputs), fast_cache)[:, -1]
        choices.append(sample(model.fast_logits(x), batch.history[:, i], batch.params, batch.uniforms[:, i]))
        codes.append(choices[i].clamp_min(0))
        inputs = [model.fast_embeddings(codes[i])]
    return torch.stack([model.semantic + codes[0], *codes], dim=1), torch.stack(choices, dim=1)
