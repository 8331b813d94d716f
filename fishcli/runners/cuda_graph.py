"""The step as torch's compiler makes it for a GPU, recorded as a CUDA graph.

One graph serves every frame over a cache of one shape: where the rows stand, how they are sampled and what they
chose before are numbers in it. There are few shapes, as they are rounded up to powers of two; the rows and positions
that nobody uses are computed along, which costs a GPU little beside reading the weights.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fishcli import files
from fishcli.lm.model import KVCache, Transformer, Where
from fishcli.lm.sampling import SamplingTensors
from fishcli.runners.base import Eager, Rows, step

log = logging.getLogger(__name__)

_SHORTEST = 1024  # positions of a cache
_MOST_GRAPHS = 256  # torch gives up after 8; more than the powers of two can make
_SOURCES = ("lm/model", "lm/quantize", "lm/sampling", "runners/base", "runners/cuda_graph")  # what a graph is made from


class _Layers(NamedTuple):
    """A cache layer by layer. The compiler writes into these; of one tensor it would copy each layer at each step."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class Compiled(Eager):
    """A `Runner`. Where the compiler fails, a warning says why and the steps are run as by `Eager`."""

    def __init__(
        self, model: Transformer, backend: str | Callable[..., Any] = "inductor", mode: str | None = "reduce-overhead"
    ) -> None:
        super().__init__(model)
        self._backend, self._mode = backend, mode
        self._run: Callable[..., tuple[Tensor, Tensor]] | None = None
        self._works = True
        self._inputs: dict[tuple[int, int], Rows] = {}  # of each graph, by the shape of its cache
        self._layers: weakref.WeakKeyDictionary[KVCache, _Layers] = weakref.WeakKeyDictionary()
        self._idle: dict[tuple[int, int], list[KVCache]] = {}

    def cache(self, rows: int, length: int) -> KVCache:
        """Room for at least so many, in the place of one that is gone if there is one.

        A CUDA graph reads and writes the places that it was recorded for: each new one would be recorded again.
        """
        shape = _power_of_two(rows), max(_SHORTEST, _power_of_two(length))
        idle = self._idle.setdefault(shape, [])
        with torch.inference_mode():  # like the steps: a graph is for one kind of tensor
            memory = idle.pop() if idle else self.model.cache(*shape)
            memory.keys.zero_()
            memory.values.zero_()
        cache = copy.copy(memory)
        weakref.finalize(cache, idle.append, memory)
        return cache

    @torch.inference_mode()
    def step(self, cache: KVCache, rows: Rows) -> tuple[Tensor, Tensor]:
        if self._works:
            try:
                return self._step(cache, rows)
            except Exception as error:  # no list is complete: torch, Triton and the C++ compiler have their own
                # Nothing was lost: a step writes the same places of the cache again. A fault of its own comes again.
                log.warning("compile failed (%s); continuing without it.", _reason(error))
                self._works = False
        return super().step(cache, rows)

    def _step(self, cache: KVCache, rows: Rows) -> tuple[Tensor, Tensor]:
        shape, count = (cache.rows, cache.length), len(rows.columns)
        inputs = self._inputs.get(shape) or _buffers(rows, cache.rows)
        for buffer, given in zip(_tensors(inputs), _tensors(rows), strict=True):
            buffer[:count].copy_(given)
        columns, choices = self._replay(cache, inputs) if shape in self._inputs else self._compile(cache, inputs)
        self._inputs[shape] = inputs
        # The next replay overwrites its outputs.
        return columns[:count].clone(), choices[:count].clone()

    def _replay(self, cache: KVCache, inputs: Rows) -> tuple[Tensor, Tensor]:
        if self._run is None:
            for table in (self.model.rotation, self.model.fast_rotation, self.model.codebook_offsets):
                _stays(table)
            self._run = torch.compile(_frame, fullgraph=True, dynamic=False, backend=self._backend, mode=self._mode)
        if cache not in self._layers:
            self._layers[cache] = layers = _Layers(cache.keys.unbind(0), cache.values.unbind(0))
            for layer in (*layers.keys, *layers.values):
                _stays(layer)
        torch.compiler.cudagraph_mark_step_begin()
        return self._run(self.model, self._layers[cache], inputs)

    def _compile(self, cache: KVCache, inputs: Rows) -> tuple[Tensor, Tensor]:
        """The first step over a cache of this shape: compiled, or found compiled in the cache folder."""
        # torch keeps there what it makes, with keys of its own; by default it does so where a restart deletes it.
        folder = files.folder("cache") / "compiled"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        mark = folder / f"{self._key(cache)}.done"
        if not mark.exists():
            log.info(
                "Compiling the model's step for this GPU, which takes about a minute, once. "
                "The next run reuses it; a short text alone is faster without it."
            )
        limits = {"recompile_limit": _MOST_GRAPHS, "accumulated_recompile_limit": _MOST_GRAPHS}
        # The fused kernels of attention go through the keys of a head one after another. As plain operations, which
        # the compiler fuses with what is around them, attention is spread over the GPU.
        with torch._dynamo.config.patch(limits), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for people who write kernels
            result = self._replay(cache, inputs)
        with contextlib.suppress(OSError):  # the next run says again that it compiles, though it need not
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
        log.debug("compiled %s: %s", mark.stem, dict(torch._dynamo.utils.counters["inductor"]))
        return result

    def _key(self, cache: KVCache) -> str:
        """A name for what a graph is made from, of which it only depends whether the compiling is announced."""
        m = self.model
        device = torch.cuda.get_device_name(m.device) if m.device.type == "cuda" else m.device.type
        dtypes = sorted({str(weight.dtype) for weight in m.parameters()})  # and so the quantization
        shapes = cache.rows, cache.length, m.settings, m.codes, m.semantic
        digest = hashlib.sha256(repr((torch.__version__, device, self._mode, dtypes, shapes)).encode())
        for source in _SOURCES:
            digest.update((Path(__file__).parents[1] / f"{source}.py").read_bytes())
        return digest.hexdigest()[:16]


