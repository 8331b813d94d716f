"""Put a book together from the sounds of its lines: a file for each chapter, or one file with chapters.

A file of one chapter is `01 Title.flac`. One file of all chapters has marks of them inside, which audiobook players
show (see `tags`), and a cue sheet beside it. Sounds are read and written block by block: no book is held in memory.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import regex

from fishcli import files
from fishcli.audio import Encoder, Prosody
from fishcli.audio.prosody import MAX_SPEED, MIN_SPEED
from fishcli.errors import SettingError
from fishcli.jobs import subtitles, tags
from fishcli.jobs.line import Chapter, Job, SpokenChunk
from fishcli.jobs.loudness import LOUDEST, QUIETEST, Meter
from fishcli.jobs.subtitles import Kind, Spoken
from fishcli.jobs.track import Track, layout
from fishcli.request import Samples

FORMATS = ("flac", "mp3", "opus")
MAX_PAUSE = 60.0  # seconds


@dataclass(frozen=True)
class BookSettings:
    """How a book is put together. `format` is that of its files: flac, mp3 or opus.

    `one_file` puts all chapters into one file, with marks for players and a cue sheet. Pauses are in seconds: after a
    paragraph, before and after a heading, and between the chapters of one file; `speed` (0.25 to 4) does not change
    them. `loudness` is a target in LUFS (-50 to -5): one gain for the whole book, and no peak above -1 dBTP; None
    leaves the level. `subtitles` are kinds of files written beside the sound. Raises SettingError.
    """

    format: str = "flac"
    one_file: bool = False
    paragraph_pause: float = 0.6
    heading_pause: float = 1.2
    chapter_pause: float = 2.0
    speed: float = 1.0
    loudness: float | None = None
    subtitles: tuple[Kind, ...] = ()

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise SettingError(f"A book is not made as {self.format}; use {', '.join(FORMATS)}.", field="format")
        for name in ("paragraph_pause", "heading_pause", "chapter_pause"):
            _check_range(name, getattr(self, name), 0, MAX_PAUSE)
        _check_range("speed", self.speed, MIN_SPEED, MAX_SPEED)
        if self.loudness is not None:
            _check_range("loudness", self.loudness, QUIETEST, LOUDEST)
        for kind in self.subtitles:
            if kind not in subtitles.KINDS:
                raise SettingError(f"There are no subtitles {kind!r:.40}; use {', '.join(subtitles.KINDS)}.")


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
    cue_sheet: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file itself and those beside it."""
        return (self.path, *self.subtitles, *([self.cue_sheet] if self.cue_sheet else ()))


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

    The same lines and settings give the same bytes. A chapter of which a line has no sound is not written, and no
    book in one file without all its chapters; the job's problems are no lines, and left out. Raises FishError if a file
    cannot be read or written.
    """
    chapters = job.chapters or (Chapter(job.title or folder.name),)
    spoken = {id: entry for id, entry in entries.items() if entry.file is not None and entry.frames > 0}
    lost = {line.chapter or 0 for line in job.lines if line.id not in spoken}
    incomplete = tuple(chapters[index].title for index in sorted(lost))
    wanted = [index for index in range(len(chapters)) if index not in lost]
    parts = [wanted] * bool(wanted and not lost) if settings.one_file else [[index] for index in wanted]
    tracks = [layout(job, chapters, part, folder, spoken, settings) for part in parts]
    gain = _gain(tracks, settings)
    return Book(tuple(_write(track, job, len(chapters), folder, settings, gain) for track in tracks), incomplete, gain)


def _gain(tracks: Sequence[Track], settings: BookSettings) -> float:
    """Return the gain of the whole book in dB."""
    if settings.loudness is None or not tracks:
        return 0.0
    meter = Meter(tracks[0].rate)
    for track in tracks:
        for block in _sound(track, settings.speed):
            meter.add(block)
    return meter.gain(settings.loudness)


def _sound(track: Track, speed: float) -> Iterator[Samples]:
    """Yield the samples of a file, block by block."""
    for part in track.parts:
        yield part.silence
        prosody = Prosody(track.rate, speed)
        for block in part.blocks():
            yield prosody.process(block)
        yield prosody.finish()


def _write(track: Track, job: Job, count: int, folder: Path, settings: BookSettings, gain: float) -> BookFile:
    """Write a file of a book with its tags, subtitles and cue sheet."""
    path = folder / _name(track, job, count, settings)
    factor = 10 ** (gain / 20)
    with files.report_write_errors(path), tempfile.TemporaryFile(dir=folder) as sound:
        with Encoder(sound, track.rate, format=settings.format) as out:
            for block in _sound(track, settings.speed):
                out.write(block if gain == 0 else (block * factor).astype(block.dtype))
        with files.writing(path) as target:
            tags.copy(settings.format, sound, target, _tags(track, job, count, settings))
    written = subtitles.write(path, _spoken(track), settings.subtitles)
    cue_sheet = _write_cue_sheet(path, track, job) if settings.one_file else None
    starts = tuple((mark.title, mark.start) for mark in track.marks)
    return BookFile(path, track.seconds, starts, tuple(written), cue_sheet)


def _tags(track: Track, job: Job, count: int, settings: BookSettings) -> tags.Tags:
    if settings.one_file:
        title = job.title or track.marks[0].title
        return tags.Tags(title, title, chapters=track.marks)
    return tags.Tags(track.marks[0].title, job.title or "", track.number, count)


def _spoken(track: Track) -> list[Spoken]:
    """Return the chunks of a file with their times in it."""
    found = []
    for part in track.parts:
        scale = part.samples / part.frames / track.rate
        start = part.start / track.rate
        timed = subtitles.timed(part.chunks, scale)
        found += [Spoken(each.text, start + each.start, start + each.end) for each in timed]
    return found


_UNSAFE = regex.compile(r"[^\p{L}\p{M}\p{N} ,.'’&()!+_-]+")
_DEVICE = regex.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", regex.IGNORECASE)
_MAX_NAME = 120  # bytes


def _name(track: Track, job: Job, count: int, settings: BookSettings) -> str:
    """Return the name of a file: 01 Title.flac, or Title.flac."""
    if settings.one_file:
        return f"{_safe(job.title or track.marks[0].title)}.{settings.format}"
    return f"{track.number:0{max(2, len(str(count)))}} {_safe(track.marks[0].title)}.{settings.format}"


def _safe(title: str) -> str:
    """Return a title as a name of a file on any system."""
    name = " ".join(_UNSAFE.sub(" ", title).split()).encode()[:_MAX_NAME].decode(errors="ignore").strip(" .")
    return f"{name}_" if _DEVICE.fullmatch(name) else name or "Untitled"


def _write_cue_sheet(sound: Path, track: Track, job: Job) -> Path:
    """Write the chapters of a file as a cue sheet, whose times have 75 frames a second, and return its path."""
    title = job.title or track.marks[0].title
    kind = "MP3" if sound.suffix == ".mp3" else "WAVE"
    said = [f"TITLE {_quoted(title)}", f"FILE {_quoted(sound.name)} {kind}"]
    for number, mark in enumerate(track.marks, 1):
        frames = math.floor(mark.start * 75)
        time = f"{frames // 4500:02}:{frames // 75 % 60:02}:{frames % 75:02}"
        said += [f"  TRACK {number:02} AUDIO", f"    TITLE {_quoted(mark.title)}", f"    INDEX 01 {time}"]
    path = sound.with_suffix(".cue")
    with files.report_write_errors(path), files.writing(path) as file:
        file.write(("\n".join(said) + "\n").encode())
    return path


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingError(f"{name} must be a number from {low:g} to {high:g}, not {value!r:.40}.")
