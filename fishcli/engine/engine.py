"""`load()` and the Engine, the public face of the model thread.

Everything that speaks (a command, eight clients of a server, the page, a batch job) submits requests to an Engine and
reads a stream back; nobody else runs the model.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from fishcli.audio.codes import CodecId
from fishcli.checkpoints import local
from fishcli.checkpoints.convert import Progress
from fishcli.checkpoints.tensor_cache import TensorCache
from fishcli.codec import CodecSettings, Firefly
from fishcli.engine.executor import Executor
from fishcli.engine.loading import Model
from fishcli.engine.prepared import Prepared, no_room
from fishcli.engine.scheduler import Scheduler
from fishcli.engine.streams import AudioStream, Channel, FrameStream, Later, Stream
from fishcli.engine.tasks import DecodeTask, PieceTask, SpeechTask
from fishcli.engine.vocoder import Decode, Vocoder
from fishcli.engine.worker import Worker
from fishcli.errors import EngineClosed, ModelMissing, SettingError
from fishcli.lm.model import Transformer
from fishcli.lm.prompt import PromptBuilder
from fishcli.lm.settings import LMSettings
from fishcli.lm.tokenizer import Tokenizer
from fishcli.request import Codes, Request, Samples, SamplingParams, TextFeed, as_codes, as_samples
from fishcli.runners.base import Runner
from fishcli.runners.cuda_codec import RecordedDecoder, RecordedStream
from fishcli.runners.native_codec import NativeDecoder
from fishcli.runners.plan import Plan, kv_positions, make_plan

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH = 8  # sequences of a decode step; on two cores more of them are not faster
_GPU_BATCH = 64  # a GPU reads the weights once for all of them
_BUFFER = 64  # frames of a sample that its reader may be behind

# The codes of an hour of speech take 1.3 MB.
_RECORDINGS = TensorCache("recordings", memory=16_000_000, disk=64_000_000)


class EngineStats(NamedTuple):
    """The load of an engine at one moment: sequences that run and that wait for a slot, positions of the KV cache that
    are reserved and in all, and the frames generated since it was loaded."""

    running: int
    waiting: int
    kv_used: int
    kv_positions: int
    frames: int


class Engine:
    """One model, one KV cache and one model thread, for any number of threads that submit requests.

    The parts of the checkpoint are loaded when they are first used. `close` ends the thread and every stream.
    """

    def __init__(
        self,
        found: local.Found,
        codec_path: Path,
        plan: Plan,
        max_batch: int = MAX_BATCH,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.plan = found, plan
        self._parts = parts = Model(found, codec_path, plan, progress)
        self._worker = Worker(Scheduler(max_batch), self.frame_rate, lambda: _executor(parts))
        weakref.finalize(self, self._worker.stop).atexit = False  # the thread holds the worker, not the engine

    # Metadata of the checkpoint.

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.plan.device

    @property
    def codec_settings(self) -> CodecSettings:
        """The dimensions of the codec."""
        return self._parts.codec_settings

    @property
    def codec_id(self) -> CodecId:
        """The identity of the codec, for codes files. Loads the codec."""
        self._load("codec_id")
        return self._parts.codec_id

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio, in Hz."""
        return self.codec_settings.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second, in Hz."""
        return self.codec_settings.frame_rate

    @property
    def lm_settings(self) -> LMSettings:
        """The dimensions of the language model."""
        return self._parts.lm_settings

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint."""
        return self._parts.tokenizer

    @property
    def sampling(self) -> SamplingParams:
        """The default sampling parameters of the checkpoint."""
        return self._parts.sampling

    @property
    def kv_positions(self) -> int:
        """Positions of the KV cache, for all sequences together."""
        return kv_positions(self.lm_settings, self.plan)

    @property
    def fault(self) -> BaseException | None:
        """The exception that the model thread has died of; None while it lives, and after `close`."""
        return self._worker.error

    @property
    def max_batch(self) -> int:
        """The most sequences of a decode step; others wait."""
        return self._worker.scheduler.max_batch

    @property
    def stats(self) -> EngineStats:
        """The load of the engine now. Any thread may ask at any time; the model thread does not wait for it."""
        now = self._worker.load
        return EngineStats(now.running, now.waiting, now.positions, self.kv_positions, now.frames)

    # Requests.

    def speak(self, request: Request | str) -> AudioStream:
        """Start to speak and return the audio as a stream of AudioChunk, each sample in order.

        Closing the stream cancels the request. Sample i has the seed + i. Raises InputError for text or references that
        cannot be used, before anything is generated.
        """
        prepared = self._prepared(request)
        vocoders = [Vocoder(self._stream_decoder()) for _ in range(prepared.request.num_samples)]
        stream = AudioStream(self._channel(prepared), prepared.request.seed, prepared.script)
        self._submit(prepared, stream.channel, vocoders)
        return stream

    def generate(self, request: Request | str) -> FrameStream:
        """Start to generate and return the codes as a stream of Frame. Raises as `speak` does."""
        prepared = self._prepared(request)
        stream = FrameStream(self._channel(prepared), prepared.request.seed, prepared.script)
        self._submit(prepared, stream.channel, [None] * prepared.request.num_samples)
        return stream

    def encode(self, samples: Samples, stopped: threading.Event | None = None) -> Codes:
        """Return the codes (K, T) of a recording (N,) at `sample_rate`. They are cached. Raises InputError.

        Another thread may set `stopped`; the work then ends with EngineClosed after the piece in progress.
        """
        samples = as_samples(samples)
        described = f"{self._parts.codec_identity} {samples.shape}".encode()
        key = hashlib.sha256(described + samples.tobytes()).hexdigest()
        if (cached := _RECORDINGS.find(key)) is None:
            codes = np.concatenate(self._on_model_thread(lambda: self._encode_pieces(samples), stopped), axis=1)
            cached = {"codes": torch.from_numpy(np.ascontiguousarray(codes))}
            _RECORDINGS.keep(key, cached)
        return cached["codes"].numpy().copy()

    def decode(self, codes: Codes) -> Stream[Samples]:
        """Start to decode codes (K, T) and return their samples as a stream of pieces (n,). Raises InputError."""
        codes = as_codes(codes, self.codec_settings.codebooks, self.codec_settings.codes)
        channel: Channel[Samples] = Channel(_BUFFER, self._worker.wake)
        self._worker.submit(DecodeTask(codes, self._stream_decoder(), channel))
        return Stream(channel)

    # Lifecycle.

    @property
    def healthy(self) -> bool:
        """Whether it takes requests: it is open, and its thread has not died."""
        return self._worker.healthy

    def close(self) -> None:
        """End every stream and the model thread. Further requests raise EngineClosed."""
        self._worker.close()

    # Parts of the model, for benchmarks and tests.

    @property
    def prompts(self) -> PromptBuilder:
        """The builder of prompts."""
        return self._parts.prompts

    @property
    def lm(self) -> Transformer:
        """The language model."""
        return self._parts.lm

    @property
    def runner(self) -> Runner:
        """The runner of the language model."""
        return self._parts.runner

    @property
    def codec(self) -> Firefly:
        """The codec."""
        return self._parts.codec

    @property
    def decoder(self) -> Firefly | NativeDecoder | RecordedDecoder:
        """The codec's decoder."""
        return self._parts.decoder

    def _prepared(self, request: Request | str) -> Prepared:
        """Prepare a request in the caller's thread, which may read the disk."""
        if not isinstance(request, Request):
            request = Request(request)  # which refuses what is no text
        prepared = Prepared(request, self._parts.prompts, self._parts.sampling)
        needed = prepared.largest
        if needed > self.kv_positions:
            raise no_room(needed, self.kv_positions)
        self._load("runner")
        if prepared.request.references:
            prepared.cached = self._parts.prefixes.find(prepared.prefix)
        return prepared

    def _channel(self, prepared: Prepared) -> Channel[Any]:
        return Channel(_BUFFER * prepared.request.num_samples, self._worker.wake)

    def _submit(self, prepared: Prepared, channel: Channel[Any], vocoders: Iterable[Vocoder | None]) -> None:
        task = SpeechTask(prepared, channel, vocoders, self._worker.wake)
        if isinstance(feed := prepared.request.text, TextFeed):
            feed.attach(task)
        try:
            self._worker.submit(task)
        except EngineClosed:
            task.release()
            raise

    def _encode_pieces(self, samples: Samples) -> Iterator[Codes]:
        return map(_to_numpy, self._parts.codec.encode_pieces(torch.from_numpy(samples).to(self.device)))

    def _load(self, name: str) -> None:
        """Load a part of the model on the model thread, unless it is there.

        No other thread should compute with PyTorch in parallel: OpenMP has threads for each that does, and where they
        are more than the processors, they sleep between any two operations (encoding took 1.08 times as long).
        """
        if not self._parts.has(name):
            self._on_model_thread(lambda: iter([getattr(self._parts, name)]))

    def _on_model_thread(self, start: Callable[[], Iterator[T]], stopped: threading.Event | None = None) -> list[T]:
        """Return the results of some work that is done piece by piece on the model thread."""
        channel: Channel[T] = Channel(1, self._worker.wake)
        self._worker.submit(PieceTask(start, channel))
        results = []
        with Stream(channel) as stream:
            for result in stream:
                results.append(result)
                if stopped is not None and stopped.is_set():
                    raise EngineClosed("The work was cancelled.")
        return results

    def _stream_decoder(self) -> Decode:
        """Return a streaming decoder of one sample: the next codes (K, t) -> their samples."""
        self._load("decoder")
        stream = self._parts.decoder.stream()
        if isinstance(stream, RecordedStream):
            return lambda codes: Later(stream.begin(torch.from_numpy(codes))).then(_to_numpy)
        return lambda codes: _to_numpy(stream.push(torch.from_numpy(codes)))


