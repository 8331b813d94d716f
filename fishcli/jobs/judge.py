"""The faults of a chunk that its sound shows: silent, clipped, and misheard by a recogniser.

The faults that its codes show (empty, truncated, too short, too long, looping) are the engine's.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple, Protocol

import numpy as np

from fishcli.audio import recogniser
from fishcli.errors import FishError
from fishcli.request import Fault, Samples
from fishcli.text import transcripts
from fishcli.text.language_codes import primary_code

log = logging.getLogger(__name__)

_WINDOW = 0.02  # seconds, of which levels are measured
_SILENT = -50.0  # dBFS of the loudest window; speech lies 20 dB higher at least
_FULL_SCALE, _CLIPPED = 0.99, 1e-3  # height of a clipped sample, and the share of them; the tanh of a codec bends there
_WORDS_PER_ERROR = 10  # a chunk of fewer words must be heard without an error
_CHARACTERS_PER_ERROR = 10  # in a language without spaces
_DOUBT = 1.0  # of the least likely word: -log(probability)


class Verdict(NamedTuple):
    """The fault of a take, if it has one, the errors over its words, the words heard, and the doubt of one of them.

    Of two hearings the error rate is the mean, and the words are those of the worse one.
    """

    fault: Fault | None = None
    error_rate: float = 0.0
    heard: str = ""
    doubt: float = 0.0


class Judge(Protocol):
    """Listens to a take. Any thread may call it; the same samples get the same verdict."""

    def __call__(self, words: str, samples: Samples, sample_rate: int, /) -> Verdict:
        """Return what is wrong with the sound (N,) of some words."""


class Listener:
    """Judges the takes of one language by what the recogniser hears."""

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, words: str, samples: Samples, sample_rate: int, /) -> Verdict:
        """Return "misheard" if a recogniser hears over one error in ten words (or characters), or doubts a word.

        Words that are heard right may be written otherwise ("five", "5"): the spelling that is doubted less counts.
        """
        heard = [compared(words, each, self.language) for each in recogniser.hearings(samples, sample_rate)]
        spellings = [words, *(each.heard for each in heard if not each.error_rate)]
        doubt = recogniser.doubt(spellings, samples, sample_rate)
        worst = max(heard, key=lambda each: each.error_rate)
        fault = worst.fault or ("misheard" if doubt > _DOUBT else None)
        return Verdict(fault, sum(each.error_rate for each in heard) / len(heard), worst.heard, doubt)


class Ears:
    """The judges of a job, one a language. Raises FishError without the extra `listen`."""

    def __init__(self) -> None:
        if not recogniser.is_installed():
            raise FishError("Listening needs a speech recogniser; run `pip install 'fishcli[listen]'`.")
        self._unknown: set[str] = set()

    def judge(self, language: str) -> Judge | None:
        """Return the judge of a language; None, and a warning once, for one that the recogniser does not know."""
        code = primary_code(language)
        if code in recogniser.LANGUAGES:
            return Listener(code)
        if code not in self._unknown:
            self._unknown.add(code)
            log.warning("The recogniser knows no %r; the length of each chunk is checked instead.", code)
        return None


class Meter:
    """Measures the sound of a chunk, piece by piece."""

    def __init__(self, sample_rate: int) -> None:
        self._window = max(1, round(_WINDOW * sample_rate))
        self._samples = self._clipped = 0
        self._loudest = 0.0  # mean square of a window

    def add(self, samples: Samples) -> None:
        """Take the next samples (n,)."""
        self._samples += len(samples)
        self._clipped += int(np.count_nonzero(np.abs(samples) >= _FULL_SCALE))
        for start in range(0, len(samples), self._window):
            window = samples[start : start + self._window]
            self._loudest = max(self._loudest, float(window @ window) / self._window)

    @property
    def fault(self) -> Fault | None:
        """Whether all of it is silent, or it is clipped."""
        if not self._samples:
            return None
        if self._loudest <= 0 or 10 * math.log10(self._loudest) < _SILENT:
            return "silent"
        return "clipped" if self._clipped > _CLIPPED * self._samples else None


def sound_fault(samples: Samples, sample_rate: int) -> Fault | None:
    """Return whether the sound (N,) of a chunk is silent or clipped."""
    meter = Meter(sample_rate)
    meter.add(samples)
    return meter.fault


def compared(words: str, heard: str, language: str) -> Verdict:
    """Return whether a transcript is of these words."""
    rate = transcripts.error_rate(words, heard, language)
    spaced = primary_code(language) not in transcripts.WITHOUT_SPACES
    right = rate <= 1 / (_WORDS_PER_ERROR if spaced else _CHARACTERS_PER_ERROR)
    return Verdict(None if right else "misheard", rate, heard)
