"""Clocks, and the statistics of repeated measurements."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from fishcli.lm.kv_cache import KVCache
from fishcli.runners.base import Batch, Runner


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


def device_seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Return the seconds that a GPU takes for some work on the current stream, by its own clock.

    Of another device, those by the clock of the machine.
    """
    if device.type != "cuda":
        return seconds(device, work)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3


class StepTimer:
    """While entered, counts the decode steps of a runner, the frames that they make and the seconds that they take."""

    def __init__(self, runner: Runner) -> None:
        self.steps, self.frames, self.seconds = 0, 0, 0.0
        self._runner = runner

    def __enter__(self) -> StepTimer:
        step = self._runner.step

        def timed(cache: KVCache, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            began = time.perf_counter()
            result = step(cache, batch)
            synchronise(result[0].device)
            self.seconds += time.perf_counter() - began
            self.steps, self.frames = self.steps + 1, self.frames + len(batch.columns)
            return result

        self._runner.step = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        del self._runner.step


def device_memory(device: torch.device) -> int | None:
    """Return the most bytes of a GPU's memory that this process has had in tensors; None for another device."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