def _executor(parts: Model) -> Executor:
    return Executor(parts.runner, kv_positions(parts.lm_settings, parts.plan), parts.prefixes)


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


_engines: dict[tuple[object, ...], Engine] = {}
_loading = threading.Lock()


def load(
    model: str | Path | None = None,
    *,
    codec: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "auto",
    compile: bool | None = None,
    threads: int | None = None,
    kv_memory: int | None = None,
    max_batch: int | None = None,
    progress: Progress | None = None,
) -> Engine:
    """Return the Engine of a checkpoint; the same one for the same files and settings.

    `model` is a folder or the name of a downloaded model; without it the first of `./checkpoints/fish-speech-1.5`,
    the downloaded 1.5 model and the built-in voice. `codec` is the file of a codec that lies elsewhere. `compile` is
    False for PyTorch alone, True to compile for this machine now, None to do so for a large model and to use what is
    there for a small one. `threads` (default: the physical cores, one for a small model) holds for the whole process.
    `kv_memory` (MB) bounds the KV cache, and so how many sequences run at once; `max_batch` bounds the sequences of a
    decode step (default: 8, on a GPU 64). `progress` is called with a file's name and the bytes done and in all while a
    large checkpoint is converted, from any thread. Raises ModelMissing, InputError or SettingError.
    """
    if max_batch is not None and (type(max_batch) is not int or max_batch < 1):
        raise SettingError(f"max_batch must be a whole number of at least 1, not {max_batch!r}.", field="max_batch")
    codec = codec or local.codec_of(model)
    found = local.find(model, tuple(name for name in local.NEEDED if codec is None or name != local.CODEC))
    codec_path = Path(codec) if codec else found.path / local.CODEC
    if not codec_path.is_file():
        raise ModelMissing(f"codec_path does not exist: {codec_path}.", field="codec_path")
    size = (found.path / "model.pth").stat().st_size
    plan = make_plan(size, device, dtype, quantize, compile, threads, kv_memory)
    max_batch = max_batch or (_GPU_BATCH if plan.device.type == "cuda" else MAX_BATCH)
    torch.set_num_threads(plan.threads)
    torch.backends.cudnn.allow_tf32 = False  # ten bits of a float32 convolution would be lost, and heard
    log.debug("model: %s, %s", found.name, plan)
    key = (found.path.resolve(), found.built_in, codec_path.resolve(), plan, max_batch)
    with _loading:
        if key not in _engines or not _engines[key].healthy:
            _engines[key] = Engine(found, codec_path, plan, max_batch, progress)
        return _engines[key]


def _forget_engines() -> None:
    """A forked process has no model thread, and a lock that another thread held stays locked in it."""
    global _loading
    _loading = threading.Lock()
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_engines)
