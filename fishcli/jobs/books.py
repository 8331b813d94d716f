"""Put a book together from the sounds of its lines: a file for each chapter, or one with chapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fishcli.jobs.line import Job, SpokenChunk
from fishcli.jobs.subtitles import Kind

FORMATS = ("flac", "mp3", "opus")


@dataclass(frozen=True)
class BookSettings:
    """How a book is put together. `format` is that of its files: flac, mp3 or opus.

    `one_file` puts all chapters into one file, with marks for players and a cue sheet. Pauses are in seconds: after a
    paragraph, before and after a heading, and between the chapters of one file. `speed` is 0.25 to 4. `loudness` is a
    target in LUFS; None leaves the level. `subtitles` are kinds of files written beside the sound. Raises SettingError.
    """

    format: str = "flac"
    one_file: bool = False
    paragraph_pause: float = 0.6
    heading_pause: float = 1.2
    chapter_pause: float = 2.0
    speed: float = 1.0
    loudness: float | None = None
    subtitles: tuple[Kind, ...] = ()


class Entry(Protocol):
    """The sound of a line, as the manifest has it: `file` is relative to the folder, WAV or FLAC."""

    @property
    def file(self) -> str | None: ...
    @property
    def frames(self) -> int: ...
    @property
    def chunks(self) -> Sequence[SpokenChunk]: ...


@dataclass(frozen=True)
class BookFile:
    """A file of a book: its path, its length, and the title and the start of each chapter in it, in seconds."""

    path: Path
    seconds: float
    chapters: tuple[tuple[str, float], ...]
    subtitles: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Book:
    """The files of a book, and the titles of chapters that lack a line and so were not written.

    `gain` is how much louder or quieter the book was made, in dB.
    """

    files: tuple[BookFile, ...]
    incomplete: tuple[str, ...] = ()
    gain: float = 0.0


def assemble(job: Job, folder: Path, entries: Mapping[str, Entry], settings: BookSettings) -> Book:
    """Write the chapters of a job whose lines lie in `folder`, each with its entry by id, and return the files.

    The same lines and settings give the same bytes. Raises FishError if a file cannot be read or written.
    """
    raise NotImplementedError
