"""The faults of a chunk that its sound shows: silent, clipped, and misheard by a recogniser.

The faults that its codes show (empty, truncated, too short, too long, looping) are the engine's: `fishcli.engine`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fishcli.request import Fault, Samples


class Verdict(NamedTuple):
    """What is wrong with a take, if anything, the share of its words that were misheard, and the words heard."""

    fault: Fault | None = None
    error_rate: float = 0.0
    heard: str = ""


class Judge(Protocol):
    """Listens to a take. Any thread may call it."""

    def __call__(self, words: str, samples: Samples, sample_rate: int, /) -> Verdict:
        """Return what is wrong with the sound (N,) of some words."""


class Ears:
    """The judges of a job, one a language. Raises SettingError (field "check") without the extra `listen`."""

    def judge(self, language: str) -> Judge | None:
        """Return the judge of a language; None, and a warning once, for one that the recogniser does not know."""
        raise NotImplementedError
