"""The KV cache: the keys and values of every position that a model attends to, allocated once.

A sequence owns a slot, a contiguous range of positions that nobody else writes. Slots have any length, so a sequence
takes what it needs, and joining or leaving copies nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fishcli.lm.settings import StackSettings


class KVCache:
    """Keys and values of one stack, each (layers, kv_heads, positions, head_dim); not initialised."""

    def __init__(self, stack: StackSettings, positions: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (stack.layers, stack.kv_heads, positions, stack.head_dim)
        # Empty: the system hands out the memory of a position when it is first written.
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)

    @property
    def positions(self) -> int:
        """Positions of all slots together."""
        return self.keys.shape[2]

    def read(self, slot: int, length: int) -> tuple[Tensor, Tensor]:
        """Return copies of the first `length` positions of a slot, on the CPU: (layers, kv_heads, length, head_dim)."""
        end = slot + length
        return self.keys[:, :, slot:end].cpu().clone(), self.values[:, :, slot:end].cpu().clone()

    def write(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Put what `read` returned at the start of a slot."""
        end = slot + keys.shape[2]
        self.keys[:, :, slot:end] = keys.to(self.keys.device)
        self.values[:, :, slot:end] = values.to(self.values.device)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot to another."""
        for tensor in (self.keys, self.values):
            tensor[:, :, target : target + length] = tensor[:, :, source : source + length]


class KVIndex(NamedTuple):
    """Which positions of a KV cache one forward pass writes and reads, for B sequences with T new positions each."""

    positions: Tensor  # (B, T): in the sequence, for the rotary embedding
    write: Tensor  # (B, T): in the cache
    read: slice | Tensor  # in the cache, of one sequence or of all (B, S)
    mask: Tensor | None  # True where a query attends: (B or 1, 1, 1 or T * group, S); None: everywhere

    @classmethod
    def step(cls, slots: Tensor, positions: Tensor, length: int) -> KVIndex:
        """One new position of each of B sequences; slots and positions (B,), `length` above every position.

        Of one sequence, the slot is a bound of a slice: on the CPU, so that nothing waits for a device.
        """
        if len(slots) == 1:
            start = int(slots)
            return cls(positions[:, None], (start + positions)[:, None], slice(start, start + length), None)
        return cls.masked(slots, positions, length)

    @classmethod
    def masked(cls, slots: Tensor, positions: Tensor, length: int) -> KVIndex:
        """The same without a size that depends on data, so that one CUDA graph serves every frame."""
        steps = torch.arange(length, device=slots.device)
        # What is behind a sequence's position may belong to nobody: its last key stands in, and the mask hides it.
        read = slots[:, None] + torch.minimum(steps, positions[:, None])
        mask = (steps <= positions[:, None])[:, None, None]
        return cls(positions[:, None], (slots + positions)[:, None], read, mask)

    @classmethod
    def prefill(cls, slot: int, start: int, end: int, group: int, device: torch.device) -> KVIndex:
        """The positions start..end-1 of one sequence; `group` query heads share a key head."""
        positions = torch.arange(start, end, device=device)
        mask = torch.arange(end, device=device) <= positions.repeat_interleave(group)[:, None]
        return cls(positions[None], slot + positions[None], slice(slot, slot + end), mask[None, None])
