"""Where each line lies in a file of a book: known from the headers of the lines' files, before a sound is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fishcli.errors import InputError
from fishcli.files import open_regular
from fishcli.jobs.line import Chapter, Job, Line, SpokenChunk
from fishcli.jobs.tags import Mark
from fishcli.request import Samples

if TYPE_CHECKING:
    from fishcli.jobs.books import BookSettings, Entry

_BLOCK = 2**16  # samples


@dataclass(frozen=True)
class Part:
    """A line in a file: `samples` from `start`, after `pause` samples of silence, made of `length` in its own file.

    `frames` are those of the codec, in the line's own time, as are those of its chunks.
    """

    path: Path
    chapter: int
    pause: int
    start: int
    samples: int
    length: int
    frames: int
    chunks: tuple[SpokenChunk, ...]

    @property
    def end(self) -> int:
        """Where the line ends."""
        return self.start + self.samples

    @property
    def silence(self) -> Samples:
        """The silence before the line."""
        return np.zeros(self.pause, np.float32)

    def blocks(self) -> Iterator[Samples]:
        """Yield the samples of the line's own file, block by block. Raises InputError if some are missing."""
        left = self.length
        with _opened(self.path) as sound:
            while len(block := sound.read(_BLOCK, dtype="float32")):
                left -= len(block)
                yield block
        if left:
            raise InputError(f"{self.path} is cut off; make the line anew.")


@dataclass(frozen=True)
class Track:
    """A file of a book: its number from 1, the rate in Hz, its lines and its chapters."""

    number: int
    rate: int
    parts: tuple[Part, ...]
    marks: tuple[Mark, ...]

    @property
    def seconds(self) -> float:
        """Seconds of sound."""
        return self.parts[-1].end / self.rate


def layout(
    job: Job,
    chapters: Sequence[Chapter],
    wanted: Sequence[int],
    folder: Path,
    entries: Mapping[str, Entry],
    settings: BookSettings,
) -> Track:
    """Return the file of the chapters `wanted`. Raises InputError for a line whose file cannot be read."""
    parts: list[Part] = []
    before: Line | None = None
    common = 0
    for line in (line for line in job.lines if (line.chapter or 0) in wanted):
        entry = entries[line.id]
        path = folder / (entry.file or "")
        with _opened(path) as sound:
            rate, length = sound.samplerate, sound.frames
        if common not in (0, rate):
            raise InputError(f"{path} has {rate} Hz and the lines before it {common} Hz; make the lines anew.")
        common = rate
        pause = round(rate * _pause(before, line, settings))
        start = (parts[-1].end if parts else 0) + pause
        size = round(length / settings.speed)
        parts.append(Part(path, line.chapter or 0, pause, start, size, length, entry.frames, tuple(entry.chunks)))
        before = line
    return Track(wanted[0] + 1, common, tuple(parts), _marks(chapters, parts, common))


def _pause(before: Line | None, line: Line, settings: BookSettings) -> float:
    """Return the seconds of silence between two lines."""
    if before is None:
        return 0.0
    if before.chapter != line.chapter:
        return settings.chapter_pause
    return settings.heading_pause if before.heading or line.heading else settings.paragraph_pause


def _marks(chapters: Sequence[Chapter], parts: Sequence[Part], rate: int) -> tuple[Mark, ...]:
    """Return the chapters of a file. One lasts until the next begins."""
    firsts = [part for index, part in enumerate(parts) if index == 0 or part.chapter != parts[index - 1].chapter]
    ends = [*(part.start for part in firsts[1:]), parts[-1].end]
    return tuple(
        Mark(chapters[part.chapter].title, part.start / rate, end / rate)
        for part, end in zip(firsts, ends, strict=True)
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a mono sound. libsndfile reads it by its descriptor, which no Ctrl-C disturbs."""
    import soundfile

    try:
        with open_regular(path) as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            if sound.channels != 1:
                raise InputError(f"{path} is not mono, as lines are; make the line anew.")
            yield sound
    except soundfile.SoundFileError as error:
        raise InputError(f"{path} cannot be decoded; make the line anew.") from error
