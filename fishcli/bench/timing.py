"""Clocks, and the statistics of repeated measurements."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spread:
    """The median, minimum and maximum of repeated measurements."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def rate(self, amount: float) -> Spread:
        """Return amounts per second, if the measurements are the seconds that `amount` took."""
        return Spread(amount / self.median, amount / self.maximum, amount / self.minimum)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Return the seconds that some work takes, up to the end of all it started on the device."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
