"""Decode audio files and bytes into mono float32 samples.

No header is trusted: audio is decoded block by block, and reading stops as soon as it is too long.
"""

import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fishcli.errors import InputError
from fishcli.files import open_regular

MAX_SECONDS = 300.0  # more than fits into the model's context as a reference
MAX_BYTES = 2**28  # MAX_SECONDS of 96 kHz stereo float32, and some pictures
MIN_RATE, MAX_RATE = 8_000, 96_000  # Hz
_BLOCK = 2**16  # frames decoded at a time

# The formats that are decoded: WAV, RF64, FLAC, Ogg, AIFF, and MP3 with or without an ID3 tag. libsndfile has more
# decoders, which untrusted files must not reach.
_KNOWN = re.compile(rb"(RIFF|RF64)....WAVE|fLaC|OggS|FORM....AIF[FC]|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)


def read(source: Path | bytes | BinaryIO, rate: int, *, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Return the samples (n,) float32 at `rate` Hz of a WAV, FLAC, Ogg, MP3 or AIFF file; stereo is mixed down.

    A stream is read to its end, or to `MAX_BYTES`. Raises InputError if the audio cannot be read, is empty, is longer
    than `max_seconds`, has more than two channels, or has a sample rate outside 8 to 96 kHz.
    """
    if isinstance(source, Path):
        # Reopened without a name: soundfile would trust the suffix of a name more than the content.
        with open_regular(source) as file, open(file.fileno(), "rb", closefd=False) as nameless:
            return _read(nameless, str(source), rate, max_seconds)
    data = source if isinstance(source, bytes) else source.read(MAX_BYTES + 1)
    return _read(io.BytesIO(data), "the audio", rate, max_seconds)


def _read(file: BinaryIO, name: str, rate: int, max_seconds: float) -> np.ndarray:
    if not _KNOWN.match(file.read(12)):
        raise InputError(f"{name} is not WAV, FLAC, Ogg, MP3 or AIFF audio; convert it, for example with ffmpeg.")
    if file.seek(0, io.SEEK_END) > MAX_BYTES:
        raise InputError(f"{name} is larger than {MAX_BYTES >> 20} MiB; cut it down to the part you need.")
    file.seek(0)
    with ThreadPoolExecutor(1) as worker:
        samples = worker.submit(_decode, file, name, rate, max_seconds).result()
    if not samples.size:
        raise InputError(f"{name} contains no audio; use another file.")
    if not np.isfinite(samples).all():
        raise InputError(f"{name} contains NaN or infinite samples; export it again.")
    return samples


def _decode(file: BinaryIO, name: str, rate: int, max_seconds: float) -> np.ndarray:
    """Return the samples of `file` at `rate` Hz, decoded and resampled block by block."""
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(file) as sound:
            _check_header(sound, name)
            # soundfile seeks after each block, which fails at the end of a FLAC stream of unknown length.
            sound.seekable = lambda: False
            resampler = soxr.ResampleStream(sound.samplerate, rate, 1, dtype="float32", quality="HQ")
            blocks = _mono_blocks(sound, name, max_seconds)
            parts = [resampler.resample_chunk(block) for block in blocks]
    except soundfile.SoundFileError as error:
        reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
        raise InputError(f"{name} cannot be decoded ({str(reason).rstrip('.')}); export it again as WAV.") from error
    return np.concatenate([*parts, resampler.resample_chunk(np.zeros(0, np.float32), last=True)])


def _check_header(sound: Any, name: str) -> None:
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        raise InputError(
            f"{name} has a sample rate of {sound.samplerate} Hz; resample it to {MIN_RATE} to {MAX_RATE} Hz."
        )
    if sound.channels > 2:
        raise InputError(f"{name} has {sound.channels} channels; mix it down to mono or stereo.")


def _mono_blocks(sound: Any, name: str, max_seconds: float) -> Iterator[np.ndarray]:
    """Yield blocks (n,) float32. The length in the header can reject a file early but never accept it."""
    unknown = 2**63 - 1  # libsndfile's value for a header without a length
    left = int(max_seconds * sound.samplerate)
    too_long = InputError(f"{name} is longer than {max_seconds:g} s; cut it down to the part you need.")
    if left < sound.frames < unknown:
        raise too_long
    while (block := sound.read(_BLOCK, dtype="float32", always_2d=True)).size:
        left -= len(block)
        if left < 0:
            raise too_long
        yield block[:, 0] if sound.channels == 1 else (block[:, 0] + block[:, 1]) / 2
