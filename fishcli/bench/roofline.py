"""The memory roofline of a decode step: the frames/s at which reading the weights alone would take all the time.

A step of one sequence multiplies each weight once, so its arithmetic intensity is low and it is bandwidth-bound.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fishcli.bench.speed import DecodeStep, decode_step
from fishcli.bench.task import Task
from fishcli.bench.timing import synchronise
from fishcli.engine import Engine
from fishcli.lm.model import Transformer
from fishcli.native import build
from fishcli.runners.native_lm import Native

_PIECE = 64 << 10  # bytes; `fish_read` reads whole pieces
_ROUNDS = 2  # readings of the weights of a frame, after each burst of steps


@dataclass(frozen=True)
class Roofline:
    """The bytes that a decode step of one sequence reads, the memory bandwidth, and the frames/s that these allow.

    A step reads the slow transformer and its output layer once, and the fast transformer once for each codebook.
    Bandwidths are the best of many readings of as many bytes by the same threads. `efficiency` is the measured speed
    over `frames_per_second`; it may exceed 1, since one pass of the fast transformer serves the first two codebooks.
    """

    slow_bytes: int
    fast_bytes: int
    codebooks: int
    slow_bandwidth: float  # bytes/s
    fast_bandwidth: float  # bytes/s
    frames_per_second: float
    efficiency: float


def measure(task: Task) -> tuple[DecodeStep, Roofline]:
    """Measure decode steps and readings by turns, so that other work of the machine slows both down."""
    slow, fast = weights_read(task.engine.lm)
    codebooks = task.engine.lm_settings.codebooks
    readers = [Reader(task.engine, slow), *[Reader(task.engine, fast)] * codebooks]

    def read() -> None:
        for _ in range(_ROUNDS):
            for reader in readers:
                reader.read()

    step = decode_step(task, batch=1, between=read)
    bandwidths = readers[0].best, readers[-1].best
    bound = 1 / (slow / bandwidths[0] + codebooks * fast / bandwidths[1])
    return step, Roofline(slow, fast, codebooks, *bandwidths, bound, step.frames_per_second.median / bound)


def weights_read(model: Transformer) -> tuple[int, int]:
    """Return the stored bytes of the weights that a step reads once, and of those that it reads for each codebook."""
    once: list[nn.Module] = [model.layers, model.norm, model.output]
    if hasattr(model, "fast_project_in"):
        once.append(model.fast_project_in)
    return stored(once), stored([model.fast_layers, model.fast_norm, model.fast_output])


def stored(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of the parameters of modules."""
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


class Reader:
    """Reads a buffer of about `size` bytes with the engine's threads; `best` is the best bandwidth, in bytes/s."""

    def __init__(self, engine: Engine, size: int) -> None:
        self.best = 0.0
        self._device = engine.device
        # Ones, not zeros: all pages that were never written to are the same page.
        # By NumPy: OpenMP threads of this thread would slow down those of the model thread afterwards.
        ones = np.ones(-(-size // _PIECE) * _PIECE // 4, np.float32)
        self._buffer = torch.from_numpy(ones).to(engine.device)
        self._read = self._native(engine) if isinstance(engine.runner, Native) else self._buffer.sum

    def read(self) -> None:
        """Read the buffer once."""
        synchronise(self._device)
        began = time.perf_counter()
        self._read()
        synchronise(self._device)
        self.best = max(self.best, self._buffer.nbytes / (time.perf_counter() - began))

    def _native(self, engine: Engine) -> Callable[[], object]:
        read, pool = build.load().fish_read, build.pool(engine.plan.threads)
        read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        return lambda: read(pool, self._buffer.data_ptr(), self._buffer.nbytes)
