"""A simulated player of a stream, the text it hears, and random arrivals: pure, without a model or a clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

TEXT = "The train arrives at seven in the morning, and it leaves again at nine in the evening."
AUDIBLE = 0.1  # seconds; a longer gap is heard as a pause


class Player:
    """Plays one stream as its audio arrives: starts with the first of it, and falls silent whenever it runs out.

    Times are in seconds on any clock; `requested` is the time of the request.
    """

    def __init__(self, requested: float) -> None:
        self.gaps: list[float] = []  # underruns: the seconds of each silence within the audio
        self.time_to_first_audio: float | None = None  # None before the first audio
        self._requested = requested
        self._end = requested  # the time at which all audio so far has been played

    def ahead(self, now: float) -> float:
        """Return the seconds of audio that wait to be played; negative in a silence."""
        return self._end - now

    def receive(self, now: float, seconds: float) -> None:
        """Take `seconds` of audio that arrive at the time `now`; 0, as at the end of speech, changes nothing."""
        if not seconds:
            return
        if self.time_to_first_audio is None:
            self.time_to_first_audio = now - self._requested
        elif now > self._end:
            self.gaps.append(now - self._end)
        self._end = max(self._end, now) + seconds


@dataclass(frozen=True)
class Percentiles:
    """The median and the tail of a distribution, interpolated between the nearest values."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles:
        """Return the percentiles of one value or more."""
        return cls(*np.percentile(list(values), [50, 95, 99]).tolist())


def poisson_arrivals(count: int, rate: float, seed: int) -> list[float]:
    """Return the times (s) of `count` requests that arrive at random, `rate` a second on average; the first at 0.

    A Poisson process: the pauses between arrivals are exponential. One seed always gives the same times.
    """
    pauses = np.random.default_rng(seed).exponential(1 / rate, max(0, count - 1))
    return list(itertools.accumulate(pauses.tolist(), initial=0.0))[:count]
