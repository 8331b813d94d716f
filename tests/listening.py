"""Ears for the tests: a speaker embedding, offline and on the CPU, beside the recogniser of `fishcli.bench.listening`.

The embedding is Resemblyzer's (generalised end-to-end loss, arXiv:1710.10467).
"""

import re
import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from fishcli.bench.listening import card, resampled

if TYPE_CHECKING:
    from resemblyzer import VoiceEncoder

SEEDS = (0, 1, 2)


def card_word_error_rate() -> float:
    """The card's figure for its sentences, each spoken alone."""
    return float(re.search(r"sentences below, each alone \| ([\d.]+)", card())[1])


def speaker_similarity(a: np.ndarray, b: np.ndarray, rate: int) -> float:
    """Cosine of the embeddings of two recordings (mono float32 at one rate), 0 to 1: halves of
    one recording give about 0.9, white noise and speech 0.4.
    """
    return float(_embedding(a, rate) @ _embedding(b, rate))


def _embedding(samples: np.ndarray, rate: int) -> np.ndarray:
    """(T,) -> (256,) of length 1."""
    encoder = _voice_encoder()
    from resemblyzer import preprocess_wav

    return encoder.embed_utterance(preprocess_wav(resampled(samples, rate)))


@cache
def _voice_encoder() -> "VoiceEncoder":
    with warnings.catch_warnings():
        # Resemblyzer imports a name from where SciPy 1.x still keeps an alias; nothing of ours can change that.
        warnings.filterwarnings("ignore", "Please import `binary_dilation`", DeprecationWarning)
        from resemblyzer import VoiceEncoder
    return VoiceEncoder("cpu", verbose=False)
