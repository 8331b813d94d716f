"""Slots of the KV cache: contiguous ranges of positions, reserved by sequences and given back."""

from __future__ import annotations

from typing import NamedTuple


class Slot(NamedTuple):
    """Positions `start` to `start + length - 1` of the KV cache."""

    start: int
    length: int


class KVPool:
    """Hands out the positions of a KV cache, first fit: the lowest first, so that few clients touch little memory."""

    def __init__(self, positions: int) -> None:
        self.positions = positions
        self._free = [Slot(0, positions)]  # in order, no two adjacent

    @property
    def free(self) -> int:
        """Positions that nobody has reserved."""
        return sum(slot.length for slot in self._free)

    def reserve(self, length: int) -> Slot | None:
        """Return a slot of `length` positions; None where no free range is long enough now."""
        for i, (start, room) in enumerate(self._free):
            if room >= length:
                self._free[i : i + 1] = [Slot(start + length, room - length)] if room > length else []
                return Slot(start, length)
        return None

    def release(self, slot: Slot) -> None:
        """Take a slot back and join it with its free neighbours."""
        merged: list[Slot] = []
        for start, length in sorted([*self._free, slot]):
            if merged and merged[-1].start + merged[-1].length == start:
                merged[-1] = Slot(merged[-1].start, merged[-1].length + length)
            else:
                merged.append(Slot(start, length))
        self._free = merged
