"""Clocks, and what several readings come to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spread:
    """What was measured several times."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def rate(self, amount: float) -> Spread:
        """What was done per second, if each reading is the seconds that `amount` of it took."""
        return Spread(amount / self.median, amount / self.maximum, amount / self.minimum)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """How long some work takes, with all that it left to the device."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
