"""The progress of a request while frames are generated, and the figures afterwards."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fishcli import text
from fishcli.cli import console
from fishcli.errors import FishError
from fishcli.jobs.judge import Meter
from fishcli.jobs.takes import TakeStream
from fishcli.request import AudioChunk

if TYPE_CHECKING:
    from fishcli.cli.remote import Speaker, SpokenStream
    from fishcli.engine import AudioStream, Engine, FrameStream
    from fishcli.request import Frame, Request, Script

log = logging.getLogger(__name__)

_WORTH_TELLING = 5.0  # seconds; longer work is announced
_SETTLED = 1.0  # seconds of work after which its speed is known


class Progress:
    """Follows one request: `saw` every frame or piece of audio. Live on a terminal, plain lines elsewhere."""

    def __init__(
        self,
        engine: Engine | Speaker,
        request: Request,
        stream: FrameStream | AudioStream | SpokenStream | TakeStream,
    ) -> None:
        self._engine, self._request, self._stream = engine, request, stream
        script = stream.script
        self._spans, seconds = (script.spans, script.seconds) if script else ((), 0.0)
        self._expected = max(1, round(seconds * engine.frame_rate * request.num_samples))  # frames
        self.frames = [0] * request.num_samples
        self._chunk = [0] * request.num_samples  # frames of the chunk in progress
        self._done = [0] * request.num_samples  # chunks
        self._announced = False
        self._meters = [Meter(engine.sample_rate) for _ in range(request.num_samples)]  # of the chunk in progress
        self.retries = self.again = 0  # attempts, and the chunks that needed them
        self.listened = isinstance(stream, TakeStream)
        self.faults: list[dict[str, object]] = []

    def __enter__(self) -> Progress:
        self._start = self._stream.began
        self._stack = contextlib.ExitStack()
        if console.is_live():
            self._stack.enter_context(console.speaking_bar(self._expected, self._state))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.elapsed = time.perf_counter() - self._start
        self._stack.__exit__(kind, error, trace)
        if kind is None and not any(self.frames):
            raise FishError("No speech was generated: every chunk was empty; try another --seed or text.")

    def saw(self, event: Frame | AudioChunk) -> None:
        """Count the frames of an event, announce long work, and warn of a chunk that came out wrong."""
        self.frames[event.sample] += event.codes.shape[1]
        self._chunk[event.sample] += event.codes.shape[1]
        if isinstance(event, AudioChunk):
            self._meters[event.sample].add(event.samples)
        if not console.is_live() and not self._announced and self._elapsed > _SETTLED:
            self._announce()
        if event.ended is not None:
            self._judge(event)
            self._chunk[event.sample] = 0
            self._meters[event.sample] = Meter(self._engine.sample_rate)
            self._done[event.sample] += 1

    def _judge(self, event: Frame | AudioChunk) -> None:
        """Warn of a chunk that came out wrong, and say with -v that one was generated again."""
        words, frames = _short(event.text_span.text), self._chunk[event.sample]
        fault = event.fault or ("truncated" if event.ended is False else None if frames else "empty")
        if fault is None and self._request.check != "off":
            fault = self._meters[event.sample].fault
        if event.attempts > 1:
            self.retries += event.attempts - 1
            self.again += 1
            log.debug('"%s" was generated %d times', words, event.attempts)
        if fault is None:
            return
        self.faults.append({"sample": event.sample, "text": event.text_span.text, "fault": fault})
        if fault == "truncated":
            remedy = "raise --max-new-tokens" if self._request.sampling.max_new_tokens else "shorten --chunk-length"
            console.warn(f'"{words}" was truncated at {_counted(frames, "frame")}; {remedy}, or try another --seed.')
        elif fault == "misheard":
            console.warn(f'"{words}" was misheard; try another --seed, or other words.')
        else:
            how = f"{fault} ({self._time(frames)})" if fault in ("too short", "too long") else fault
            console.warn(f'"{words}" came out {how}; try another --seed.')

    def seconds(self) -> list[float]:
        """Seconds of audio of each sample."""
        return [frames / self._engine.frame_rate for frames in self.frames]

    def figures(self) -> dict[str, float]:
        """Seconds of audio (of all samples), tokens (frames) a second, seconds to the first frame, real-time factor."""
        seconds, first = sum(self.seconds()), self._stream.first_step
        return {
            "seconds": round(seconds, 3),
            "tokens_per_second": round(self._stream.steps / self.elapsed, 2),
            "time_to_first_frame": round(max(0.0, first - self._start) if first else 0.0, 3),
            "real_time_factor": round(self.elapsed / seconds, 3) if seconds else 0.0,
        }

    def _state(self) -> tuple[int, str, float]:
        """Return the frames so far, the chunk in progress, and tokens/s."""
        chunks = len(self._spans)
        place = f"chunk {min(min(self._done) + 1, chunks)}/{chunks}" if chunks > 1 else "speaking"
        return self._stream.steps, place if self._stream.steps else "starting", self._rate()

    @property
    def _elapsed(self) -> float:
        """Seconds since the first frame: the prefill before it would spoil the forecast."""
        first = self._stream.first_step
        return time.perf_counter() - first if first else 0.0

    def _rate(self) -> float:
        return (self._stream.steps - 1) / self._elapsed if self._elapsed else 0.0

    def _announce(self) -> None:
        self._announced, rate = True, self._rate()
        if rate and (left := (self._expected - self._stream.steps) / rate) > _WORTH_TELLING:
            seconds = self._expected / self._engine.frame_rate
            console.note(f"About {seconds:.0f} s of speech at {rate:.0f} tokens/s: about {left:.0f} s left.")

    def _time(self, frames: int) -> str:
        return f"{frames / self._engine.frame_rate:.1f} s"


def report(seen: Progress, request: Request, outputs: Sequence[Path], model: str) -> None:
    """Show the result of a request: a line for each sample, with -v the figures; or JSON."""
    first = request.sampling.seed or 0
    seeds = [first + i for i in range(request.num_samples)]
    drawn = request.sampling.temperature != 0  # greedy sampling needs no seed
    figures = seen.figures()
    made = []
    for path, seconds, seed in zip_longest(outputs, seen.seconds(), seeds):
        made.append({"output": str(path) if path else None, "seconds": round(seconds, 3), "seed": seed})
        if not console.flags.json:
            console.saved(path, seconds, seed if drawn else None)
    if console.flags.verbose and not console.flags.json:
        speed = f"{figures['tokens_per_second']:.1f} tokens/s, real-time factor {figures['real_time_factor']:.2f}"
        console.note(f"{speed}, first frame after {figures['time_to_first_frame']:.2f} s")
    if seen.listened and not console.flags.json:
        misheard = sum(each["fault"] == "misheard" for each in seen.faults)
        still = f"{misheard} still misheard" if misheard else "none misheard"
        console.note(f"{_counted(seen.again, 'chunk')} generated again, {still}.")
    names = [str(path) for path in outputs]
    checks = {"retries": seen.retries, "faults": seen.faults}
    console.result({"model": model, **figures, **checks, "seeds": seeds, "outputs": names, "files": made})


def show_chunks(script: Script, outputs: Sequence[Path]) -> None:
    """Show what would be spoken, chunk by chunk, with the expected seconds of each."""
    chunks = [(span.text, text.seconds(span.text)) for span in script.spans]
    if console.flags.json:
        fields = [{"text": said, "seconds": round(seconds, 1)} for said, seconds in chunks]
        console.result({"chunks": fields, "outputs": [str(path) for path in outputs]})
        return
    for said, seconds in chunks:
        console.listing(f"{seconds:5.1f} s  {said}")
    total = sum(seconds for _, seconds in chunks)
    where = f"for {', '.join(map(str, outputs))}" if outputs else "to play"
    console.note(f"About {total:.1f} s of speech in {_counted(len(chunks), 'chunk')}, {where}.")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _short(words: str) -> str:
    return words if len(words) <= 40 else f"{words[:37]}..."
