"""Requests and results: references, sampling parameters, frames of codes and chunks of audio.

Nothing here needs a model, so a client can build a request without loading one.
"""

from __future__ import annotations

import dataclasses
import numbers
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType, TracebackType
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import numpy.typing as npt

from fishcli.errors import InputError, SettingError

Codes = npt.NDArray[np.int16]  # (K, T): K codebooks, T frames
Samples = npt.NDArray[np.float32]  # (N,), in -1..1

MAX_SAMPLES = 64  # of one request
RETRIES = 2  # of a chunk that came out wrong
LISTENING_RETRIES = MAX_RETRIES = 20  # a recogniser hears more faults, and the best take counts
CHUNK_LENGTHS = (20, 2000)  # UTF-8 bytes
MAX_SEED = 2**63 - 1

Check = Literal["length", "off"]
# Of a chunk: "misheard" where a recogniser hears other words, "silent" and "clipped" its sound, the others its codes.
Fault = Literal["empty", "truncated", "too short", "too long", "looping", "silent", "clipped", "misheard"]


class Span(NamedTuple):
    """A chunk of the text: `text` is what `start` to `end` (characters) of the whole covers, on one line."""

    text: str
    start: int
    end: int


class TextReader(Protocol):
    """The receiver of a TextFeed. The feed calls it from the thread that feeds, one call at a time."""

    def feed(self, text: str, /) -> object:
        """Take the next piece of text. Raise InputError to refuse it; the next piece may then still come."""

    def flush(self) -> object:
        """Speak the text so far; do not wait for the end of its sentence."""

    def close(self) -> object:
        """Speak the text so far; no more will come."""


class TextFeed:
    """A text that is fed piece by piece, as a language model writes it. Safe to use from several threads.

    Speech starts at the first complete sentence, and the pieces do not decide where chunks end. Text that is fed
    before a reader is attached waits for it. A `with` block closes the feed at its end, after an exception too, so
    that the text so far is spoken and nobody waits for more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # makes the calls of the reader follow each other in the order of the text
        self._reader: TextReader | None = None
        self._waiting: list[str | None] = []  # pieces for a reader to come; None: flush
        self._closed = False
        self._detached = False

    @property
    def closed(self) -> bool:
        """Whether the text has ended: the feed was closed, or its reader has gone."""
        return self._closed or self._detached

    def feed(self, text: str) -> None:
        """Add a piece of text. Raises SettingError after `close`, and InputError where the reader refuses the piece.

        The piece is dropped once the reader has gone, because its stream was closed or has failed: that may happen at
        any moment, so it is no error of the caller. `closed` tells.
        """
        self._send(text)

    def flush(self) -> None:
        """Have the text so far spoken without waiting for the end of its sentence. Raises as `feed` does."""
        self._send(None)

    def close(self) -> None:
        """End the text. Closing again does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                if self._reader is not None and not self._detached:
                    self._reader.close()

    def attach(self, reader: TextReader) -> None:
        """Give the reader the text so far and then all that is fed. A feed has one reader; a second is a SettingError.

        Raises InputError where the reader refuses the text so far; it counts as gone then.
        """
        with self._lock:
            if self._reader is not None:
                raise SettingError("This text feed belongs to another request; make a TextFeed for each.")
            self._reader = reader
            waiting, self._waiting = self._waiting, []
            try:
                for piece in waiting:
                    _deliver(reader, piece)
                if self._closed:
                    reader.close()
            except BaseException:
                self._detached = True
                raise

    def detach(self) -> None:
        """Drop all further text, because the reader's stream has ended.

        Takes no lock, so that a reader may call it while it holds its own: a call that is in progress may still
        reach the reader afterwards.
        """
        self._detached = True

    def __enter__(self) -> TextFeed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, piece: str | None) -> None:
        with self._lock:
            if self._closed:
                raise SettingError("This text feed is closed and takes no more text; make another TextFeed.")
            if self._detached:
                return
            if self._reader is None:
                self._waiting.append(piece)
            else:
                _deliver(self._reader, piece)


def _deliver(reader: TextReader, piece: str | None) -> None:
    """Hand over a piece of text; None: a flush."""
    if piece is None:
        reader.flush()
    else:
        reader.feed(piece)


