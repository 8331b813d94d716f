"""Encode mono float32 samples into audio files and streams, block by block, in constant memory.

libsndfile calls back into Python for each piece of a file, and a Ctrl-C that arrives in such a callback is printed
and lost. Python raises it in the main thread, so libsndfile runs in a thread of its own, here and in `reader`.
"""

import contextlib
import os
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from fishcli.audio.formats import FORMATS, SoundFormat
from fishcli.audio.stream_encoder import StreamEncoder
from fishcli.errors import SettingError
from fishcli.files import NextFree, is_special, report_write_errors, writing
from fishcli.threads import Worker

_SUFFIXES = [name for name in FORMATS if name != "pcm"]  # samples without a header say nothing of themselves


def output_format(path: Path, subtype: str | None = None) -> str:
    """Return the format that the suffix of `path` names: wav, flac, mp3, ogg or opus.

    Call it before any work starts: it raises SettingError for an unknown suffix, or a subtype that the format lacks.
    """
    return _format_of(path, subtype).name


def _format_of(path: Path, subtype: str | None) -> SoundFormat:
    """Return the format that a suffix names. A device or a pipe, such as /dev/null, needs none, and gets WAV."""
    name = path.suffix[1:].lower()
    if name not in _SUFFIXES:
        if not is_special(path):
            raise SettingError(f"{path} has no known audio format; use one of .{', .'.join(_SUFFIXES)}.")
        name = "wav"
    return SoundFormat(name, subtype=subtype)


class Encoder:
    """Encodes blocks of mono samples to a file, or to a stream such as stdout.

        with Encoder(Path("out.mp3"), 44_100) as out:
            for block in blocks:
                out.write(block)

    A file is replaced when the `with` block succeeds, and left unchanged if it fails; a NextFree gets its name then.
    A stream is flushed after each block, and its `format` is wav by default. The header of a stream has no length,
    until the end if the stream is a regular file, such as a redirected stdout. Samples are resampled if the format does
    not support `rate` Hz, and clipped to -1..1 except for the subtype FLOAT.

    Raises SettingError for an unknown format or subtype, FishError if the file cannot be written, and
    BrokenPipeError if the reader of a stream has closed it.
    """

    def __init__(
        self, target: Path | NextFree | BinaryIO, rate: int, *, format: str | None = None, subtype: str | None = None
    ) -> None:
        self._target = target
        path = target.path if isinstance(target, NextFree) else target
        self._name = str(path) if isinstance(path, Path) else "the output"
        if isinstance(path, Path) and format is None:
            self._format = _format_of(path, subtype)
        else:
            self._format = SoundFormat(format or "wav", subtype=subtype)
        self._rate = rate
        self._samples = 0

    @property
    def seconds(self) -> float:
        """Seconds of audio written so far."""
        return self._samples / self._rate

    def __enter__(self) -> "Encoder":
        with report_write_errors(self._name), contextlib.ExitStack() as stack:
            self._file, self._start = self._open(stack)
            self._worker = stack.enter_context(Worker())
            live = self._start is None
            self._encoder = self._worker.run(StreamEncoder, self._format, self._rate, live=live)
            stack.callback(self._worker.run, self._encoder.close)
            self._put(self._worker.run(self._encoder.encode, np.zeros(0, np.float32)))
            self._on_exit = stack.pop_all()
        return self

    def write(self, samples: np.ndarray) -> None:
        """Encode `samples` (n,) float32 and write the bytes that are ready."""
        self._samples += len(samples)
        with report_write_errors(self._name):
            for start in range(0, len(samples), self._rate):  # so that a file grows while a long sound is encoded
                self._put(self._worker.run(self._encoder.encode, samples[start : start + self._rate]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with report_write_errors(self._name):
            if kind is not None:
                self._on_exit.__exit__(kind, error, trace)
                return
            with self._on_exit:
                self._put(self._worker.run(self._encoder.finish))
                if self._start is not None:
                    self._complete(self._start)

    def _open(self, stack: contextlib.ExitStack) -> tuple[BinaryIO, int | None]:
        """Return the file, and its position if what follows can be rewritten at the end; else None."""
        if not isinstance(self._target, Path | NextFree):
            return self._target, _rewritable_from(self._target)
        file = stack.enter_context(writing(self._target))
        return file, 0 if file.seekable() else None  # a named pipe is not

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()

    def _complete(self, start: int) -> None:
        """Write the length into the header of a stream that started at a position of its file."""
        end = self._file.tell()
        for position, data in self._encoder.rewrites():
            self._file.seek(start + position)
            self._file.write(data)
        self._file.seek(end)
        self._file.flush()


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
