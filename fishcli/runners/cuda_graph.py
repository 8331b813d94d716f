"""The decode step compiled by torch for a GPU and recorded as a CUDA graph.

A graph has fixed shapes and addresses. One serves every frame of a bucket, a batch size and a context length rounded
up to powers of two: slots, positions, sampling parameters and history are numbers in it. Sequences and positions that
fill up a bucket are computed along, which costs a GPU little beside reading the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fishcli import files
from fishcli.lm.kv_cache import KVCache, KVIndex
from fishcli.lm.model import Transformer
from fishcli.lm.sampling import SamplingTensors
from fishcli.native import trust
from fishcli.runners.base import Batch
from fishcli.runners.eager import Eager, decode_step

log = logging.getLogger(__name__)

_LEAST_CONTEXT = 1024  # positions of the smallest bucket
_MAX_GRAPHS = 256  # torch gives up after 8; more than the powers of two can make
# What a graph is made from.
_SOURCES = ("lm/kv_cache", "lm/model", "lm/quantize", "lm/sampling", "runners/eager", "runners/cuda_graph")


class _Bucket(NamedTuple):
    """The shape of a graph: a batch size and a context length."""

    batch: int
    context: int


class _Layers(NamedTuple):
    """A KV cache layer by layer. The compiler writes into these; of one tensor it would copy a layer at each step."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class Compiled(Eager):
    """A `Runner`. Where the compiler fails, a warning says why and the steps run as those of `Eager`."""

    def __init__(
        self, model: Transformer, backend: str | Callable[..., Any] = "inductor", mode: str | None = "reduce-overhead"
    ) -> None:
        super().__init__(model)
        self._backend, self._mode = backend, mode
        self._run: Callable[..., tuple[Tensor, Tensor]] | None = None
        self._works = True
        self._inputs: dict[_Bucket, Batch] = {}
        self._layers: dict[int, _Layers] = {}  # by the address of the keys

    def cache(self, positions: int) -> KVCache:
        """Allocate a KV cache with one position more, which the sequences that fill up a bucket write."""
        with torch.inference_mode():  # like the steps: a graph is for one kind of tensor
            return self.model.cache(positions + 1)

    @torch.inference_mode()
    def step(self, cache: KVCache, batch: Batch) -> tuple[Tensor, Tensor]:
        if self._works:
            try:
                return self._step(cache, batch)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # no list is complete: torch, Triton and the C++ compiler have their own
                # Nothing is lost: a step writes the same positions again. A real error comes again.
                log.warning("The decode step cannot be compiled here (%s); going on without.", _reason(error))
                self._works = False
        return super().step(cache, batch)

    def _step(self, cache: KVCache, batch: Batch) -> tuple[Tensor, Tensor]:
        count = len(batch.columns)
        context = max(_LEAST_CONTEXT, _power_of_two(int(batch.positions.max()) + 1))
        bucket = _Bucket(_power_of_two(count), context)
        inputs = self._inputs.get(bucket)
        known = inputs is not None
        inputs = inputs or _buffers(batch, bucket.batch)
        for buffer, given in zip(_tensors(inputs), _tensors(batch), strict=True):
            buffer[:count].copy_(given)
        inputs.slots[count:] = cache.positions - 1
        inputs.positions[count:] = 0
        columns, choices = (self._replay if known else self._compile)(cache, inputs, bucket.context)
        self._inputs[bucket] = inputs
        # The next replay overwrites its outputs.
        return columns[:count].clone(), choices[:count].clone()

    def _replay(self, cache: KVCache, inputs: Batch, context: int) -> tuple[Tensor, Tensor]:
        if self._run is None:
            for table in (self.model.rotation, self.model.fast_rotation, self.model.codebook_offsets):
                _mark_static(table)
            self._run = torch.compile(_frame, fullgraph=True, dynamic=False, backend=self._backend, mode=self._mode)
        if (address := cache.keys.data_ptr()) not in self._layers:
            self._layers[address] = layers = _Layers(cache.keys.unbind(0), cache.values.unbind(0))
            for layer in (*layers.keys, *layers.values):
                _mark_static(layer)
        torch.compiler.cudagraph_mark_step_begin()
        return self._run(self.model, self._layers[address], inputs, context)

    def _compile(self, cache: KVCache, inputs: Batch, context: int) -> tuple[Tensor, Tensor]:
        """Run the first step of a bucket: compiled now, or found compiled in the cache folder."""
        # torch keeps there what it compiles, under its own keys; its default folder is lost at a restart.
        folder = Path(os.path.realpath(files.folder("cache")), "compiled")
        if trust.is_private(folder):  # torch runs what it finds there
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        mark = folder / f"{self._key(cache, inputs, context)}.done"
        if not mark.exists():
            log.info("Compiling the decode step for this GPU: about a minute, once. The next run starts without it.")
        limits = {"recompile_limit": _MAX_GRAPHS, "accumulated_recompile_limit": _MAX_GRAPHS}
        # The fused attention kernels go through the keys of a head one after another. As plain operations, which
        # the compiler fuses with their neighbours, attention is spread over the GPU.
        with torch._dynamo.config.patch(limits), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for people who write kernels
            result = self._replay(cache, inputs, context)
        with contextlib.suppress(OSError):  # the next run announces the compilation again
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
        log.debug("compiled %s: %s", mark.stem, dict(torch._dynamo.utils.counters["inductor"]))
        return result

    def _key(self, cache: KVCache, inputs: Batch, context: int) -> str:
        """Return a name for what a graph is made from; only the announcement depends on it."""
        m = self.model
        device = torch.cuda.get_device_name(m.device) if m.device.type == "cuda" else m.device.type
        dtypes = sorted({str(weight.dtype) for weight in m.parameters()})  # and so the quantization
        shapes = cache.positions, len(inputs.columns), context, m.settings, m.codes, m.semantic
        digest = hashlib.sha256(repr((torch.__version__, device, self._mode, dtypes, shapes)).encode())
        for source in _SOURCES:
            digest.update((Path(__file__).parents[1] / f"{source}.py").read_bytes())
        return digest.hexdigest()[:16]


def _frame(model: Transformer, cache: _Layers, batch: Batch, context: int) -> tuple[Tensor, Tensor]:
    """A decode step that attends to `context` positions behind a mask: no size in it depends on data."""
    index = KVIndex.masked(batch.slots, batch.positions, context)
    return decode_step(model, cache, batch, index)  # type: ignore[arg-type]  # a step reads keys and values by layer


def _buffers(batch: Batch, count: int) -> Batch:
    """Allocate the inputs of a graph for `count` sequences; those that fill up the bucket repeat the first."""
    columns, slots, positions, history, *params, uniforms = (
        _mark_static(tensor[:1].repeat(count, *[1] * (tensor.dim() - 1))) for tensor in _tensors(batch)
    )
    return Batch(columns, slots, positions, history, SamplingTensors(*params), uniforms)


def _tensors(batch: Batch) -> Iterator[Tensor]:
    yield from (batch.columns, batch.slots, batch.positions, batch.history, *batch.params, batch.uniforms)


def _mark_static(tensor: Tensor) -> Tensor:
    """Tell torch that a tensor keeps its address: a CUDA graph then reads and writes it there."""
    torch._dynamo.mark_static_address(tensor)
    return tensor


def _power_of_two(number: int) -> int:
    """Return the least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()


def _reason(error: Exception) -> str:
    """Return an error of the compiler on one line; torch wraps those of its parts."""
    error = getattr(error, "inner_exception", error)
    line = str(error).strip().split("\n", 1)[0]
    return (line.rstrip(".") or type(error).__name__)[:200]
