"""The decode step on a GPU: its parts compiled by torch, and the whole frame recorded as one CUDA graph.

At a batch of one, a step is limited by the memory that it reads and by the launches of its kernels. So the slow
transformer, the seven steps of the fast one and the sampling are one launch; a frame takes one copy to the GPU, one
launch, one copy back, and one wait, at its end.

A graph has fixed shapes and addresses. One serves every frame of a bucket, a batch size and a context length rounded
up to powers of two: slots, positions, sampling parameters and history are numbers in it. Sequences and positions that
fill up a bucket are computed along, which costs a GPU little beside reading the weights.

The compiler sees a block of the transformer, not all of them: the 24 of the slow transformer share one compilation,
and those of the fast one two (for one new position and for two). A whole frame took it minutes for every bucket, and
no kernel spans two blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fishcli import files
from fishcli.lm.kv_cache import KVCache, KVIndex
from fishcli.lm.model import Block, Transformer
from fishcli.lm.sampling import WINDOW, SamplingTensors, sample
from fishcli.native import trust
from fishcli.runners.base import Batch
from fishcli.runners.eager import Eager
from fishcli.runners.recorder import Receiver, Recorder, Recording, Staging

log = logging.getLogger(__name__)

_LEAST_CONTEXT = 1024  # positions of the smallest bucket
_MAX_GRAPHS = 256  # of one piece of code; torch gives up after 8
# What a graph is made from.
_SOURCES = ("lm/kv_cache", "lm/model", "lm/quantize", "lm/sampling", "runners/cuda_graph", "runners/recorder")

Backend = str | Callable[..., Any]


class _Bucket(NamedTuple):
    """The shape of a graph: a batch size and a context length."""

    batch: int
    context: int


class Compiled(Eager):
    """A `Runner`. Where the compiler fails, a warning says why and the steps run as those of `Eager`."""

    def __init__(self, model: Transformer, backend: Backend = "inductor") -> None:
        super().__init__(model)
        self._backend = backend
        self._recorder: Recorder | None = None
        self._works = True
        self._frames: WeakKeyDictionary[KVCache, dict[_Bucket, Frame]] = WeakKeyDictionary()

    def cache(self, positions: int) -> KVCache:
        """Allocate a KV cache with one position more, which the sequences that fill up a bucket write."""
        with torch.inference_mode():  # like the steps: a compilation is for one kind of tensor
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
                self._frames.clear()
        return super().step(cache, batch)

    def _step(self, cache: KVCache, batch: Batch) -> tuple[Tensor, Tensor]:
        context = max(_LEAST_CONTEXT, _power_of_two(int(batch.positions.max()) + 1))
        bucket = _Bucket(_power_of_two(len(batch.columns)), context)
        frames = self._frames.setdefault(cache, {})
        if bucket in frames:
            return frames[bucket](batch)
        frame = Frame(self.model, cache, bucket, self._backend)
        result = self._compile(frame, batch)
        frames[bucket] = frame
        return result

    def _compile(self, frame: Frame, batch: Batch) -> tuple[Tensor, Tensor]:
        """Run the first step of a bucket: compiled now, or found compiled in the cache folder; and record it."""
        # torch keeps there what it compiles, under its own keys; its default folder is lost at a restart.
        folder = Path(os.path.realpath(files.folder("cache")), "compiled")
        if trust.is_private(folder):  # torch runs what it finds there
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        mark = folder / f"{self._key(frame.bucket)}.done"
        if not mark.exists():
            log.info("Compiling the decode step for this GPU: about a minute, once. The next run starts without it.")
        limits = {"recompile_limit": _MAX_GRAPHS, "accumulated_recompile_limit": _MAX_GRAPHS}
        # The fused attention kernels go through the keys of a head one after another. As plain operations, which
        # the compiler fuses with their neighbours, attention is spread over the GPU.
        with torch._dynamo.config.patch(limits), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for people who write kernels
            self._recorder = self._recorder or Recorder(self.model.device)
            result = frame.record(self._recorder, batch)
        with contextlib.suppress(OSError):  # the next run announces the compilation again
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
        log.debug("compiled %s: %s", mark.stem, dict(torch._dynamo.utils.counters["inductor"]))
        return result

    def _key(self, bucket: _Bucket) -> str:
        """Return a name for what a graph is made from; only the announcement depends on it."""
        m = self.model
        device = torch.cuda.get_device_name(m.device) if m.device.type == "cuda" else m.device.type
        dtypes = sorted({str(weight.dtype) for weight in m.parameters()})  # and so the quantization
        shapes = *bucket, m.settings, m.codes, m.semantic
        digest = hashlib.sha256(repr((torch.__version__, device, dtypes, shapes)).encode())
        for source in _SOURCES:
            digest.update((Path(__file__).parents[1] / f"{source}.py").read_bytes())
        return digest.hexdigest()[:16]


class Frame:
    """The frames of one bucket over one KV cache. `record` makes the first, calls make the others."""

    def __init__(self, model: Transformer, cache: KVCache, bucket: _Bucket, backend: Backend) -> None:
        self.bucket = bucket
        self._model, self._spare = model, cache.positions - 1
        # Layer by layer: of one tensor, the compiler would copy a layer at each step.
        self._layers = list(zip(model.layers, cache.keys.unbind(0), cache.values.unbind(0), strict=True))
        for _, *layer in self._layers:  # the compiled code serves a KV cache of any length
            for tensor in layer:
                torch._dynamo.mark_dynamic(tensor, 1)
        fast = model.fast_cache(bucket.batch)
        fast_keys, fast_values = fast.keys.zero_().unbind(0), fast.values.zero_().unbind(0)
        self._fast_layers = list(zip(model.fast_layers, fast_keys, fast_values, strict=True))
        self._fast_indices = list(_fast_indices(model, bucket.batch))
        self._inputs, self._batch = _inputs(model, bucket.batch)
        self._backend = backend
        self._recording: Recording[Tensor] | None = None

    def record(self, recorder: Recorder, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make a frame, and record how."""
        self._compiled = _Parts.compiled(self._backend, alone=self.bucket.batch == 1)
        self._fill(batch)
        self._recording = recorder.record(self._work)
        self._receiver = Receiver(self._recording.result)
        return self._received(self._recording.result, batch)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make a frame as it was recorded -> as `Runner.step`."""
        if self._recording is None:
            raise RuntimeError("The frame has not been recorded.")
        self._fill(batch)
        return self._received(self._recording.replay(), batch)

    def _fill(self, batch: Batch) -> None:
        """Send a batch to the GPU; sequences that fill up the bucket repeat its first, and write the spare position."""
        count = len(batch.columns)
        for buffer, given in zip(self._inputs.host, _tensors(batch), strict=True):
            buffer[:count] = given
            buffer[count:] = given[:1]
        _, slots, positions, *_ = self._inputs.host
        slots[count:], positions[count:] = self._spare, 0
        self._inputs.send()

    def _received(self, result: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        self._receiver.begin(result)
        columns, choices = self._receiver.wait()[: len(batch.columns)].clone().tensor_split((-self._codebooks,), dim=1)
        return columns, choices

    @property
    def _codebooks(self) -> int:
        return self._model.settings.codebooks

    def _work(self) -> Tensor:
        """Return columns and choices side by side (B, 2 K + 1). No size depends on data, and nothing is waited for."""
        model, parts, batch = self._model, self._compiled, self._batch
        x, rotation, index = parts.embed(model, batch.columns, batch.slots, batch.positions, self.bucket.context)
        for layer, keys, values in self._layers:
            x = parts.block(layer, x, rotation, keys, values, index)
        choice, code, x = parts.first(model, x[:, 0], batch.history[:, 0], batch.params, batch.uniforms[:, 0])
        choices, codes = [choice], [code]
        for i, (rotation, index) in enumerate(self._fast_indices, 1):
            for layer, keys, values in self._fast_layers:
                x = parts.block(layer, x, rotation, keys, values, index)
            last = x[:, -1].flatten().view(len(x), -1)  # of the same strides for two positions as for one
            choice, code, x = parts.following(model, last, batch.history[:, i], batch.params, batch.uniforms[:, i])
            choices.append(choice)
            codes.append(code)
        return torch.stack([model.semantic + codes[0], *codes, *choices], dim=1)


class _Parts(NamedTuple):
    """The parts of a frame, as they are compiled."""

    embed: Callable[..., tuple[Tensor, Tensor, KVIndex]]
    block: Callable[..., Tensor]
    first: Callable[..., tuple[Tensor, Tensor, Tensor]]
    following: Callable[..., tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def compiled(cls, backend: Backend, alone: bool) -> _Parts:
        """Return the parts, each compiled when it is first called. `alone`: for a batch of one.

        The products of one sequence are matrix by vector. With this option the compiler writes them itself, fused with
        their neighbours, instead of calling cuBLAS.
        """
        options: dict[str, Any] = {"coordinate_descent_tuning": True} if alone and backend == "inductor" else {}
        compile = partial(torch.compile, fullgraph=True, dynamic=False, backend=backend, options=options or None)
        return cls(*(compile(part) for part in (_embed, _block, _first, _following)))


def _embed(
    model: Transformer, columns: Tensor, slots: Tensor, positions: Tensor, context: int
) -> tuple[Tensor, Tensor, KVIndex]:
    """Return the input of the first block (B, 1, dim), its rotation, and an index of `context` positions."""
    index = KVIndex.masked(slots, positions, context)
    return model.embed(columns[:, None]), model.rotation[index.positions], index


def _block(layer: Block, x: Tensor, rotation: Tensor, keys: Tensor, values: Tensor, index: KVIndex) -> Tensor:
    y: Tensor = layer(x, rotation, keys, values, index)
    return y


def _first(
    model: Transformer, hidden: Tensor, history: Tensor, params: SamplingTensors, uniforms: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample the first code -> the choice (B,), the code (B,), and the fast transformer's first two inputs."""
    choice = sample(model.logits(hidden), history, params, uniforms)
    code = torch.where(choice < model.codes, choice, 0).clamp_min(0)
    # Both are known at once, and one pass over the weights serves both.
    return choice, code, torch.stack([model.fast_input(hidden), model.fast_embeddings(code)], dim=1)


