"""Audio files and bytes <-> mono float32 samples.

Reading trusts nothing that a header says: sound is decoded block by block and given up as soon as it is too
long. Writing encodes blocks as they come, so that an hour of speech needs no more memory than a second.

libsndfile works in a thread of its own here: it calls back into Python for each piece of a file, and a
Ctrl-C that arrives there, in the main thread, would be printed and lost.
"""

import contextlib
import io
import re
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, ParamSpec, TypeVar

import numpy as np

from fishcli.errors import InputError, SettingError
from fishcli.files import naming_failures, open_regular, replacing

MAX_SECONDS = 300.0  # more than fits into the model's context as a reference
MAX_BYTES = 2**28  # MAX_SECONDS of 96 kHz stereo float32, and some pictures
MIN_RATE, MAX_RATE = 8_000, 96_000  # Hz
_BLOCK = 2**16  # frames decoded at a time

# Only decoders that people have a use for can be reached: WAV, RF64, FLAC, Ogg, AIFF, and MP3 with or without a tag.
_KNOWN = re.compile(rb"(RIFF|RF64)....WAVE|fLaC|OggS|FORM....AIF[FC]|ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def read(source: Path | bytes | BinaryIO, rate: int, *, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """WAV, FLAC, Ogg Vorbis or Opus, MP3 or AIFF -> samples (n,) float32 at `rate` Hz, stereo averaged.

    A stream is read to its end, or to `MAX_BYTES`. Raises InputError for what cannot be read, holds no
    sound, is longer than `max_seconds`, or is neither mono nor stereo of 8 to 96 kHz.
    """
    if isinstance(source, Path):
        # Reopened without a name, of which soundfile would believe the suffix rather than the content.
        with open_regular(source) as file, open(file.fileno(), "rb", closefd=False) as nameless:
            return _read(nameless, str(source), rate, max_seconds)
    data = source if isinstance(source, bytes) else source.read(MAX_BYTES + 1)
    return _read(io.BytesIO(data), "the audio", rate, max_seconds)


def _read(file: BinaryIO, name: str, rate: int, max_seconds: float) -> np.ndarray:
    if not _KNOWN.match(file.read(12)):
        raise InputError(f"{name} is not WAV, FLAC, Ogg, MP3 or AIFF audio; convert it to WAV, with ffmpeg say.")
    if file.seek(0, io.SEEK_END) > MAX_BYTES:
        raise InputError(f"{name} is larger than {MAX_BYTES >> 20} MiB; cut out the part that is wanted.")
    file.seek(0)
    with ThreadPoolExecutor(1) as worker:
        samples = worker.submit(_decode, file, name, rate, max_seconds).result()
    if not samples.size:
        raise InputError(f"{name} holds no sound; record it again or give another file.")
    if not np.isfinite(samples).all():
        raise InputError(f"{name} holds samples that are not finite numbers; export it again.")
    return samples


def _decode(file: BinaryIO, name: str, rate: int, max_seconds: float) -> np.ndarray:
    """The samples of `file` at `rate`, decoded and resampled block by block."""
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
        raise InputError(
            f"{name} is damaged or of an unknown kind ({str(reason).rstrip('.')}); export it again, as WAV."
        ) from error
    return np.concatenate([*parts, resampler.resample_chunk(np.zeros(0, np.float32), last=True)])


def _check_header(sound: Any, name: str) -> None:
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        raise InputError(
            f"{name} has a sample rate of {sound.samplerate} Hz; resample it to one of {MIN_RATE} to {MAX_RATE} Hz."
        )
    if sound.channels > 2:
        raise InputError(f"{name} has {sound.channels} channels; mix it down to mono or stereo.")


def _mono_blocks(sound: Any, name: str, max_seconds: float) -> Iterator[np.ndarray]:
    """Blocks (n,) float32. The length that the header claims may refuse a file early, never admit one."""
    unknown = 2**63 - 1  # libsndfile's word for a header without a length
    left = int(max_seconds * sound.samplerate)
    too_long = InputError(f"{name} is longer than {max_seconds:g} s; cut out the part that is wanted.")
    if left < sound.frames < unknown:
        raise too_long
    while (block := sound.read(_BLOCK, dtype="float32", always_2d=True)).size:
        left -= len(block)
        if left < 0:
            raise too_long
        yield block[:, 0] if sound.channels == 1 else (block[:, 0] + block[:, 1]) / 2


class _Format(NamedTuple):
    container: str  # libsndfile's name
    subtypes: tuple[str, ...]  # what it may hold, the default first
    rates: tuple[int, ...] = ()  # Hz; empty for any
    compression_level: float | None = None  # 0..1, at a constant bit rate; None for libsndfile's own choice


_FORMATS = {
    "wav": _Format("WAV", ("PCM_16", "PCM_24", "FLOAT")),
    "flac": _Format("FLAC", ("PCM_16", "PCM_24")),
    "mp3": _Format(
        "MP3",
        ("MPEG_LAYER_III",),
        # Below 16 kHz lie 24 kbit/s, whose frames are too small for the tag that tells the length.
        (16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        # 128 kbit/s from 32 kHz up, 56 below; constant, so that players know how long a stream is.
        compression_level=(320 - 128) / 288,
    ),
    "ogg": _Format("OGG", ("VORBIS",)),
    "opus": _Format("OGG", ("OPUS",), (48_000,)),
}


def output_format(path: Path, subtype: str | None = None) -> str:
    """The format that the suffix of `path` names: wav, flac, mp3, ogg or opus.

    Raises SettingError for any other, and for a subtype that the format cannot hold: ask before the work.
    """
    name = path.suffix[1:].lower()
    _checked(name, subtype, str(path))
    return name


def _checked(name: str, subtype: str | None, target: str) -> tuple[_Format, str]:
    """The format and its subtype, as libsndfile spells it."""
    if name not in _FORMATS:
        raise SettingError(f"{target} does not end in a known format; use one of .{', .'.join(_FORMATS)}.")
    chosen = _FORMATS[name]
    subtype = subtype.upper() if subtype else chosen.subtypes[0]
    if subtype not in chosen.subtypes:
        raise SettingError(
            f"{name} files hold {' or '.join(chosen.subtypes)} and not {subtype}; "
            "only .wav and .flac leave a choice of subtype."
        )
    return chosen, subtype


class Writer:
    """Encodes blocks of mono samples as they come, to a file or to a stream such as stdout.

        with Writer(Path("out.mp3"), 44_100) as out:
            for block in blocks:
                out.write(block)

    A file is complete when the `with` block ends and left as it was when it fails. A stream is only ever
    appended to and flushed with each block, so a WAV header in it cannot tell the length; `format` is wav
    if not given. Where the format cannot take `rate` Hz the sound is resampled. What lies outside -1..1 is
    clipped, but for the subtype FLOAT, which keeps every sample as it is.

    Raises SettingError for an unknown format or subtype, FishError when the file cannot be written, and
    BrokenPipeError when a stream's reader has gone.
    """

    def __init__(
        self, target: Path | BinaryIO, rate: int, *, format: str | None = None, subtype: str | None = None
    ) -> None:
        self._target = target
        self._name = str(target) if isinstance(target, Path) else "the output"
        suffix = target.suffix[1:].lower() if isinstance(target, Path) else "wav"
        self._format, self._subtype = _checked(format or suffix, subtype, self._name)
        self._rate = rate
        rates = self._format.rates or (rate,)
        self._out_rate = next((known for known in rates if known >= rate), rates[-1])
        self._samples = 0
        self._position = 0  # bytes, in the file

    @property
    def seconds(self) -> float:
        """What was written so far."""
        return self._samples / self._rate

    def __enter__(self) -> "Writer":
        import soxr

        self._resampler = soxr.ResampleStream(self._rate, self._out_rate, 1, dtype="float32", quality="HQ")
        self._sink = _Sink()
        with naming_failures(self._name), contextlib.ExitStack() as stack:
            self._file = self._opened(stack)
            self._worker = stack.enter_context(ThreadPoolExecutor(1))
            self._sound = self._start()
            stack.callback(self._run, self._sound.close)
            self._drain()
            self._on_exit = stack.pop_all()
        return self

    def write(self, samples: np.ndarray) -> None:
        """Encode `samples` (n,) float32 and send on what the encoder gives back."""
        self._samples += len(samples)
        with naming_failures(self._name):
            self._encode(self._resampler.resample_chunk(np.ascontiguousarray(samples, np.float32)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with naming_failures(self._name):
            if kind is not None:
                self._on_exit.__exit__(kind, error, trace)
                return
            with self._on_exit:
                self._encode(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
                self._run(self._sound.close)
                self._drain()

    def _opened(self, stack: contextlib.ExitStack) -> BinaryIO:
        """The file to write to; `_seekable` says whether its header can be completed at the end."""
        if not isinstance(self._target, Path):
            self._seekable = False
            return self._target
        file = stack.enter_context(stack.enter_context(replacing(self._target)).open("wb"))
        self._seekable = file.seekable()  # not a named pipe
        return file

    def _start(self) -> Any:
        """libsndfile's encoder, writing to the sink."""
        import soundfile

        container = self._format.container
        if container == "WAV" and not self._seekable:
            self._sink.write(_endless_wav_header(self._out_rate, self._subtype))
            container = "RAW"
        return self._run(
            soundfile.SoundFile,
            self._sink,
            "w",
            self._out_rate,
            1,
            subtype=self._subtype,
            endian="LITTLE" if container == "RAW" else None,
            format=container,
            compression_level=self._format.compression_level,
            bitrate_mode="CONSTANT",  # heeded only with a compression level
        )

    def _encode(self, samples: np.ndarray) -> None:
        """In pieces of a second at most: libsndfile 1.2.2 crashes on a minute of Vorbis at once."""
        if self._subtype != "FLOAT":
            samples = np.clip(samples, -1, 1)
        for start in range(0, len(samples), self._out_rate):
            self._run(self._sound.write, samples[start : start + self._out_rate])
            self._drain()

    def _run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        return self._worker.submit(function, *args, **kwargs).result()

    def _drain(self) -> None:
        """Send on what the encoder wrote. What it mends in its header at the end is lost to a stream."""
        for offset, data in self._sink.take():
            if offset != self._position:
                if not self._seekable:
                    continue
                self._file.seek(offset)
            self._file.write(data)
            self._position = offset + len(data)
        self._file.flush()


class _Sink:
    """The file that libsndfile believes to write: it keeps each piece with its place, until it is taken.

    So the real file is written outside of libsndfile's callbacks, where a full disk is an exception.
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[int, bytes]] = []
        self._position = self._end = 0

    def write(self, data: bytes) -> int:
        self._pieces.append((self._position, data))
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def take(self) -> list[tuple[int, bytes]]:
        pieces, self._pieces = self._pieces, []
        return pieces


def _endless_wav_header(rate: int, subtype: str) -> bytes:
    """44 bytes for mono sound of unknown length, with the sizes that Fish Speech's server sends."""
    tag, width = {"PCM_16": (1, 2), "PCM_24": (1, 3), "FLOAT": (3, 4)}[subtype]
    form = struct.pack("<HHIIHH", tag, 1, rate, rate * width, width, 8 * width)
    riff_size, data_size = 4_294_967_076, 4_294_967_040
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", len(form), form, b"data", data_size)
