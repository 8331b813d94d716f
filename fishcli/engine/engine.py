"""`load()` and the Engine: frames of codes below, sound above.

Everything that speaks (command line, server, page) consumes `Engine.generate` or `Engine.speak`; there is no
other generation loop.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import torch

from fishcli.checkpoints import convert as checkpoint
from fishcli.checkpoints import local
from fishcli.checkpoints.tensor_cache import TensorCache
from fishcli.codec import CodecSettings, Firefly, canonical, shapes
from fishcli.engine import speech
from fishcli.engine.batch import Batch
from fishcli.engine.prefix_cache import PrefixCache
from fishcli.engine.speech import LONGEST_PUSH
from fishcli.errors import InputError, ModelMissing
from fishcli.lm import weights
from fishcli.lm.model import Transformer
from fishcli.lm.prompt import PromptBuilder
from fishcli.lm.quantize import Quantize
from fishcli.lm.settings import LMSettings
from fishcli.lm.tokenizer import Tokenizer
from fishcli.native import build
from fishcli.request import AudioChunk, Codes, Frame, Request, Samples
from fishcli.runners.base import Eager, Runner
from fishcli.runners.cuda_graph import Compiled
from fishcli.runners.native_codec import NativeDecoder
from fishcli.runners.native_lm import Native
from fishcli.runners.plan import pick_device, pick_dtype, pick_native, pick_quantize, pick_threads

log = logging.getLogger(__name__)

# The codes of an hour of speech take 1.3 MB.
_RECORDINGS = TensorCache("recordings", memory=16_000_000, disk=64_000_000)


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

    def __init__(self, model: local.Found, codec_path: Path, plan: Plan) -> None:
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
        """Samples (N,) at `sample_rate` -> codes (K, T). Those of a recording are kept for the next time."""
        key = hashlib.sha256(self._codec_identity.encode() + np.ascontiguousarray(samples).tobytes()).hexdigest()
        if (found := _RECORDINGS.find(key)) is None:
            found = {"codes": self.codec.encode(torch.from_numpy(samples).to(self.device)).cpu().contiguous()}
            _RECORDINGS.keep(key, found)
        return found["codes"].numpy().copy()

    def decode(self, codes: Codes) -> Iterator[Samples]:
        """Codes (K, T) -> the samples that they stand for, piece by piece."""
        decode = self._decoder()
        for start in range(0, codes.shape[1], LONGEST_PUSH):
            yield decode(codes[:, start : start + LONGEST_PUSH])

    def generate(self, request: Request | str) -> Iterator[Frame]:
        """The frames of every sample, as they are made. Closing the iterator stops the work.

        The samples are rows of one batch; sample i uses seed + i. The model is loaded, and text or references
        that cannot be used raise InputError, before this returns.
        """
        request = _request(request)
        wanted = speech.speeches(request, self._prompts)
        return speech.frames(Batch(self.runner, self._openings), wanted)

    def speak(self, request: Request | str) -> Generator[AudioChunk]:
        """The same as sound, piece by piece as the codec makes it: short pieces first, longer ones later.

        A piece never spans two chunks of the text.
        """
        request = _request(request)
        decoders = [self._decoder() for _ in range(request.num_samples)]
        return speech.sound(self.generate(request), decoders, request, self.frame_rate)

    def _decoder(self) -> Callable[[Codes], Samples]:
        """What turns the codes of one speech, piece by piece, into its samples."""
        stream = self.decoder.stream()
        return lambda codes: stream.push(torch.from_numpy(codes).to(self.device)).cpu().numpy()

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
        return PromptBuilder(
            self.tokenizer,
            codebooks=s.codebooks,
            codes=self.codec_settings.codes,
            max_seq_len=s.max_seq_len,
            frame_rate=self.frame_rate,
        )

    @functools.cached_property
    def _codec_identity(self) -> str:
        """What the codes of a recording depend on besides its samples."""
        return f"{checkpoint.identity(self._codec_path)} {self.codec_settings!r} {self.device.type}"

    @functools.cached_property
    def _openings(self) -> PrefixCache:
        source, plan = checkpoint.identity(self.model.path / "model.pth"), self.plan
        return PrefixCache(
            f"{source} {self._codec_identity} {plan.device} {plan.dtype} {plan.quantize} {type(self.runner).__name__}"
        )

    @functools.cached_property
    def runner(self) -> Runner:
        """The language model with what runs it."""
        if self.plan.native:
            try:
                return Native(self.lm, self.plan.threads)
            except build.Unavailable as error:
                log.warning("This model is not run by what is compiled for it: %s.", error)
        return Compiled(self.lm) if self.plan.compile else Eager(self.lm)

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
            return weights.for_inference(state, s, codes, tokenizer.semantic, tokenizer.end, quantize)

        dtype, quantize = self.plan.dtype, self.plan.quantize
        recipe = {"lm": repr(s), "codes": codes, "semantic": tokenizer.semantic, "end": tokenizer.end}
        with torch.device("meta"):
            model = Transformer(s, codes, tokenizer.semantic, quantize)
        variant = "" if quantize == "none" else quantize
        model.load_state_dict(checkpoint.load(path, dtype, convert, recipe, variant), assign=True)
        return model.to(self.device).prepare()

    @functools.cached_property
    def decoder(self) -> Firefly | NativeDecoder:
        """What decodes: the codec, or what is compiled of it."""
        if self.plan.native:
            try:
                return NativeDecoder(self.codec, self.plan.threads)
            except build.Unavailable as error:
                log.warning("This codec is not run by what is compiled for it: %s.", error)
        return self.codec

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
        tensors = checkpoint.load(path, torch.float32, convert, {"codec": repr(s)})
        codec.load_state_dict(tensors, assign=True)
        if self.plan.native:  # convolutions have copies of theirs
            build.forget((tensor.data_ptr(), tensor.nbytes) for tensor in tensors.values())
        return codec.to(self.device).eval()


def _request(request: Request | str) -> Request:
    """The request with all that it left open: a plain text is spoken as it is by default."""
    return (Request(request) if isinstance(request, str) else request).with_seed()


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
    found = local.find(model, tuple(name for name in local.NEEDED if codec is None or name != local.CODEC))
    codec_path = Path(codec) if codec else found.path / local.CODEC
    if not codec_path.is_file():
        raise ModelMissing(f"There is no codec at {codec_path}; name its .pth file with --codec-path.")
    plan = make_plan((found.path / "model.pth").stat().st_size, device, dtype, quantize, compile, threads)
    torch.set_num_threads(plan.threads)
    torch.backends.cudnn.allow_tf32 = False  # ten bits of a float32 convolution would be lost, and heard
    log.debug("%s: %s", found.path, plan)
    key = (found.path.resolve(), found.built_in, codec_path.resolve(), plan)
    with _loading:
        if key not in _engines:
            _engines[key] = Engine(found, codec_path, plan)
        return _engines[key]


def make_plan(size: int, device: str, dtype: str, quantize: str, compile: bool, threads: int | None) -> Plan:
    """How a model of `size` bytes is run, given what `load` was. Raises SettingError."""
    where = pick_device(device)
    compiled = pick_native(where, dtype, quantize, size, compile)
    if compiled:
        try:
            build.load()
        except build.Unavailable as error:
            compiled = False
            log.warning("The model cannot be compiled for this processor, and is slower without: %s.", error)
    elif compile and where.type != "cuda":
        log.warning("--compile does nothing for %s in %s.", where.type, dtype)
    return Plan(
        device=where,
        dtype=pick_dtype(dtype, where, size, compiled),
        quantize=pick_quantize(quantize, where, size, compiled),
        native=compiled,
        compile=compile and where.type == "cuda",
        threads=pick_threads(threads, size),
    )