def _following(
    model: Transformer, x: Tensor, history: Tensor, params: SamplingTensors, uniforms: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample another code from a hidden state (B, fast dim) -> the choice, the code, and the next input."""
    choice = sample(model.fast_logits(x), history, params, uniforms)
    code = choice.clamp_min(0)
    return choice, code, model.fast_embeddings(code)[:, None]


def _fast_indices(model: Transformer, batch: int) -> Iterator[tuple[Tensor, KVIndex]]:
    """Yield rotation and index of each step of the fast transformer: the first two codes, then one after another.

    Each reads the positions of all codes behind a mask, so that all but the first have the same shape.
    """
    s, device = model.settings, model.device
    slots = torch.arange(batch, device=device)[:, None] * s.codebooks
    steps = torch.arange(s.codebooks, device=device)
    for start, end in [(0, 2), *((i, i + 1) for i in range(2, s.codebooks))]:
        positions = steps[start:end].expand(batch, -1).contiguous()
        mask = (steps <= steps[start:end].repeat_interleave(s.fast.group)[:, None]).expand(batch, 1, -1, -1)
        # What is behind the last position may be anything: its last key stands in, and the mask hides it.
        index = KVIndex(positions, slots + positions, slots + steps.clamp_max(end - 1), mask.contiguous())
        yield model.fast_rotation[positions], index


def _inputs(model: Transformer, count: int) -> tuple[Staging, Batch]:
    """Allocate the inputs of a graph for `count` sequences."""
    k, integer, real = model.settings.codebooks, torch.int64, torch.float32
    integers = [(count, k + 1), (count,), (count,), (count, k, WINDOW)]
    reals = [(count,), (count,), (count,), (count, k)]
    staging = Staging([*((shape, integer) for shape in integers), *((shape, real) for shape in reals)], model.device)
    columns, slots, positions, history, *params, uniforms = staging.device
    return staging, Batch(columns, slots, positions, history, SamplingTensors(*params), uniforms)


def _tensors(batch: Batch) -> Iterator[Tensor]:
    yield from (batch.columns, batch.slots, batch.positions, batch.history, *batch.params, batch.uniforms)


def _power_of_two(number: int) -> int:
    """Return the least power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()


def _reason(error: Exception) -> str:
    """Return an error of the compiler on one line; torch wraps those of its parts."""
    error = getattr(error, "inner_exception", error)
    line = str(error).strip().split("\n", 1)[0]
    return (line.rstrip(".") or type(error).__name__)[:200]
