"""Encode mono float32 samples into audio files and streams, block by block, in constant memory.

libsndfile calls back into Python for each piece of a file, and a Ctrl-C that arrives in such a callback is printed
and lost. Python raises it in the main thread, so libsndfile runs in a thread of its own, here and in `reader`.
"""

import contextlib
import io
import os
import stat
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, ParamSpec, TypeVar

import numpy as np

from fishcli.errors import SettingError
from fishcli.files import NextFree, is_special, report_write_errors, writing

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


_WAV_HEADER = 44  # bytes
_MAX_WAV = 2**32 - 38  # bytes of samples, by the four bytes of the header's sizes


class _Format(NamedTuple):
    container: str  # libsndfile's name
    subtypes: tuple[str, ...]  # sample encodings, the default first
    rates: tuple[int, ...] = ()  # Hz; empty: any
    compression_level: float | None = None  # 0..1, with a constant bit rate; None: libsndfile's default


_FORMATS = {
    "wav": _Format("WAV", ("PCM_16", "PCM_24", "FLOAT")),
    "flac": _Format("FLAC", ("PCM_16", "PCM_24")),
    "mp3": _Format(
        "MP3",
        ("MPEG_LAYER_III",),
        # Lower rates have 24 kbit/s, and frames too small for the tag that holds the length.
        (16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        # 128 kbit/s from 32 kHz up, 56 below. Constant, so that players can tell the length of a stream.
        compression_level=(320 - 128) / 288,
    ),
    "ogg": _Format("OGG", ("VORBIS",)),
    "opus": _Format("OGG", ("OPUS",), (48_000,)),
}


def output_format(path: Path, subtype: str | None = None) -> str:
    """Return the format that the suffix of `path` names: wav, flac, mp3, ogg or opus.

    Call it before any work starts: it raises SettingError for an unknown suffix, or a subtype that the format lacks.
    """
    name = _format_of(path)
    _find_format(name, subtype, str(path))
    return name


def _format_of(path: Path) -> str:
    """Return the format that a suffix names. A device or a pipe, such as /dev/null, needs none, and gets WAV."""
    name = path.suffix[1:].lower()
    return "wav" if name not in _FORMATS and is_special(path) else name


def _find_format(name: str, subtype: str | None, target: str) -> tuple[_Format, str]:
    """Return the format and libsndfile's name of the subtype."""
    if name not in _FORMATS:
        raise SettingError(f"{target} has no known audio format; use one of .{', .'.join(_FORMATS)}.")
    chosen = _FORMATS[name]
    subtype = subtype.upper() if subtype else chosen.subtypes[0]
    if subtype not in chosen.subtypes:
        raise SettingError(
            f"{name} does not support the subtype {subtype}; it has {', '.join(chosen.subtypes)}.",
            field="subtype",
        )
    return chosen, subtype


class Encoder:
    """Encodes blocks of mono samples to a file, or to a stream such as stdout.

        with Encoder(Path("out.mp3"), 44_100) as out:
            for block in blocks:
                out.write(block)

    A file is replaced when the `with` block succeeds, and left unchanged if it fails; a NextFree gets its name then.
    A stream is flushed after each block, and its `format` is wav by default. The WAV header of a stream has no length,
    until the end if the stream is a regular file, such as a redirected stdout. Samples are resampled if the format
    does not support `rate` Hz, and clipped to -1..1 except for the subtype FLOAT.

    Raises SettingError for an unknown format or subtype, FishError if the file cannot be written, and
    BrokenPipeError if the reader of a stream has closed it.
    """

    def __init__(
        self, target: Path | NextFree | BinaryIO, rate: int, *, format: str | None = None, subtype: str | None = None
    ) -> None:
        self._target = target
        path = target.path if isinstance(target, NextFree) else target
        self._name = str(path) if isinstance(path, Path) else "the output"
        format = format or (_format_of(path) if isinstance(path, Path) else "wav")
        self._format, self._subtype = _find_format(format, subtype, self._name)
        self._rate = rate
        rates = self._format.rates or (rate,)
        self._out_rate = next((known for known in rates if known >= rate), rates[-1])
        self._samples = 0
        self._position = 0  # of the file, in bytes
        self._header_at: int | None = None  # where a stream's WAV header is, if it can be completed

    @property
    def seconds(self) -> float:
        """Seconds of audio written so far."""
        return self._samples / self._rate

    def __enter__(self) -> "Encoder":
        import soxr

        self._resampler = soxr.ResampleStream(self._rate, self._out_rate, 1, dtype="float32", quality="HQ")
        self._sink = _Sink()
        with report_write_errors(self._name), contextlib.ExitStack() as stack:
            self._file = self._open(stack)
            self._worker = stack.enter_context(ThreadPoolExecutor(1))
            self._sound = self._start()
            stack.callback(self._run, self._sound.close)
            self._drain()
            self._on_exit = stack.pop_all()
        return self

    def write(self, samples: np.ndarray) -> None:
        """Encode `samples` (n,) float32 and write the bytes that are ready."""
        self._samples += len(samples)
        with report_write_errors(self._name):
            self._encode(self._resampler.resample_chunk(np.ascontiguousarray(samples, np.float32)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with report_write_errors(self._name):
            if kind is not None:
                self._on_exit.__exit__(kind, error, trace)
                return
            with self._on_exit:
                self._encode(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
                self._run(self._sound.close)
                self._drain()
                if self._header_at is not None:
                    self._complete_header(self._header_at)

    def _open(self, stack: contextlib.ExitStack) -> BinaryIO:
        """Open the target; `_seekable` says whether the header can be completed at the end."""
        if not isinstance(self._target, Path | NextFree):
            self._seekable = False
            return self._target
        file = stack.enter_context(writing(self._target))
        self._seekable = file.seekable()  # not a named pipe
        return file

    def _start(self) -> Any:
        """Open libsndfile's encoder on the sink."""
        import soundfile

        container = self._format.container
        if container == "WAV" and not self._seekable:
            self._header_at = _rewritable_from(self._file)
            self._sink.write(_wav_header(self._out_rate, self._subtype))
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
            bitrate_mode="CONSTANT",  # ignored without a compression level
        )

    def _encode(self, samples: np.ndarray) -> None:
        """Encode at most a second at a time: libsndfile 1.2.2 crashes on a minute of Vorbis."""
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
        """Write out the bytes in the sink. A stream cannot take the final header update, so it is dropped."""
        for offset, data in self._sink.take():
            if offset != self._position:
                if not self._seekable:
                    continue
                self._file.seek(offset)
            self._file.write(data)
            self._position = offset + len(data)
        self._file.flush()

    def _complete_header(self, start: int) -> None:
        """Write the length into the WAV header of a stream that started at a position of its file."""
        size = self._position - _WAV_HEADER
        if size > _MAX_WAV:
            return
        if size % 2:
            self._file.write(b"\0")
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_wav_header(self._out_rate, self._subtype, size))
        self._file.seek(end)
        self._file.flush()


class _Sink:
    """A file object for libsndfile that collects each write with its offset.

    The real file is written outside of libsndfile's callbacks, where a full disk can raise an exception.
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


def _rewritable_from(stream: BinaryIO) -> int | None:
    """Return the position of a stream if what follows can be rewritten later: in a regular file, not in a pipe."""
    try:
        descriptor = stream.fileno()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or _appends(descriptor):
            return None
        return stream.tell()
    except (OSError, ValueError, AttributeError):  # a stream in memory, or an object with `write` alone
        return None


def _appends(descriptor: int) -> bool:
    """Return whether each write goes to the end of the file, as after `>>` in a shell."""
    if sys.platform == "win32":
        return False
    import fcntl

    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)


def _wav_header(rate: int, subtype: str, size: int | None = None) -> bytes:
    """Return a header (44 bytes) for mono audio of `size` bytes.

    For an unknown size it has the sizes that Fish Speech's server sends.
    """
    tag, width = {"PCM_16": (1, 2), "PCM_24": (1, 3), "FLOAT": (3, 4)}[subtype]
    form = struct.pack("<HHIIHH", tag, 1, rate, rate * width, width, 8 * width)
    data_size = 4_294_967_040 if size is None else size
    riff_size = 4_294_967_076 if size is None else 36 + size + size % 2
    return struct.pack("<4sI4s4sI16s4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", len(form), form, b"data", data_size)
