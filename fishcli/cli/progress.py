"""The progress of a request while frames are generated, and the figures afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fishcli import text
from fishcli.cli import console
from fishcli.errors import FishError

if TYPE_CHECKING:
    from fishcli.engine import Engine
    from fishcli.request import AudioChunk, Frame, Request, Script

_WORTH_TELLING = 5.0  # seconds; longer work is announced
_SETTLED = 1.0  # seconds of work after which its speed is known


class Progress:
    """Follows one request: `saw` every frame or piece of audio. Live on a terminal, plain lines elsewhere."""

    def __init__(self, engine: Engine, request: Request, script: Script) -> None:
        self._engine, self._request = engine, request
        self._spans = script.spans
        self._expected = max(1, round(script.seconds * engine.frame_rate * request.num_samples))  # frames
        self.frames = [0] * request.num_samples
        self._chunk = [0] * request.num_samples  # frames of the chunk in progress
        self._first: tuple[float, int] | None = None  # seconds and frames of the first event
        self._announced = False

    def __enter__(self) -> Progress:
        self._start = time.perf_counter()
        self._stack = contextlib.ExitStack()
        bar = console.speaking_bar(self._expected) if console.is_live() else None
        self._bar = self._stack.enter_context(bar) if bar else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.elapsed = time.perf_counter() - self._start
        self._stack.__exit__(kind, error, trace)
        if kind is None and not any(self.frames):
            raise FishError("No speech was generated: every chunk was empty; try another --seed or text.")

    def saw(self, event: Frame | AudioChunk) -> None:
        """Count the frames of an event, show the progress, and warn of a chunk that was truncated."""
        elapsed = time.perf_counter() - self._start
        self.frames[event.sample] += event.codes.shape[1]
        self._chunk[event.sample] += event.codes.shape[1]
        if self._first is None:
            self._first = elapsed, sum(self.frames)
        elif self._bar is not None:
            self._bar(sum(self.frames), self._place(event), self._rate(elapsed))
        elif elapsed - self._first[0] > _SETTLED and not self._announced:
            self._announce(self._rate(elapsed))
        if event.ended is not None:
            self._judge(event)
            self._chunk[event.sample] = 0

    def _judge(self, event: Frame | AudioChunk) -> None:
        """Warn of a chunk that was truncated or is empty."""
        words = _short(event.text_span.text)
        if event.ended is False:
            limit = self._request.sampling.max_new_tokens
            remedy = "raise --max-new-tokens" if limit else "shorten --chunk-length"
            frames = self._chunk[event.sample]
            console.warn(f'"{words}" was truncated at {_counted(frames, "frame")}; {remedy}, or try another --seed.')
        elif not self._chunk[event.sample]:
            console.warn(f'"{words}" came out empty; try another --seed.')

    def seconds(self) -> list[float]:
        """Seconds of audio of each sample."""
        return [frames / self._engine.frame_rate for frames in self.frames]

    def figures(self) -> dict[str, float]:
        """Seconds of audio (of all samples), frames/s, seconds to the first frame, real-time factor."""
        seconds = sum(self.frames) / self._engine.frame_rate
        return {
            "seconds": round(seconds, 3),
            "frames_per_second": round(sum(self.frames) / self.elapsed, 2),
            "time_to_first_frame": round(self._first[0] if self._first else 0.0, 3),
            "real_time_factor": round(self.elapsed / seconds, 3) if seconds else 0.0,
        }

    def _rate(self, elapsed: float) -> float:
        """Return frames per second since the first: the prefill before it would spoil the forecast."""
        seconds, frames = self._first or (0.0, 0)
        return (sum(self.frames) - frames) / max(elapsed - seconds, 1e-3)

    def _place(self, event: Frame | AudioChunk) -> str:
        chunks = len(self._spans)
        return f"chunk {self._spans.index(event.text_span) + 1}/{chunks}" if chunks > 1 else "speaking"

    def _announce(self, rate: float) -> None:
        self._announced = True
        if (left := (self._expected - sum(self.frames)) / max(rate, 1e-3)) > _WORTH_TELLING:
            seconds = self._expected / self._engine.frame_rate
            console.note(f"About {seconds:.0f} s of speech at {rate:.0f} frames/s: about {left:.0f} s left.")


def report(seen: Progress, request: Request, outputs: Sequence[Path], model: str) -> None:
    """Show the result of a request: a line for each sample, with -v the figures; or JSON."""
    first = request.sampling.seed or 0
    seeds = [first + i for i in range(request.num_samples)]
    drawn = request.sampling.temperature > 0  # greedy sampling needs no seed
    figures = seen.figures()
    made = []
    for path, seconds, seed in zip_longest(outputs, seen.seconds(), seeds):
        made.append({"output": str(path) if path else None, "seconds": round(seconds, 3), "seed": seed})
        if not console.flags.json:
            console.saved(path, seconds, seed if drawn else None)
    if console.flags.verbose and not console.flags.json:
        speed = f"{figures['frames_per_second']:.1f} frames/s, real-time factor {figures['real_time_factor']:.2f}"
        console.note(f"{speed}, first frame after {figures['time_to_first_frame']:.2f} s")
    names = [str(path) for path in outputs]
    console.result({"model": model, **figures, "seeds": seeds, "outputs": names, "files": made})


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
