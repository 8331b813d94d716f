"""`load()` and the Engine: frames of codes below, sound above.

Everything that speaks (command line, server, page) consumes `Engine.frames` or `Engine.speak`; there is no
other generation loop.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fishcli import checkpoint, hub, native
from fishcli.codec import CodecSettings, Firefly, Stream, canonical, shapes
from fishcli.device import Quantize, pick_device, pick_dtype, pick_native, pick_quantize, pick_threads
from fishcli.errors import InputError, ModelMissing, SettingError
from fishcli.lm import weights
from fishcli.lm.batch import Batch
from fishcli.lm.compile import Compiled
from fishcli.lm.native import Native
from fishcli.lm.prompt import Columns, PromptBuilder, Voice
from fishcli.lm.sampling import Sampling
from fishcli.lm.settings import LMSettings
from fishcli.lm.step import Eager, Runner
from fishcli.lm.tokenizer import Tokenizer
from fishcli.lm.transformer import Transformer
from fishcli.text import Span, spoken

log = logging.getLogger(__name__)

Codes = npt.NDArray[np.int16]  # (K, T)
Samples = npt.NDArray[np.float32]  # (N,), in -1..1

MAX_SAMPLES = 64
_RESERVE = 1024  # frames kept free for a chunk that may last as long as the context holds
_LONGEST_PUSH = 32  # frames decoded at once; the first alone, so that sound starts early


class Frame(NamedTuple):
    """One frame of one sample: its codes (K, 1), or (K, 0) where the chunk came to its end instead.

    `span` is the chunk of the text that is being spoken. `ended` is None while it goes on, True at its end,
    False where it was cut at `max_new_tokens`.
    """

    sample: int
    span: Span
    codes: Codes
    ended: bool | None


class Chunk(NamedTuple):
    """Some sound of one sample: samples (frames * `Engine.frame`,) and the codes (K, frames) they came from.

    `span` and `ended` are those of the last frame in it; `seed` repeats the sample.
    """

    sample: int
    span: Span
    codes: Codes
    ended: bool | None
    samples: Samples
    seed: int


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be spoken, and how: `samples` times, in chunks of at most `chunk_length` UTF-8 bytes of text.

    The text is spoken as it stands: `fishcli.text.normalize` turns numbers, dates and the like into words.
    With `iterative_prompt`, each chunk sees the earlier ones, which keeps one voice from start to end. `language`
    (ISO 639-1; None: guessed) says where sentences end.
    """

    text: str
    references: Sequence[Voice] = ()
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    samples: int = 1
    chunk_length: int = 200
    iterative_prompt: bool = True
    language: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise SettingError(f"num_samples must be between 1 and {MAX_SAMPLES}, not {self.samples}.")
        if self.chunk_length < 1:
            raise SettingError(f"chunk_length must be a positive number of bytes, not {self.chunk_length}.")

    def spans(self) -> list[Span]:
        """The chunks that the text is spoken in. Raises InputError for text that cannot be spoken."""
        return spoken(self.text, self.chunk_length, self.language)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a model is run. `native`: by what is compiled for the CPU; `compile`: by what PyTorch compiles for a GPU."""

    device: torch.device
    dtype: torch.dtype  # of the weights that are not quantized
    quantize: Quantize = "none"
    native: bool = False
    compile: bool = False
    threads: int = 1


class Engine:
    """A checkpoint on a device. Its parts are loaded when they are first needed; use it from one thread at a time."""

    def __init__(self, model: hub.Found, codec_path: Path, plan: Plan) -> None:
        self.model, self.plan = model, plan
        self._codec_path = codec_path
        dimensions = codec_path.with_name("codec.json")
        given = checkpoint.read_settings(dimensions) if dimensions.exists() else {}
        self.codec_settings = CodecSettings.from_dict(given)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.plan.device

    @property
    def sample_rate(self) -> int:
        """Samples a second of what comes out, in Hz."""
        return self.codec_settings.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames of codes a second, in Hz."""
        return self.codec_settings.frame_rate

    def encode(self, samples: Samples) -> Codes:
        """Samples (N,) at `sample_rate` -> codes (K, T)."""
        return self.codec.encode(torch.from_numpy(samples).to(self.device)).cpu().numpy()

    def decode(self, codes: Codes) -> Iterator[Samples]:
        """Codes (K, T) -> the samples that they stand for, piece by piece."""
        stream = self.codec.stream()
        for start in range(0, codes.shape[1], _LONGEST_PUSH):
            yield self._push(stream, codes[:, start : start + _LONGEST_PUSH])

    def frames(self, request: Request | str) -> Iterator[Frame]:
        """The frames of every sample, as they are made. Closing the iterator stops the work.

        The samples are rows of one batch; sample i uses seed + i. The model is loaded, and text or references
        that cannot be used raise InputError, before this returns.
        """
        request = _request(request)
        spans = request.spans()
        reserve = min(request.sampling.max_new_tokens or _RESERVE, self.lm_settings.max_seq_len // 2)
        for span in spans:  # what cannot be asked fails here, before anything was spoken
            self._prompts.build(span.text, request.references, (), reserve)
        speeches = [_Speech(i, spans, request, self._prompts, reserve) for i in range(request.samples)]
        return self._generate(Batch(self.runner), speeches, request.sampling)

    def speak(self, request: Request | str) -> Iterator[Chunk]:
        """The same as sound, piece by piece as the codec makes it: short pieces first, longer ones later.

        A piece never spans two chunks of the text.
        """
        request = _request(request)
        streams = [self.codec.stream() for _ in range(request.samples)]
        return self._sound(self.frames(request), streams, request)

    def _generate(self, batch: Batch, speeches: Sequence[_Speech], sampling: Sampling) -> Iterator[Frame]:
        speaking = {batch.join(sampling, (sampling.seed or 0) + speech.sample): speech for speech in speeches}
        for row, speech in speaking.items():
            batch.ask(row, speech.prompt())
        while batch.rows:
            for row, codes in batch.step():
                yield speaking[row].take(codes.astype(np.int16), row.ended)
                if row.ended is not None and speaking[row].done:
                    batch.leave(row)
                elif row.ended is not None:
                    batch.ask(row, speaking[row].prompt())

    def _sound(self, frames: Iterator[Frame], streams: Sequence[Stream], request: Request) -> Iterator[Chunk]:
        pushes = [1] * request.samples
        waiting: list[list[Codes]] = [[] for _ in range(request.samples)]
        for sample, span, codes, ended in frames:
            waiting[sample].append(codes)
            if ended is None and len(waiting[sample]) < pushes[sample]:
                continue
            piece = np.concatenate(waiting[sample], axis=1)
            waiting[sample], pushes[sample] = [], min(2 * pushes[sample], _LONGEST_PUSH)
            sound = self._push(streams[sample], piece)
            yield Chunk(sample, span, piece, ended, sound, (request.sampling.seed or 0) + sample)

    def _push(self, stream: Stream, codes: Codes) -> Samples:
        return stream.push(torch.from_numpy(codes).to(self.device)).cpu().numpy()

    @functools.cached_property
    def lm_settings(self) -> LMSettings:
        """The dimensions of the language model."""
        return LMSettings.from_dict(checkpoint.read_settings(self.model.path / "config.json"))

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint."""
        return Tokenizer(self.model.path / "tokenizer.tiktoken", self.model.path / "special_tokens.json")

    @functools.cached_property
    def _prompts(self) -> PromptBuilder:
        s = self.lm_settings
        return PromptBuilder(self.tokenizer, s.codebooks, s.max_seq_len, self.frame_rate)

    @functools.cached_property
    def runner(self) -> Runner:
        """The language model with what runs it."""
        if self.plan.native:
            try:
                return Native(self.lm, self.plan.threads)
            except native.Unavailable as error:
                log.warning("This model is not run by what is compiled for it: %s.", error)
        return Compiled(self.lm) if self.plan.compile and self.device.type == "cuda" else Eager(self.lm)

    @functools.cached_property
    def lm(self) -> Transformer:
        """The language model, its weights as the plan has them."""
        s, tokenizer, path = self.lm_settings, self.tokenizer, self.model.path / "model.pth"
        codes = self.codec_settings.codes
        if (
            self.codec_settings.codebooks != s.codebooks
            or codes > min(s.codebook_size, tokenizer.codes)
            or tokenizer.size > s.vocab_size
        ):
            raise InputError(
                f"The config.json, special_tokens.json and codec of {self.model.path} do not belong together; "
                "download the checkpoint again."
            )

        def convert(state: checkpoint.Tensors) -> checkpoint.Tensors:
            state = weights.canonical(state)
            checkpoint.check(state, weights.shapes(s), str(path))
            return weights.kept(state, s, codes, tokenizer.semantic, tokenizer.end, quantize)

        dtype, quantize = self.plan.dtype, self.plan.quantize
        recipe = {"lm": repr(s), "codes": codes, "semantic": tokenizer.semantic, "end": tokenizer.end}
        with torch.device("meta"):
            model = Transformer(s, codes, tokenizer.semantic, quantize)
        variant = "" if quantize == "none" else quantize
        model.load_state_dict(checkpoint.load(path, dtype, convert, recipe, variant), assign=True)
        return model.to(self.device).prepare()

    @functools.cached_property
    def codec(self) -> Firefly:
        """The codec, in float32."""
        s, path = self.codec_settings, self._codec_path

        def convert(state: checkpoint.Tensors) -> checkpoint.Tensors:
            state = canonical(state)
            checkpoint.check(state, shapes(s), str(path))
            return state

        with torch.device("meta"):
            codec = Firefly(s)
        codec.load_state_dict(checkpoint.load(path, torch.float32, convert, {"codec": repr(s)}), assign=True)
        return codec.to(self.device).eval()


class _Speech:
    """One sample on its way through the chunks of a text."""

    def __init__(
        self, sample: int, spans: Sequence[Span], request: Request, prompts: PromptBuilder, reserve: int
    ) -> None:
        self.sample = sample
        self._left = list(spans)
        self._request = request
        self._prompts, self._reserve = prompts, reserve
        self._codes: list[Codes] = []  # of the chunk that is being spoken
        self._spoken: list[Voice] = []

    @property
    def done(self) -> bool:
        return not self._left

    def prompt(self) -> Columns:
        """What asks for the next chunk."""
        text, references = self._left[0].text, self._request.references
        if self._request.iterative_prompt:
            self._spoken = self._prompts.fitting(text, references, self._spoken, self._reserve)
        else:
            self._spoken = []
        prompt = self._prompts.build(text, references, self._spoken, self._reserve)
        log.debug("sample %d: %r after a prompt of %d positions", self.sample, text, prompt.shape[1])
        return prompt

    def take(self, codes: Codes, ended: bool | None) -> Frame:
        """Note what was spoken of the current chunk; after its end the next one is current."""
        span = self._left[0]
        self._codes.append(codes)
        if ended is not None:
            chunk = np.concatenate(self._codes, axis=1)
            if chunk.shape[1]:
                self._spoken.append(Voice(chunk, span.text))
            self._left, self._codes = self._left[1:], []
        return Frame(self.sample, span, codes, ended)


def draw_seed() -> int:
    """A seed that nobody asked for, short enough to be typed again."""
    return secrets.randbelow(2**31)


def _request(request: Request | str) -> Request:
    """The request with all that it left open: a plain text is spoken as it is by default, on a seed of our own."""
    if isinstance(request, str):
        request = Request(request)
    if request.sampling.seed is not None:
        return request
    return dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, seed=draw_seed()))


_engines: dict[tuple[object, ...], Engine] = {}
_loading = threading.Lock()


def load(
    model: str | Path | None = None,
    *,
    codec: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "auto",
    compile: bool = False,
    threads: int | None = None,
) -> Engine:
    """The Engine of a checkpoint; the same one for the same files and settings.

    `model` is a folder or the name of a downloaded model; without it the first of `./checkpoints/fish-speech-1.5`,
    the downloaded 1.5 model and the built-in voice. `codec` is the file of a codec that lies elsewhere. `threads`
    (default: the physical cores, one for a small model) holds for the whole process. Raises ModelMissing,
    InputError or SettingError.
    """
    found = hub.find(model, tuple(name for name in hub.NEEDED if codec is None or name != hub.CODEC))
    codec_path = Path(codec) if codec else found.path / hub.CODEC
    if not codec_path.is_file():
        raise ModelMissing(f"There is no codec at {codec_path}; name its .pth file with --codec-path.")
    plan = make_plan((found.path / "model.pth").stat().st_size, device, dtype, quantize, compile, threads)
    torch.set_num_threads(plan.threads)
    torch.backends.cudnn.allow_tf32 = False  # ten bits of a float32 convolution would be lost, and heard
    log.debug("%s: %s", found.path, plan)
    key = (found.path.resolve(), codec_path.resolve(), plan)
    with _loading:
        if key not in _engines:
            _engines[key] = Engine(found, codec_path, plan)
        return _engines[key]


def make_plan(size: int, device: str, dtype: str, quantize: str, compile: bool, threads: int | None) -> Plan:
    """How a model of `size` bytes is run, given what `load` was. Raises SettingError."""
    where = pick_device(device)
    compiled = pick_native(where, dtype, size, asked=compile)
    if compiled:
        try:
            native.load()
        except native.Unavailable as error:
            compiled = False
            log.warning("The model cannot be compiled for this processor, and is slower without: %s.", error)
    elif compile and where.type != "cuda":
        log.warning("--compile does nothing for %s in %s.", where.type, dtype)
    return Plan(
        device=where,
        dtype=pick_dtype(dtype, where, size, compiled),
        quantize=pick_quantize(quantize, where, size, compiled),
        native=compiled,
        compile=compile,
        threads=pick_threads(threads, size),
    )
