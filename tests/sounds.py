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


def decoded(data: bytes) -> tuple[np.ndarray, int]:
    """Decode a file whose length may be unknown: its samples in float32, and their rate."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        file.seekable = lambda: False  # soundfile would seek, which fails at the end of such a file
        blocks = [np.zeros(0, np.float32)]
        while (block := file.read(4096, "float32")).size:
            blocks.append(block)
        return np.concatenate(blocks), file.samplerate
