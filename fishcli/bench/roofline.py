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
from fishcli.bench.timing import device_seconds, synchronise
from fishcli.engine import Engine
from fishcli.lm.model import Transformer
from fishcli.native import build
from fishcli.runners.native_lm import Native

_PIECE = 64 << 10  # bytes; `fish_read` reads whole pieces
_ROUNDS = 2  # readings of the weights of a frame, after each burst of steps
_COPY = 1 << 30  # bytes that are copied within a GPU's memory

# Memory bandwidths as NVIDIA publishes them, in bytes/s: the data sheets of the GeForce RTX 4090 (384 bits of GDDR6X at
# 21 Gbit/s) and of the H100 SXM (HBM3).
PUBLISHED = {"RTX 4090": 1.008e12, "H100 SXM": 3.35e12}
# What the recorded step spends beside reading the weights: the seconds between two kernels of a CUDA graph, and the
# kernels of a frame: 13 in each of the 24 + 7 x 4 blocks and 10 in each of the eight samplings, counted in what the
# compiler makes of them for a CPU. The gap is an assumption until a device has run it.
_KERNEL_GAP, _KERNELS = 1.2e-6, 13 * (24 + 7 * 4) + 10 * 8


@dataclass(frozen=True)
class Roofline:
    """The bytes that a decode step of one sequence reads, the memory bandwidth, and the frames/s that these allow.

    A step reads the slow transformer and its output layer once, and the fast transformer once for each codebook.
    Bandwidths are the best of many readings of as many bytes by the same threads; of a GPU, of many copies of a large
    tensor within its memory, each byte of which is read and written. `efficiency` is the measured speed
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
    if task.engine.device.type == "cuda":
        readers: list[Reader | Copier] = [Copier(task.engine.device)]
    else:
        readers = [Reader(task.engine, slow), *[Reader(task.engine, fast)] * codebooks]

    def read() -> None:
        for _ in range(_ROUNDS):
            for reader in readers:
                reader.read()

    step = decode_step(task, batch=1, between=read)
    bandwidths = readers[0].best, readers[-1].best
    bound = 1 / (slow / bandwidths[0] + codebooks * fast / bandwidths[1])
    return step, Roofline(slow, fast, codebooks, *bandwidths, bound, step.frames_per_second.median / bound)


def expected(model: Transformer, bandwidth: float) -> tuple[float, float]:
    """Return the frames/s of the memory roofline at a bandwidth, and the share of it that the recorded step should
    reach on a GPU: the kernels of a frame come on top, each after the one before.

    Of the full-size model in bfloat16, a frame reads 1.69 GB: at most 595 frames/s on an RTX 4090, of which 65 % are
    expected, and 1980 frames/s on an H100 SXM, of which 36 %. No device has run it. On an H100, 60 % would need a third
    as many kernels.
    """
    slow, fast = weights_read(model)
    reading = (slow + model.settings.codebooks * fast) / bandwidth
    return 1 / reading, reading / (reading + _KERNELS * _KERNEL_GAP)


def weights_read(model: Transformer) -> tuple[int, int]:
    """Return the stored bytes of the weights that a step reads once, and of those that it reads for each codebook."""
    once: list[nn.Module] = [model.layers, model.norm, model.output]
    if hasattr(model, "fast_project_in"):
        once.append(model.fast_project_in)
    return stored(once), stored([model.fast_layers, model.fast_norm, model.fast_output])


def stored(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of the parameters of modules."""
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


class Copier:
    """Copies a large tensor within a GPU's memory; `best` is the best bandwidth, read and written, in bytes/s."""

    def __init__(self, device: torch.device, size: int = _COPY) -> None:
        self.best = 0.0
        self._device = device
        # Far more than the caches hold. Not zeros, which a GPU may compress.
        self._source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
        self._target = torch.empty_like(self._source)

    def read(self) -> None:
        """Copy the tensor once."""
        self.best = max(self.best, 2 * len(self._source) / device_seconds(self._device, self._copy))

    def _copy(self) -> None:
        self._target.copy_(self._source)


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
