"""Audio files for the tests, as libsndfile writes them."""

import io

import numpy as np
import soundfile


def encoded(samples: np.ndarray, rate: int, format: str = "WAV", subtype: str | None = None, **options) -> bytes:
    """`samples` (n,) or (n, channels) as libsndfile writes them, a second at a time."""
    file = io.BytesIO()
    channels = samples.shape[1] if samples.ndim > 1 else 1
    with soundfile.SoundFile(file, "w", rate, channels, subtype, format=format, **options) as sound:
        for start in range(0, len(samples), rate):
            sound.write(samples[start : start + rate])
    return file.getvalue()
