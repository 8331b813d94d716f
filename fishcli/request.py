"""What is asked for and what comes back: requests, references, frames of codes and chunks of audio.

Nothing here needs a model, so a client can build a request without loading one.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fishcli.errors import SettingError

Codes = npt.NDArray[np.int16]  # (K, T): K codebooks, T frames
Samples = npt.NDArray[np.float32]  # (N,), in -1..1

MAX_SAMPLES = 64  # of one request


class Span(NamedTuple):
    """A chunk of the text: `text` is what `start` to `end` (characters) of the whole covers, on one line."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class SamplingParams:
    """How codes are sampled. Temperature 0 is greedy; without a seed the engine draws one.

    `max_new_tokens` bounds the frames of each chunk of text; 0: as many as the context holds. Raises SettingError.
    """

    temperature: float = 0.7
    top_p: float = 0.7
    repetition_penalty: float = 1.2
    seed: int | None = None
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        _check_range("temperature", self.temperature, 0, 2)
        _check_range("top_p", self.top_p, 0, 1, open_below=True)
        _check_range("repetition_penalty", self.repetition_penalty, 0, 2, open_below=True)
        if self.seed is not None:
            _check_range("seed", self.seed, 0, 2**63 - 1)
        _check_range("max_new_tokens", self.max_new_tokens, 0, 2**31)


def _check_range(name: str, value: float, low: float, high: float, open_below: bool = False) -> None:
    """Raise SettingError outside the range; NaN and infinity fail every comparison and are refused too."""
    if not (low < value if open_below else low <= value) or not value <= high or not math.isfinite(value):
        bounds = f"{'more than' if open_below else 'at least'} {low} and at most {high}"
        raise SettingError(f"{name} must be {bounds}, not {value}.")


@dataclass(frozen=True, eq=False)
class Reference:
    """A recording of the voice to clone: its codes (K, T), as `Engine.encode` gives them, and its transcript."""

    codes: npt.NDArray[np.integer]
    text: str


@dataclass(frozen=True)
class Request:
    """What to speak and how: `num_samples` times, in chunks of at most `chunk_length` UTF-8 bytes of text.

    With `iterative_prompt`, the prompt of a chunk holds the chunks before it, which keeps one voice from start to end;
    without, chunks are generated in parallel, which is faster. `language` (ISO 639-1; None: guessed) decides where
    sentences end. Raises SettingError.
    """

    text: str
    references: Sequence[Reference] = ()
    sampling: SamplingParams = dataclasses.field(default_factory=SamplingParams)
    num_samples: int = 1
    chunk_length: int = 200
    iterative_prompt: bool = True
    language: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.num_samples <= MAX_SAMPLES:
            raise SettingError(f"num_samples must be between 1 and {MAX_SAMPLES}, not {self.num_samples}.")
        if self.chunk_length < 1:
            raise SettingError(f"chunk_length must be a positive number of bytes, not {self.chunk_length}.")

    @property
    def seed(self) -> int:
        """The seed of the first sample; each further sample has the next higher one."""
        return self.sampling.seed or 0

    def with_seed(self) -> Request:
        """Return the same request with a seed, drawn if it has none."""
        if self.sampling.seed is not None:
            return self
        return dataclasses.replace(self, sampling=dataclasses.replace(self.sampling, seed=draw_seed()))


class Frame(NamedTuple):
    """One frame of one sample: its codes (K, 1), or (K, 0) at the end of speech.

    `text_span` is the chunk being spoken. `ended` is None while it goes on, True at the end of speech, and False where
    the chunk was truncated at `max_new_tokens` frames.
    """

    sample: int
    text_span: Span
    codes: Codes
    ended: bool | None


class AudioChunk(NamedTuple):
    """A piece of the audio of one sample: samples (frames * samples per frame,) and their codes (K, frames).

    `text_span` and `ended` are those of its last frame; `seed` repeats the sample.
    """

    sample: int
    text_span: Span
    codes: Codes
    ended: bool | None
    samples: Samples
    seed: int


def draw_seed() -> int:
    """Return a random seed, short enough to type again."""
    return secrets.randbelow(2**31)
