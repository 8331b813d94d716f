"""Convert recordings that libsndfile should not or cannot decode, those of phones above all, with an installed ffmpeg.

The input is untrusted. The start of the file chooses the one demuxer that ffmpeg may use, so that a playlist never
reaches it, and it may open no address; time, length and size are bounded.
"""

import contextlib
import logging
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fishcli.errors import InputError

log = logging.getLogger(__name__)

_LARGEST_SECOND = 96_000 * 2 * 4  # bytes: what the reader takes at most, in floats
_TIMEOUT = 120  # seconds; five minutes of AAC take about one


class Kind(NamedTuple):
    """A container: how its files start, its name, and ffmpeg's demuxer for it."""

    start: re.Pattern[bytes]
    name: str
    demuxer: str


def _kind(start: bytes, name: str, demuxer: str) -> Kind:
    return Kind(re.compile(start, re.DOTALL), name, demuxer)


_KINDS = (
    _kind(rb"....ftyp", "MP4 or M4A", "mov"),
    _kind(rb"\x1aE\xdf\xa3", "WebM or Matroska", "matroska"),
    _kind(rb"\xff[\xf0\xf1\xf8\xf9]", "AAC", "aac"),
    _kind(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA", "asf"),
    _kind(rb"#!AMR", "AMR", "amr"),
    _kind(rb"caff", "CAF", "caf"),
    _kind(rb"\.snd", "AU", "au"),
    _kind(rb"riff\x2e\x91\xcf\x11", "W64", "w64"),
    _kind(rb"wvpk", "WavPack", "wv"),
)


def kind_of(start: bytes) -> Kind | None:
    """Return the container that the first 12 bytes of a file name, None unless it is one for ffmpeg."""
    return next((kind for kind in _KINDS if kind.start.match(start)), None)


def command(name: str) -> str:
    """Return the command that a person types to convert a file to WAV."""
    path = Path(name)
    target = path.with_suffix(".wav") if path.suffix != ".wav" else path.with_name(f"{path.stem}-converted.wav")
    return f"`ffmpeg -i {shlex.quote(name)} {shlex.quote(str(target))}`"


@contextlib.contextmanager
def converted(file: BinaryIO, kind: Kind, name: str, max_seconds: float) -> Iterator[BinaryIO]:
    """Yield the first sound of `file` as a WAV, a little longer than `max_seconds` at most. Raises InputError."""
    program = shutil.which("ffmpeg")
    if program is None:
        remedy = f"install it, or convert the file elsewhere: {command(name)}" if Path(name).suffix else "install it"
        raise InputError(f"{name} is {kind.name} audio, which needs ffmpeg; {remedy}.")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as wav, tempfile.TemporaryFile() as said:
        copy = Path(folder).resolve() / "input"  # seekable, and without the user's name for it
        with copy.open("wb") as target:
            shutil.copyfileobj(file, target)
        _run([program, *_arguments(copy, kind, max_seconds + 1)], wav, said, name)
        wav.seek(0)
        yield wav


def _arguments(path: Path, kind: Kind, seconds: float) -> list[str]:
    size = int(seconds * _LARGEST_SECOND)
    return [
        "-nostdin", "-v", "error",
        "-protocol_whitelist", "file,pipe", "-f", kind.demuxer, "-t", str(seconds), "-i", f"file:{path}",
        "-map", "0:a:0", "-c:a", "pcm_f32le", "-fs", str(size), "-f", "wav", "pipe:1",
    ]  # fmt: skip


def _run(command: list[str], wav: BinaryIO, said: BinaryIO, name: str) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=wav, stderr=said, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"ffmpeg was not done with {name} after {_TIMEOUT} s; export it as WAV.") from error
    except OSError as error:
        raise InputError(f"ffmpeg, which reads {name}, cannot be run ({error.strerror}).") from error
    said.seek(0)
    complaint = said.read(1000).decode(errors="replace").strip()
    log.debug("ffmpeg ended with %s: %s", done.returncode, complaint)
    if done.returncode:
        raise InputError(f"ffmpeg finds no sound that it can decode in {name}; export it again as WAV.")
    if complaint:
        log.warning("ffmpeg found faults in %s, which may be cut off.", name)
