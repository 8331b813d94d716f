"""How fast frames could be if they cost no more than reading the weights, and how near to that they are."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from fishcli.bench import speed
from fishcli.bench.task import Task
from fishcli.bench.timing import synchronise
from fishcli.engine import Engine
from fishcli.lm.model import Transformer
from fishcli.native import build
from fishcli.runners.native_lm import Native

_PIECE = 64 << 10  # bytes, of which `fish_read` reads whole ones
_ROUNDS = 2  # of reading what a frame reads, after each burst of frames


@dataclass(frozen=True)
class Limit:
    """What one frame of one speech reads, how fast that can be read, and the frames/s that follow.

    Bytes: those of the slow transformer with its output, once, and of the fast one, for each of the codebooks. Rates:
    the best, in bytes/s, of many readings of as much by the same threads. `share` of that limit is what was measured;
    it may exceed 1, since a step serves the first two codebooks by one pass.
    """

    slow_bytes: int
    fast_bytes: int
    codebooks: int
    slow_rate: float
    fast_rate: float
    frames_per_second: float
    share: float


def measure(task: Task) -> tuple[speed.Frame, Limit]:
    """Frames and readings by turns, so that whatever else the machine does slows both down."""
    slow, fast = weights_read(task.engine.lm)
    codebooks = task.engine.lm_settings.codebooks
    readers = [Reader(task.engine, slow), *[Reader(task.engine, fast)] * codebooks]

    def read() -> None:
        for _ in range(_ROUNDS):
            for reader in readers:
                reader.read()

    frame = speed.frame(task, rows=1, between=read)
    rates = readers[0].best, readers[-1].best
    possible = 1 / (slow / rates[0] + codebooks * fast / rates[1])
    return frame, Limit(slow, fast, codebooks, *rates, possible, frame.frames_per_second.median / possible)


def weights_read(model: Transformer) -> tuple[int, int]:
    """Bytes, as they are stored, of what a frame reads once and of what it reads for each codebook."""
    once: list[nn.Module] = [model.layers, model.norm, model.output]
    if hasattr(model, "fast_project_in"):
        once.append(model.fast_project_in)
    return stored(once), stored([model.fast_layers, model.fast_norm, model.fast_output])


def stored(modules: Iterable[nn.Module]) -> int:
    """Bytes of the parameters of modules."""
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


class Reader:
    """Reads a buffer of about `size` bytes as the engine reads its weights; `best` is the best rate, in bytes/s."""

    def __init__(self, engine: Engine, size: int) -> None:
        self.best = 0.0
        self._device = engine.device
        # Ones, not zeros: pages that nobody wrote to are all the same page.
        self._buffer = torch.ones(-(-size // _PIECE) * _PIECE // 4, device=engine.device)
        self._read = self._native(engine) if isinstance(engine.runner, Native) else self._buffer.sum

    def read(self) -> None:
        """Read it once."""
        synchronise(self._device)
        began = time.perf_counter()
        self._read()
        synchronise(self._device)
        self.best = max(self.best, self._buffer.nbytes / (time.perf_counter() - began))

    def _native(self, engine: Engine) -> Callable[[], object]:
        read, pool = build.load().fish_read, build.pool(engine.plan.threads)
        read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        return lambda: read(pool, self._buffer.data_ptr(), self._buffer.nbytes)
