"""Decode audio files and bytes into mono float32 samples. Every recording, of any client, is decoded here.

No header is trusted: audio is decoded block by block, and reading stops as soon as it is too long. Faults that a
listener may hear, but a file may have (cut off, very quiet, nothing but noise), are logged as warnings.
"""

import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fishcli.audio import ffmpeg
from fishcli.audio.truncation import is_cut_off
from fishcli.errors import InputError
from fishcli.files import open_regular
from fishcli.request import Samples
from fishcli.threads import Worker

log = logging.getLogger(__name__)

MAX_SECONDS = 300.0  # more than fits into the model's context as a reference
MAX_BYTES = 2**28  # MAX_SECONDS of 96 kHz stereo float32, and some pictures
MIN_RATE, MAX_RATE = 8_000, 96_000  # Hz
_BLOCK = 2**16  # frames decoded at a time
_WINDOW = 0.05  # seconds, of which levels are measured
_QUIET = -60.0  # dBFS of the loudest window; speech at an arm's length lies above -40
_STEADY = 3.0  # dB between quiet and loud windows; speech has 20 and more, also in noise as loud as itself 4

# The formats that libsndfile decodes: WAV, RF64, FLAC, Ogg, AIFF, and MP3 with or without an ID3 tag. It has more
# decoders, which untrusted files must not reach.
_KNOWN = re.compile(rb"(RIFF|RF64)....WAVE|fLaC|OggS|FORM....AIF[FC]|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)


def read(
    source: Path | bytes | BinaryIO,
    rate: int,
    *,
    name: str = "",
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_BYTES,
) -> Samples:
    """Return the samples (n,) float32 at `rate` Hz of a WAV, FLAC, Ogg, MP3 or AIFF file; stereo is mixed down.

    M4A, AAC, WebM and some others are read where ffmpeg is installed. A stream is read to its end, or to `max_bytes`.
    `name` stands for the source in messages. Raises InputError if the audio cannot be read, is empty, larger than
    `max_bytes` or longer than `max_seconds`, has more than two channels, or a sample rate outside 8 to 96 kHz.
    """
    if isinstance(source, Path):
        # Reopened without a name: soundfile would trust the suffix of a name more than the content.
        with open_regular(source) as file, open(file.fileno(), "rb", closefd=False) as nameless:
            return _read(nameless, name or str(source), rate, max_seconds, max_bytes)
    data = source if isinstance(source, bytes) else source.read(max_bytes + 1)
    return _read(io.BytesIO(data), name or "the audio", rate, max_seconds, max_bytes)


def _read(file: BinaryIO, name: str, rate: int, max_seconds: float, max_bytes: int) -> Samples:
    start = file.read(12)
    if not start:
        raise InputError(f"{name} is empty; use another file.")
    kind = ffmpeg.kind_of(start)
    if kind is None and not _KNOWN.match(start):
        raise InputError(
            f"{name} is not WAV, FLAC, Ogg, MP3 or AIFF audio; convert it to WAV, for example with ffmpeg."
        )
    if file.seek(0, io.SEEK_END) > max_bytes:
        raise InputError(f"{name} is larger than {max_bytes / 2**20:.3g} MiB; cut it down to the part you need.")
    file.seek(0)
    if kind is not None:
        with ffmpeg.converted(file, kind, name, max_seconds) as wav:
            return _samples(wav, name, rate, max_seconds)
    if is_cut_off(file):
        log.warning("%s is cut off: its header promises more sound than the file holds.", name)
    return _samples(file, name, rate, max_seconds)


def _samples(file: BinaryIO, name: str, rate: int, max_seconds: float) -> Samples:
    file.seek(0)
    with Worker() as worker:
        samples = worker.run(_decode, file, name, rate, max_seconds)
    if not samples.size:
        raise InputError(f"{name} contains no audio; use another file.")
    if not np.isfinite(samples).all():
        raise InputError(f"{name} contains NaN or infinite samples; export it again.")
    _warn_about_level(samples, rate, name)
    return samples


def _decode(file: BinaryIO, name: str, rate: int, max_seconds: float) -> Samples:
    """Return the samples of `file` at `rate` Hz. Of two channels that cancel each other, the louder one is taken."""
    mix = _Downmix()
    samples = _resampled(file, name, rate, max_seconds, mix)
    if not mix.cancels:
        return samples
    log.info("The two channels of %s cancel each other; only the %s one is used.", name, mix.louder)
    file.seek(0)
    return _resampled(file, name, rate, max_seconds, _Downmix(mix.louder))


def _resampled(file: BinaryIO, name: str, rate: int, max_seconds: float, mix: "_Downmix") -> Samples:
    """Return the samples of `file` at `rate` Hz, decoded and resampled block by block."""
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(file) as sound:
            _check_header(sound, name)
            # soundfile seeks after each block, which fails at the end of a FLAC stream of unknown length.
            sound.seekable = lambda: False
            resampler = soxr.ResampleStream(sound.samplerate, rate, 1, dtype="float32", quality="HQ")
            blocks = _blocks(sound, name, max_seconds)
            parts = [resampler.resample_chunk(mix(block)) for block in blocks]
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


def _blocks(sound: Any, name: str, max_seconds: float) -> Iterator[np.ndarray]:
    """Yield blocks (n, channels) float32. The length in the header can reject a file early but never accept it."""
    unknown = 2**63 - 1  # libsndfile's value for a header without a length
    left = int(max_seconds * sound.samplerate)
    too_long = InputError(f"{name} is longer than {max_seconds:g} s; cut it down to the part you need.")
    if left < sound.frames < unknown:
        raise too_long
    while (block := sound.read(_BLOCK, dtype="float32", always_2d=True)).size:
        left -= len(block)
        if left < 0:
            raise too_long
        yield block


class _Downmix:
    """Mixes blocks (n, channels) down to (n,), and measures whether two channels cancel each other."""

    def __init__(self, only: str = "") -> None:
        self._only = ("left", "right").index(only) if only else None
        self._energy = np.zeros(3)  # of the left, the right and their mean

    def __call__(self, block: Samples) -> Samples:
        if block.shape[1] == 1 or self._only is not None:
            return block[:, self._only or 0]
        with np.errstate(over="ignore", invalid="ignore"):  # of samples near the largest float; they are refused later
            mean: Samples = (block[:, 0] + block[:, 1]) / np.float32(2)
            self._energy += [np.dot(signal, signal) for signal in (block[:, 0], block[:, 1], mean)]
        return mean

    @property
    def cancels(self) -> bool:
        """Whether less than a hundredth of the louder channel's energy is left."""
        return self._energy[2] < self._energy[:2].max() / 100

    @property
    def louder(self) -> str:
        """The louder channel: left or right."""
        return "left" if self._energy[0] >= self._energy[1] else "right"


def _warn_about_level(samples: Samples, rate: int, name: str) -> None:
    """Log a warning for a recording so quiet or so steady that it can hardly hold speech; silence is for the caller."""
    window = min(int(rate * _WINDOW), len(samples))
    windows = samples[: len(samples) // window * window].reshape(-1, window)
    powers = np.einsum("ij,ij->i", windows, windows, dtype=np.float64) / window
    if not powers.any():
        return
    levels = 10 * np.log10(powers + 1e-12)  # dBFS
    quiet, loud = np.percentile(levels, [5, 95])
    if levels.max() < _QUIET:
        log.warning("%s is very quiet (%.0f dBFS at its loudest): does it hold speech?", name, levels.max())
    elif len(levels) > 1 / _WINDOW and loud - quiet < _STEADY:
        log.warning("%s is as steady as noise or a tone: does it hold speech?", name)
