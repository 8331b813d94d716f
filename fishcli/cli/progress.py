"""The progress of a request while frames are generated, and the figures afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
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
            self._bar(sum(self.frames), f"{self._place(event)} {self._rate(elapsed):.1f} tokens/s")
        elif elapsed - self._first[0] > _SETTLED and not self._announced:
            self._announce(self._rate(elapsed))
        if event.ended is not None:
            self._judge(event)
            self._chunk[event.sample] = 0

    def _judge(self, event: Frame | AudioChunk) -> None:
        """Warn of a chunk that was truncated or is empty."""
        words = _short(event.text_span.text)
        if event.ended is False:
            limit = self._request.sampling.max_new_tokens or "the context's last"
            console.warn(f'"{words}" was truncated at {limit} frames; try another --seed, or a shorter --chunk-length.')
        elif not self._chunk[event.sample]:
            console.warn(f'"{words}" gave no speech; try another --seed.')

    def figures(self) -> dict[str, float]:
        """Seconds of audio (of all samples), tokens/s, seconds to the first frame, real-time factor."""
        seconds = sum(self.frames) / self._engine.frame_rate
        return {
            "seconds": round(seconds, 3),
            "tokens_per_second": round(sum(self.frames) / self.elapsed, 2),
            "time_to_first_frame": round(self._first[0] if self._first else 0.0, 3),
            "real_time_factor": round(self.elapsed / seconds, 3) if seconds else 0.0,
        }

    def _rate(self, elapsed: float) -> float:
        """Return frames per second since the first: the prefill before it would spoil the forecast."""
        seconds, frames = self._first or (0.0, 0)
        return (sum(self.frames) - frames) / max(elapsed - seconds, 1e-3)

    def _place(self, event: Frame | AudioChunk) -> str:
        chunks = len(self._spans)
        return f"{self._spans.index(event.text_span) + 1}/{chunks}" if chunks > 1 else "speaking"

    def _announce(self, rate: float) -> None:
        self._announced = True
        if (left := (self._expected - sum(self.frames)) / max(rate, 1e-3)) > _WORTH_TELLING:
            seconds = self._expected / self._engine.frame_rate
            console.note(f"About {seconds:.0f} s of speech, {rate:.1f} tokens/s: expected to take {left:.0f} s more.")


def report(figures: dict[str, float], request: Request, outputs: Sequence[Path]) -> None:
    """Show the result of a request: a few lines, or JSON."""
    first = request.sampling.seed or 0
    seeds = [first + i for i in range(request.num_samples)]
    console.summary(
        {
            "audio": f"{figures['seconds']:.2f} s",
            "speed": f"{figures['tokens_per_second']:.1f} tokens/s",
            "first frame": f"{figures['time_to_first_frame']:.2f} s",
            "real-time factor": f"{figures['real_time_factor']:.2f}",
            "seed": " ".join(map(str, seeds)),
            **({"saved": " ".join(map(str, outputs))} if outputs else {}),
        }
    )
    console.result({**figures, "seeds": seeds, "outputs": [str(path) for path in outputs]})


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
    count = "1 chunk" if len(chunks) == 1 else f"{len(chunks)} chunks"
    console.note(f"About {total:.1f} s of speech in {count} -> {' '.join(map(str, outputs)) or 'played'}")


def _short(words: str) -> str:
    return words if len(words) <= 40 else f"{words[:37]}..."
