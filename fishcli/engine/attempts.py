"""The check of a chunk once its codes are complete, and the attempts at it.

A small model now and then babbles, stops early or loops. The duration tells: a chunk that lasts far longer or shorter
than its text needs, at the pace of its voice, came out wrong, and is generated again where nobody has heard it yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from fishcli import text
from fishcli.engine.prepared import Prepared
from fishcli.request import Codes, Fault, chunk_seed

# The built-in voice said 48 texts of 3 to 180 letters, 8 seeds each, in 0.65 to 1.55 times `_LEAD` + `text.seconds`.
_LEAD = 0.4  # seconds around the words of a chunk
_LONGEST, _SHORTEST = 1.6, 0.4  # times the expected duration
_GIVEN_UP = 2.5  # times the expected duration after which an attempt is not continued, unless it is the last
_SAME = 1.15  # ratio of the durations of two attempts that agree: the text takes so long in this voice
_PRIOR = 5.0  # seconds of speech that weigh as much as the pace of the references, or of an average speaker
_PACES = (0.5, 2.5)  # seconds of a reference per expected second; beyond, its transcript does not fit
_LOOP = 2.0  # seconds in which every frame repeats the one a period ago
_LONGEST_PERIOD = 1.0  # seconds


@dataclass(frozen=True)
class Attempt:
    """The codes (K, T) of a chunk, whether they end with the end of speech, and what is wrong with them."""

    codes: Codes
    ended: bool
    fault: Fault | None = None


class Attempts:
    """The attempts at the chunks of one sequence, one chunk after another.

    Attempt k at chunk j draws from a generator of its own, (seed, j, k), so the seed repeats the result.
    """

    def __init__(self, prepared: Prepared, seed: int, place: int) -> None:
        request = prepared.request
        self._checks = request.check != "off"
        # Greedy sampling repeats itself.
        self.retries = request.retries if self._checks and request.sampling.temperature != 0 else 0
        self._frame_rate, self._limit = prepared.frame_rate, request.sampling.max_new_tokens
        self._seed, self._chunk = seed, place + len(request.earlier)
        self._tries: list[Attempt] = []  # at the current chunk
        self._spoken, self._expected = _PRIOR * _pace(prepared), _PRIOR  # seconds
        for each in request.earlier if request.iterative_prompt else ():
            self._learn(each.text, each.codes.shape[1])
        self.generator = self._new_generator()

    @property
    def count(self) -> int:
        """Attempts at the current chunk so far."""
        return len(self._tries)

    def most_frames(self, words: str) -> int | None:
        """Return the frames after which the attempt in progress is given up; None for as many as there is room for."""
        if self.count >= self.retries:
            return None
        return math.ceil(_GIVEN_UP * self._seconds(words) * self._frame_rate)

    def take(self, words: str, codes: Codes, ended: bool) -> Attempt | None:
        """Take the codes of an attempt; return the one to keep, or None if the chunk is to be generated again."""
        attempt = Attempt(codes, ended, self._fault(words, codes, ended) if self._checks else None)
        self._tries.append(attempt)
        if attempt.fault and self._agrees(attempt):
            attempt = Attempt(codes, ended)
        elif attempt.fault and self.count <= self.retries and self._can_improve(words, attempt):
            self.generator = self._new_generator()
            return None
        best = attempt if attempt.fault is None else min(self._tries, key=lambda each: self._distance(words, each))
        if best.fault is None:
            self._learn(words, best.codes.shape[1])
        return best

    def begin_chunk(self) -> None:
        """Go on to the next chunk."""
        self._chunk, self._tries = self._chunk + 1, []
        self.generator = self._new_generator()

    def _new_generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(chunk_seed(self._seed, self._chunk, self.count))

    def _seconds(self, words: str) -> float:
        """Return the expected duration of a chunk at the pace of the voice."""
        return _expected(words) * self._spoken / self._expected

    def _learn(self, words: str, frames: int) -> None:
        """Learn the pace of the voice from a chunk that came out right."""
        self._spoken += frames / self._frame_rate
        self._expected += _expected(words)

    def _fault(self, words: str, codes: Codes, ended: bool) -> Fault | None:
        frames, expected = codes.shape[1], self._seconds(words) * self._frame_rate
        if not frames:
            return "empty"
        if not ended and self.most_frames(words) != frames:
            return "truncated"
        if loops(codes, round(_LONGEST_PERIOD * self._frame_rate), round(_LOOP * self._frame_rate)):
            return "looping"
        if not ended or frames > _LONGEST * expected:
            return "too long"
        return "too short" if frames < _SHORTEST * expected else None

    def _agrees(self, attempt: Attempt) -> bool:
        """Whether an attempt of a wrong duration lasts as long as an earlier one: then it is the pace of the voice."""
        if not attempt.ended or attempt.fault not in ("too long", "too short"):
            return False
        others = [each.codes.shape[1] for each in self._tries[:-1] if each.ended and each.fault == attempt.fault]
        frames = attempt.codes.shape[1]
        return any(max(frames, other) <= _SAME * min(frames, other) for other in others)

    def _can_improve(self, words: str, attempt: Attempt) -> bool:
        """Whether another attempt can be better: not where the limit of frames is too low for the text."""
        needed = _LONGEST * self._seconds(words) * self._frame_rate
        return attempt.fault != "truncated" or not self._limit or self._limit > needed

    def _distance(self, words: str, attempt: Attempt) -> tuple[bool, bool, float]:
        """Return how wrong an attempt is; the least wrong one is kept."""
        frames = max(attempt.codes.shape[1], 1) / self._frame_rate
        return not attempt.codes.shape[1], not attempt.ended, abs(math.log(frames / self._seconds(words)))


def _expected(words: str) -> float:
    return _LEAD + text.seconds(words)


def _pace(prepared: Prepared) -> float:
    """Return the pace of the references: seconds that they last over seconds that their transcripts need."""
    known = [each for each in prepared.request.references if each.text.strip()]
    if not known:
        return 1.0
    spoken = sum(each.codes.shape[1] for each in known) / prepared.frame_rate
    return min(max(spoken / sum(_expected(each.text) for each in known), _PACES[0]), _PACES[1])


def loops(codes: Codes, longest_period: int, length: int) -> bool:
    """Return whether `length` frames in a row of codes (K, T) each repeat the frame one period before."""
    for period in range(1, min(longest_period, codes.shape[1] - length) + 1):
        same = (codes[:, period:] == codes[:, :-period]).all(axis=0)
        ends = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
        if ((ends[1::2] - ends[::2]) >= length).any():
            return True
    return False