@dataclass(frozen=True)
class Script:
    """A text as it will be spoken, which `fishcli.text.prepare` makes: normalised, and cut into chunks.

    `text` is the text after normalisation. `spans` are its chunks in order, each with a terminal mark, which `text`
    itself may lack; their positions count characters of `text`. `language` is an ISO 639-1 code, given or guessed;
    `seconds` the expected duration of the speech.
    """

    text: str
    spans: tuple[Span, ...]
    language: str
    seconds: float


@dataclass(frozen=True)
class SamplingParams:
    """How codes are sampled. Temperature 0 is greedy; without a seed the engine draws one.

    None means the default of the model: its `generation_config.json`, else that of Fish Speech 1.5 (`FISH_SPEECH`).
    `max_new_tokens` bounds the frames of each chunk of text; 0: as many as the context holds. Raises SettingError.
    """

    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0, 2)
        _check_number("top_p", self.top_p, 0, 1, open_below=True)
        _check_number("repetition_penalty", self.repetition_penalty, 0, 2, open_below=True)
        if self.seed is not None:
            _check_integer("seed", self.seed, 0, MAX_SEED)
        _check_integer("max_new_tokens", self.max_new_tokens, 0, 2**31)

    def over(self, defaults: SamplingParams) -> SamplingParams:
        """Return these parameters, those that are None taken from `defaults`."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(defaults, **given)


def _check_number(name: str, value: Any, low: float, high: float, open_below: bool = False) -> None:
    """Raise SettingError outside the range; NaN and infinity fail every comparison and are refused too."""
    if value is None:
        return
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not (low < value if open_below else low <= value) or not value <= high:
        bounds = f"{'more than' if open_below else 'at least'} {low} and at most {high}"
        raise SettingError(f"{name} must be a number, {bounds}, not {value!r:.40}.", field=name)


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:
        raise SettingError(f"{name} must be a whole number from {low} to {high}, not {value!r:.40}.", field=name)


FISH_SPEECH = SamplingParams(temperature=0.7, top_p=0.7, repetition_penalty=1.2)


@dataclass(frozen=True, eq=False)
class Reference:
    """A recording of the voice to clone: its codes (K, T), as `Engine.encode` gives them, and its transcript.

    The transcript is "" where it is unknown. Raises InputError for what cannot be codes or a text.
    """

    codes: npt.NDArray[np.integer]
    text: str

    def __post_init__(self) -> None:
        _integers(self.codes)
        if not isinstance(self.text, str):
            raise InputError(f"The transcript of a reference must be a str, not {type(self.text).__name__}.")


@dataclass(frozen=True)
class Request:
    """A text to speak `num_samples` times, in chunks of at most `chunk_length` UTF-8 bytes, and its parameters.

    With `iterative_prompt`, the prompt of a chunk holds the chunks before it, which keeps one voice from start to end;
    without, chunks are generated in parallel, which is faster. `language` (ISO 639-1; None: guessed) decides where
    sentences end. For text that arrives over time, pass a TextFeed.

    With `check` "length", a chunk that is far from as long as its text needs, empty, truncated or looping is marked as
    a `Fault`. Up to `retries` times it is then generated again and the best attempt is kept; its frames wait until it
    is complete, so audio streams chunk by chunk.

    `earlier` are the chunks that were spoken before the text, in order; it is spoken as if they were part of it. Raises
    SettingError or InputError.
    """

    text: str | Script | TextFeed
    references: Sequence[Reference] = ()
    sampling: SamplingParams = dataclasses.field(default_factory=SamplingParams)
    num_samples: int = 1
    chunk_length: int = 200
    iterative_prompt: bool = True
    language: str | None = None
    normalize: bool = True
    check: Check = "length"
    retries: int = 0
    earlier: Sequence[Reference] = ()

    def __post_init__(self) -> None:
        _check_type("text", self.text, (str, Script, TextFeed), "a str, a Script or a TextFeed")
        _check_type("sampling", self.sampling, SamplingParams, "SamplingParams")
        _check_type("language", self.language, (str, NoneType), "a str")
        _check_references("references", self.references)
        _check_references("earlier", self.earlier)
        _check_integer("num_samples", self.num_samples, 1, MAX_SAMPLES)
        _check_integer("chunk_length", self.chunk_length, *CHUNK_LENGTHS)
        _check_integer("retries", self.retries, 0, MAX_RETRIES)
        if self.check not in get_args(Check):
            raise SettingError(f"check must be {' or '.join(get_args(Check))}, not {self.check!r:.40}.", field="check")
        if self.seed + self.num_samples - 1 > MAX_SEED:
            raise SettingError(f"seed + num_samples must be at most {MAX_SEED + 1}; use a smaller seed.", field="seed")

    @property
    def seed(self) -> int:
        """The seed of the first sample; each further sample has the next higher one."""
        return self.sampling.seed or 0

    def complete(self, defaults: SamplingParams) -> Request:
        """Return the request with every sampling parameter: those of the model, and a seed, drawn if it has none."""
        seeded = dataclasses.replace(defaults, seed=draw_seed())
        return dataclasses.replace(self, sampling=self.sampling.over(seeded))


def _check_type(name: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    if not isinstance(value, kinds):
        raise InputError(f"{name} must be {expected}, not {type(value).__name__}.", field=name)


def _check_references(name: str, given: object) -> None:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"{name} must be a sequence of Reference.", field=name)
    for each in given:
        _check_type(name, each, Reference, "a sequence of Reference")


class Frame(NamedTuple):
    """One frame of one sample: its codes (K, 1), or (K, 0) at the end of speech.

    `text_span` is the chunk being spoken. `ended` is None while it goes on, True at the end of speech, and False where
    the chunk was truncated at `max_new_tokens` frames. Its last frame also tells what is wrong with it, if anything,
    and how many attempts were made.
    """

    sample: int
    text_span: Span
    codes: Codes
    ended: bool | None
    fault: Fault | None = None
    attempts: int = 1


class AudioChunk(NamedTuple):
    """A piece of the audio of one sample: samples (frames * samples per frame,) and their codes (K, frames).

    `text_span`, `ended`, `fault` and `attempts` are those of its last frame; `seed` repeats the sample.
    """

    sample: int
    text_span: Span
    codes: Codes
    ended: bool | None
    samples: Samples
    seed: int
    fault: Fault | None = None
    attempts: int = 1


def as_codes(codes: npt.ArrayLike, codebooks: int, size: int) -> Codes:
    """Return codes (codebooks, T) as int16. Raises InputError unless they are integers from 0 to size - 1, T > 0."""
    array = _integers(codes, codebooks)
    if not 0 <= int(array.min()) <= int(array.max()) < size:
        raise InputError(f"Codes must be from 0 to {size - 1}, not {int(array.min())} to {int(array.max())}.")
    return array.astype(np.int16, copy=False)


def _integers(codes: npt.ArrayLike, codebooks: int | None = None) -> npt.NDArray[np.integer]:
    """Return a copy of codes (K, T), which nobody changes after the check. Raises InputError for another shape."""
    expected = f"Codes must be integers of shape ({codebooks or 'K'}, T)"
    try:
        array = np.asarray(codes).copy()
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # a ragged list, a tensor of a GPU
        raise InputError(f"{expected}, not {type(codes).__name__}.") from error
    if array.dtype.kind not in "iu" or array.ndim != 2 or codebooks not in (None, len(array)):
        raise InputError(f"{expected}, not {_described(array)}.")
    if not array.size:
        raise InputError("Codes must have at least one frame.")
    return array


def as_samples(samples: npt.ArrayLike) -> Samples:
    """Return the samples (N,) of a recording as float32. Raises InputError unless they are finite numbers, N > 0."""
    try:
        array = np.asarray(samples)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"Samples must be numbers of shape (N,), not {type(samples).__name__}.") from error
    if array.dtype.kind not in "iuf" or array.ndim != 1 or not array.size:
        raise InputError(f"Samples must be numbers of shape (N,), at least one, not {_described(array)}.")
    with np.errstate(over="ignore"):  # more than float32 can hold is infinite, and refused
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise InputError("Samples must be finite, and some are NaN or infinite.")
    return array


def _described(array: npt.NDArray[Any]) -> str:
    """Describe the type and shape of an array, shortened: a record type may have any number of fields."""
    return f"{str(array.dtype)[:40]} of shape {array.shape}"


def draw_seed() -> int:
    """Return a random seed, short enough to type again."""
    return secrets.randbelow(2**31)


def chunk_seed(seed: int, chunk: int, attempt: int) -> int:
    """Return the seed of an attempt at a chunk; that of the first attempt at the first chunk is the sample's own."""
    if not (chunk or attempt):
        return seed
    key = (seed, chunk, attempt) if attempt else (seed, chunk)
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
