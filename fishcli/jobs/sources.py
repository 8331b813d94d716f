"""The recordings that a line is spoken with: those of a saved voice, or files of the job."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fishcli.errors import InputError
from fishcli.files import open_regular
from fishcli.jobs.line import Line
from fishcli.voices import Library, printable

_MAX_BYTES = 2**26  # of a recording, as in the library
_MAX_TEXT = 40_000  # bytes of a transcript


Key = tuple[str | None, tuple[str, ...], tuple[str, ...]]  # of a voice: its name, or recordings and transcripts


class Source(NamedTuple):
    """A recording or a codes file: its name in messages, its bytes, and its transcript, "" if unknown."""

    name: str
    data: bytes
    text: str
    path: Path | None = None


def key(line: Line) -> Key:
    """Return what tells the voice of a line from that of others."""
    return line.voice, line.ref, line.ref_text


def read(line: Line, library: Library) -> tuple[Source, ...]:
    """Return the recordings of a line, read anew. Raises VoiceMissing or InputError."""
    if line.voice is not None:
        voice = library.find(line.voice)
        name = f"of the voice {voice.name}"
        return tuple(
            Source(f"{printable(each.name)} {name}", data, each.text) for each, data in library.contents(voice)
        )
    texts = line.ref_text or ("",) * len(line.ref)
    return tuple(_file(Path(path), text) for path, text in zip(line.ref, texts, strict=True))


def _file(path: Path, text: str) -> Source:
    return Source(str(path), _read(path, _MAX_BYTES), text.strip() or _beside(path), path)


def _beside(recording: Path) -> str:
    """Return the transcript in the .lab or .txt file beside a recording; "" if there is none."""
    for path in (recording.with_suffix(".lab"), recording.with_suffix(".txt")):
        if path.is_file():
            return _read(path, _MAX_TEXT).decode(errors="replace").removeprefix("\ufeff").strip()
    return ""


def _read(path: Path, limit: int) -> bytes:
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{path} has more than {limit:,} bytes; use a shorter one.")
    return data
