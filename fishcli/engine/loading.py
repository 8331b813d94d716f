"""The parts of a checkpoint, each loaded when it is first used, once however many threads ask for it."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch

import fishcli
from fishcli.audio.codes import CodecId
from fishcli.checkpoints import convert, local
from fishcli.codec import CodecSettings, Firefly, amplify, canonical, shapes
from fishcli.engine.prefix_cache import PrefixCache
from fishcli.errors import InputError
from fishcli.lm import weights
from fishcli.lm.model import Transformer
from fishcli.lm.prompt import PromptBuilder
from fishcli.lm.settings import LMSettings, sampling_params
from fishcli.lm.tokenizer import Tokenizer
from fishcli.native import build
from fishcli.request import FISH_SPEECH, SamplingParams
from fishcli.runners.base import Runner
from fishcli.runners.cuda_codec import RecordedDecoder
from fishcli.runners.cuda_graph import Compiled
from fishcli.runners.eager import Eager
from fishcli.runners.native_codec import NativeDecoder
from fishcli.runners.native_lm import Native
from fishcli.runners.plan import Plan

log = logging.getLogger(__name__)

T = TypeVar("T")


class part(Generic[T]):  # noqa: N801 (used like `property`)
    """A property computed once, under the lock of its object (`functools.cached_property` has had none since 3.12)."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> part[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> part[T] | T:
        if instance is None:
            return self
        with instance.lock:
            if self._name not in instance.__dict__:
                instance.__dict__[self._name] = self._make(instance)
        return instance.__dict__[self._name]


class Model:
    """A checkpoint and how it runs. Raises InputError where a file cannot be used."""

    def __init__(
        self, found: local.Found, codec_path: Path, plan: Plan, progress: convert.Progress | None = None
    ) -> None:
        self.lock = threading.RLock()
        self.found, self.plan = found, plan
        self._progress = progress
        self._codec_path = codec_path
        dimensions = codec_path.with_name("codec.json")
        given = convert.read_settings(dimensions) if dimensions.exists() else {}
        self.codec_settings = CodecSettings.from_dict(given)

    def has(self, name: str) -> bool:
        """Return whether a part is loaded."""
        return name in self.__dict__

    @part
    def lm_settings(self) -> LMSettings:
        """The dimensions of the language model."""
        return LMSettings.from_dict(convert.read_settings(self.found.path / "config.json"))

    @part
    def sampling(self) -> SamplingParams:
        """The default sampling parameters: those of `generation_config.json`, if there is one, over Fish Speech's."""
        path = self.found.path / local.SAMPLING
        return sampling_params(convert.read_settings(path)) if path.is_file() else FISH_SPEECH

    @part
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint."""
        return Tokenizer(self.found.path / "tokenizer.tiktoken", self.found.path / "special_tokens.json")

    @part
    def prompts(self) -> PromptBuilder:
        """The builder of prompts."""
        s, codec = self.lm_settings, self.codec_settings
        return PromptBuilder(
            self.tokenizer,
            codebooks=s.codebooks,
            codes=codec.codes,
            max_seq_len=s.max_seq_len,
            frame_rate=codec.frame_rate,
        )

    @part
    def codec_identity(self) -> str:
        """All that the codes of a recording depend on besides its samples."""
        return f"{convert.identity(self._codec_path)} {self.codec_settings!r} {self.plan.device.type}"

    @part
    def codec_id(self) -> CodecId:
        """A digest of the quantizer, by which codes have their meaning: it is in no file's name, date or format."""
        quantizer = self.codec.quantizer.residual_fsq.state_dict()
        digest = hashlib.sha256(repr(self.codec_settings.quantizer).encode())
        for name in sorted(quantizer):
            digest.update(name.encode() + quantizer[name].cpu().numpy().tobytes())
        built_in = self._codec_path == local.built_in() / local.CODEC
        name = "the built-in voice" if built_in else self._codec_path.resolve().parent.name
        return CodecId(digest.hexdigest()[:16], name)

    @part
    def prefixes(self) -> PrefixCache:
        """The prefix cache, under all that keys and values depend on: a release that computes others finds none."""
        source, plan = convert.identity(self.found.path / "model.pth"), self.plan
        code = build.load()._name if isinstance(self.runner, Native) else torch.__version__
        made_by = f"{fishcli.__version__} {convert.FORMAT} {type(self.runner).__name__} {Path(code).name}"
        return PrefixCache(f"{source} {self.codec_identity} {plan.device} {plan.dtype} {plan.quantize} {made_by}")

    @part
    def runner(self) -> Runner:
        """The runner of the language model."""
        if self.plan.native:
            try:
                return Native(self.lm, self.plan.threads)
            except build.Unavailable as error:
                log.warning("PyTorch runs this language model, since the C++ kernels cannot: %s.", error)
        return Compiled(self.lm) if self.plan.compile else Eager(self.lm)

    @part
    def lm(self) -> Transformer:
        """The language model, its weights as the plan has them."""
        s, tokenizer, path = self.lm_settings, self.tokenizer, self.found.path / "model.pth"
        codes = self.codec_settings.codes
        if (
            self.codec_settings.codebooks != s.codebooks
            or codes > min(s.codebook_size, tokenizer.codes)
            or tokenizer.size > s.vocab_size
        ):
            raise InputError(
                f"The config.json, special_tokens.json and codec of {self.found.path} do not belong together; "
                "download the checkpoint again."
            )

        def prepare(state: convert.Tensors) -> convert.Tensors:
            state = weights.canonical(state)
            convert.check(state, weights.shapes(s), str(path))
            return weights.for_inference(state, s, codes, tokenizer.semantic, tokenizer.end, quantize)

        dtype, quantize = self.plan.dtype, self.plan.quantize
        recipe = {"lm": repr(s), "codes": codes, "semantic": tokenizer.semantic, "end": tokenizer.end}
        with torch.device("meta"):
            model = Transformer(s, codes, tokenizer.semantic, quantize)
        variant = "" if quantize == "none" else quantize
        tensors = convert.load(path, dtype, prepare, recipe, variant, self._progress)
        model.load_state_dict(tensors, assign=True)
        return model.to(self.plan.device).prepare()

    @part
    def decoder(self) -> Firefly | NativeDecoder | RecordedDecoder:
        """The codec's decoder: in C++ where the plan says so and it can run there, beside the model on a GPU."""
        if self.plan.device.type == "cuda":
            return RecordedDecoder(self.codec, record=self.plan.compile)
        if self.plan.native:
            try:
                return NativeDecoder(self.codec, self.plan.threads)
            except build.Unavailable as error:
                log.warning("PyTorch runs this codec, since the C++ kernels cannot: %s.", error)
        return self.codec

    @part
    def codec(self) -> Firefly:
        """The codec, in float32."""
        s, path = self.codec_settings, self._codec_path

        def prepare(state: convert.Tensors) -> convert.Tensors:
            state = canonical(state)
            convert.check(state, shapes(s), str(path))
            return amplify(state, s.decoder.gain)

        with torch.device("meta"):
            codec = Firefly(s)
        tensors = convert.load(path, torch.float32, prepare, {"codec": repr(s)}, progress=self._progress)
        codec.load_state_dict(tensors, assign=True)
        if self.plan.native:  # the C++ has copies of the convolutions
            build.forget((tensor.data_ptr(), tensor.nbytes) for tensor in tensors.values())
        return codec.to(self.plan.device).eval()
