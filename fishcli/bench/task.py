"""The subject of a benchmark: a model, a text, and the number of repetitions."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fishcli.bench.player import TEXT
from fishcli.engine import Engine, load, prefix_cache
from fishcli.errors import FishError
from fishcli.lm.prompt import Columns
from fishcli.request import Reference, Request, SamplingParams

During = Callable[[str], AbstractContextManager[object]]  # a context that shows a person the current activity

REFERENCE = 10  # seconds of a reference
TRIES = 8  # seeds; random weights may end a sentence at any frame
TRANSCRIPT = "These are the words that are said in the recording of a voice, which takes ten seconds to say them all."


@dataclass(frozen=True)
class Task:
    """Measure `engine` `repeat` times; `codec` is the path of its codec, None for the checkpoint's own."""

    engine: Engine
    repeat: int
    codec: Path | None = None
    text: str = TEXT

    def voice(self) -> Reference:
        """Return a reference of ten seconds of random codes, which no cache holds."""
        settings, frames = self.engine.codec_settings, round(REFERENCE * self.engine.frame_rate)
        codes = np.random.default_rng().integers(settings.codes, size=(settings.codebooks, frames))
        return Reference(codes.astype(np.int16), TRANSCRIPT)

    def request(self, *references: Reference, seed: int = 0, frames: int, text: str = "") -> Request:
        """Return a request for at most `frames` frames of each chunk of the text."""
        return Request(text or self.text, references, SamplingParams(seed=seed, max_new_tokens=frames))

    def silent(self) -> FishError:
        """Return the error of a model that ends before its first frame."""
        return FishError(f"The model generates no frame for {self.text!r}; give another text.")

    def prompt(self, *references: Reference) -> Columns:
        """Return the prompt (K + 1, T) for the text in the voice of the references."""
        prompts = self.engine.prompts
        return prompts.build(prompts.question(self.text), prompts.prefix(references))

    @property
    def loading(self) -> dict[str, Any]:
        """The arguments of `load` for this engine."""
        plan = self.engine.plan
        return {
            "model": str(self.engine.model.path),
            "codec": str(self.codec) if self.codec else None,
            "device": plan.device.type,
            "dtype": str(plan.dtype).removeprefix("torch."),
            "quantize": plan.quantize,
            "compile": plan.compile or plan.native,
            "threads": plan.threads,
        }

    def load(self, **changes: Any) -> Engine:
        """Return the engine of the same model with other settings of `load`."""
        return load(**self.loading | changes)


@contextlib.contextmanager
def cache_aside() -> Iterator[None]:
    """Use an empty cache folder: random voices must neither push real ones out of it nor be found by a second run."""
    name = "FISHCLI_CACHE_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            prefix_cache.flush()
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before
