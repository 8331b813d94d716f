"""The takes of a text: each chunk spoken, judged, spoken again where it came out wrong, and the best take kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fishcli import text
from fishcli.errors import EngineClosed, InputError
from fishcli.jobs.judge import Judge, Meter, Verdict, sound_fault
from fishcli.jobs.line import SpokenChunk
from fishcli.request import (
    MAX_SEED,
    AudioChunk,
    Codes,
    Fault,
    Frame,
    Reference,
    Request,
    Samples,
    Script,
    Span,
    TextFeed,
    chunk_seed,
)

if TYPE_CHECKING:
    from fishcli.engine import AudioStream, Engine, FrameStream

_OF_SOUND = ("silent", "clipped", "misheard")
_DOUBT = 0.01  # errors per word that a doubt of 1 is worth
_CONTEXT = 32  # frames before a chunk that its sound depends on: the codecs hear at most 16 frames back


class Spoken(NamedTuple):
    """The sound of a text: samples (N,), its codec frames in all, and its chunks in order."""

    samples: Samples
    frames: int
    chunks: tuple[SpokenChunk, ...]


class Take(NamedTuple):
    """A chunk as spoken once: codes (K, T), samples (N,), how it ended, its seed and what was found wrong with it."""

    codes: Codes
    samples: Samples
    ended: bool
    seed: int
    verdict: Verdict
    attempts: int  # at the chunk, up to this take


def speak(engine: Engine, request: Request, judge: Judge | None = None) -> AudioStream | TakeStream:
    """Start to speak and return the audio as a stream of AudioChunk. Raises as `Engine.speak` does.

    Without a judge the engine checks each chunk as the request says. A judge listens to each chunk, which then is one
    AudioChunk; it is spoken again where it is suspect, at most `retries` times in all, each time with another seed.
    """
    return engine.speak(request) if judge is None else TakeStream(engine, request, judge)


def spoken(engine: Engine, request: Request, judge: Judge | None = None) -> Spoken:
    """Speak the text of a request once, as `speak` does, and return its sound when it is complete.

    Chunks that are silent or clipped are marked, too, unless the request's `check` is "off". The seed of a chunk is
    that of its take; without a judge it is that of the request.
    """
    with speak(engine, dataclasses.replace(request, num_samples=1), judge) as stream:
        pieces, chunks, start, meter, frames = [], [], 0, Meter(engine.sample_rate), 0
        for piece in stream:
            pieces.append(piece.samples)
            meter.add(piece.samples)
            frames += piece.codes.shape[1]
            if piece.ended is not None:
                fault = piece.fault or (meter.fault if request.check != "off" else None)
                seed = stream.take_seed if isinstance(stream, TakeStream) else piece.seed
                chunks.append(SpokenChunk(piece.text_span.text, start, frames, seed, fault, piece.attempts))
                start, meter, frames = start + frames, Meter(engine.sample_rate), 0
    return Spoken(np.concatenate(pieces or [np.zeros(0, np.float32)]), start, tuple(chunks))


class TakeStream(Iterator[AudioChunk]):
    """The audio of a request chunk by chunk, each the best of its takes. Closing it cancels.

    `seed`, `script`, `began`, `steps` and `first_step` are as those of the engine's streams; `take_seed` is the seed of
    the take that came last.
    """

    def __init__(self, engine: Engine, request: Request, judge: Judge) -> None:
        self._engine, self._judge = engine, judge
        self.script = _script(request)
        self._request = request.complete(engine.sampling)
        self.seed = self.take_seed = self._request.seed
        self.began = time.perf_counter()
        self.first_step: float | None = None
        self._steps = 0  # of the streams before the current one
        self._stream: FrameStream | None = None
        self._closed = False
        self._chunks = self._all()

    def __next__(self) -> AudioChunk:
        if self._closed:
            raise StopIteration
        try:
            return next(self._chunks)
        except EngineClosed:
            if self._closed:
                raise StopIteration from None
            raise

    @property
    def steps(self) -> int:
        """Decode steps so far, those of takes that were not kept included."""
        return self._steps + (self._stream.steps if self._stream else 0)

    def close(self) -> None:
        """Speak no further."""
        self._closed = True
        if self._stream:
            self._stream.close()

    def __enter__(self) -> TakeStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all(self) -> Iterator[AudioChunk]:
        for sample in range(self._request.num_samples):
            seed, earlier = self.seed + sample, list[Reference]()
            for place, span in enumerate(self.script.spans):
                take = self._best(span, seed, place, earlier)
                self.take_seed, fault = take.seed, take.verdict.fault
                yield AudioChunk(sample, span, take.codes, take.ended, take.samples, seed, fault, take.attempts)
                if take.codes.shape[1]:
                    earlier.append(Reference(take.codes, span.text))
                    earlier = remembered(earlier, self._engine.lm_settings.max_seq_len // 2)

    def _best(self, span: Span, seed: int, place: int, earlier: Sequence[Reference]) -> Take:
        """Return the best take of a chunk."""
        takes = [self._take(span, seed, place, earlier, 0)]
        while self._can_improve(takes[-1]):
            takes.append(self._take(span, seed, place, earlier, takes[-1].attempts))
        return min(takes, key=_badness)._replace(attempts=takes[-1].attempts)

    def _can_improve(self, last: Take) -> bool:
        """Whether another take can be better. The engine has already tried again where it found a fault itself."""
        fault, request = last.verdict.fault, self._request
        again = last.attempts <= request.retries and request.sampling.temperature != 0  # greedy sampling repeats itself
        return fault in _OF_SOUND and again and not self._closed

    def _take(self, span: Span, seed: int, place: int, earlier: Sequence[Reference], tried: int) -> Take:
        """Speak a chunk once more; the engine may need several attempts until its length is right."""
        if tried or len(earlier) != place:  # where it is the same, the engine derives the seed as within one request
            seed = chunk_seed(seed, place, tried) % (MAX_SEED + 1)
        request = dataclasses.replace(
            self._request,
            text=Script(span.text, (Span(span.text, 0, len(span.text)),), self.script.language, self.script.seconds),
            sampling=dataclasses.replace(self._request.sampling, seed=seed),
            num_samples=1,
            retries=max(0, self._request.retries - tried),
            earlier=earlier,
        )
        frames = self._frames(request)
        codes, last = np.concatenate([frame.codes for frame in frames], axis=1), frames[-1]
        samples = self._sound(codes, earlier)
        verdict = self._verdict(span.text, samples, last.fault)
        return Take(codes, samples, bool(last.ended), seed, verdict, tried + last.attempts)

    def _frames(self, request: Request) -> list[Frame]:
        self._steps, self._stream = self.steps, None
        with self._engine.generate(request) as stream:
            self._stream = stream
            frames = list(stream)
        self.first_step = self.first_step or stream.first_step
        if self._closed or not frames:
            raise EngineClosed("The speech was cancelled.")
        return frames

    def _sound(self, codes: Codes, earlier: Sequence[Reference]) -> Samples:
        """Return the samples of a chunk as they sound after the chunk before it."""
        if not codes.shape[1]:
            return np.zeros(0, np.float32)
        before = earlier[-1].codes[:, -_CONTEXT:] if earlier else codes[:, :0]
        whole = np.concatenate(list(self._engine.decode(np.concatenate([before, codes], axis=1))))
        return whole[before.shape[1] * len(whole) // (before.shape[1] + codes.shape[1]) :]

    def _verdict(self, words: str, samples: Samples, fault: Fault | None) -> Verdict:
        """Return what the judge says; a fault of the codes or of the sound comes before one of the words."""
        if not len(samples):
            return Verdict("empty", 1.0)
        verdict = self._judge(words, samples, self._engine.sample_rate)
        return verdict._replace(fault=fault or sound_fault(samples, self._engine.sample_rate) or verdict.fault)


def _badness(take: Take) -> tuple[bool, bool, float, bool]:
    """Return how wrong a take is: what has no fault comes first, then what is heard best."""
    fault = take.verdict.fault
    score = take.verdict.error_rate + _DOUBT * take.verdict.doubt
    return fault is not None, fault in ("empty", "silent"), score, fault not in _OF_SOUND


def remembered(earlier: list[Reference], most: int) -> list[Reference]:
    """Return the chunks that later prompts repeat: all, or within `most` frames the first one and the latest.

    The first anchors the voice. The latest then keep half of the frames, so that few chunks lose the ones before.
    """
    lengths = [each.codes.shape[1] for each in earlier]
    if sum(lengths) <= most or len(earlier) < 3:
        return earlier
    kept, start = lengths[0] + lengths[-1], len(earlier) - 1
    while start > 1 and kept + lengths[start - 1] <= most // 2:
        start -= 1
        kept += lengths[start]
    return [earlier[0], *earlier[start:]]


def _script(request: Request) -> Script:
    if isinstance(request.text, Script):
        return request.text
    if isinstance(request.text, TextFeed):
        raise InputError("Text that arrives over time cannot be listened to; pass all of it as a str.", field="check")
    return text.prepare(request.text, request.chunk_length, request.language, request.normalize)