def _frame(model: Transformer, cache: _Layers, rows: Rows) -> tuple[Tensor, Tensor]:
    """`step` with attention over all of the cache, behind a mask: nothing in it has a size that changes."""
    length, device = cache.keys[0].shape[2], rows.positions.device
    positions = rows.positions[:, None]
    mask = torch.arange(length, device=device) <= positions
    where = Where(0, torch.arange(len(positions), device=device)[:, None], positions, length, mask[:, None, None])
    return step(model, cache, rows, where)  # type: ignore[arg-type]  # all that a step asks of a KVCache


def _buffers(rows: Rows, count: int) -> Rows:
    """Where a graph of `count` rows reads its inputs. The rows that nobody uses repeat the first."""
    columns, positions, history, *params, uniforms = (
        _stays(t[:1].repeat(count, *[1] * (t.dim() - 1))) for t in _tensors(rows)
    )
    return Rows(columns, positions, history, SamplingTensors(*params), uniforms)


def _tensors(rows: Rows) -> Iterator[Tensor]:
    yield from (rows.columns, rows.positions, rows.history, *rows.params, rows.uniforms)


def _stays(tensor: Tensor) -> Tensor:
    """Tell torch that a tensor keeps its place: a CUDA graph then uses it there, and may write it."""
    torch._dynamo.mark_static_address(tensor)
    return tensor


def _power_of_two(number: int) -> int:
    """The least that is not below `number`."""
    return 1 << (number - 1).bit_length()


def _reason(error: Exception) -> str:
    """An error of the compiler on one line; torch wraps those of its parts."""
    error = getattr(error, "inner_exception", error)
    line = str(error).strip().split("\n", 1)[0]
    return (line.rstrip(".") or type(error).__name__)[:200]
