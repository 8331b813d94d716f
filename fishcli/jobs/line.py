"""A job: its lines, each with a text and parameters, and the chapters they belong to."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field

from fishcli.request import Samples, SamplingParams

MAX_TEXT = 20_000  # characters of a line, 20 minutes of speech, which are held in memory


@dataclass(frozen=True)
class Line:
    """A text of a job, spoken into a file of its own.

    `id` names it and its file; `number` is its place in the job's file, from 1 (a row, a paragraph). Either `voice`
    names a saved voice, or `ref` are the paths of recordings and `ref_text` their transcripts. `format` is the ending
    of its file without the dot; None: the job's. `chapter` is the index of its chapter in a book; `heading` whether it
    is that chapter's or a section's title.
    """

    id: str
    text: str
    number: int
    voice: str | None = None
    ref: tuple[str, ...] = ()
    ref_text: tuple[str, ...] = ()
    language: str | None = None
    format: str | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    chapter: int | None = None
    heading: bool = False


@dataclass(frozen=True)
class Chapter:
    """A chapter of a book."""

    title: str


@dataclass(frozen=True)
class Problem:
    """A line that cannot be spoken: its number in the job's file, its id if it has one, and the reason."""

    number: int
    message: str
    id: str | None = None


@dataclass(frozen=True)
class Job:
    """The lines of a job in order, those that cannot be read, and for a book its title and chapters."""

    lines: tuple[Line, ...]
    problems: tuple[Problem, ...] = ()
    title: str | None = None
    chapters: tuple[Chapter, ...] = ()


@dataclass(frozen=True)
class SpokenChunk:
    """A chunk of a line as spoken: `start` and `frames` count codec frames from the start of its sound."""

    text: str
    start: int
    frames: int
    seed: int
    fault: str | None = None
    attempts: int = 1


@dataclass(frozen=True, eq=False)
class Rendered:
    """The sound of a line: samples (N,) at `sample_rate`, `frames` codec frames long, and its chunks in order."""

    samples: Samples
    sample_rate: int
    frames: int
    chunks: tuple[SpokenChunk, ...]
    seed: int


def with_voice(line: Line, name: str | None) -> Line:
    """Return a line in a saved voice; None: in its own."""
    return line if name is None else dataclasses.replace(line, voice=name, ref=(), ref_text=())


def seed_of(job_seed: int, id: str) -> int:
    """Return the seed of a line that names none: the same for the same job's seed and id."""
    return int.from_bytes(hashlib.sha256(f"{job_seed}:{id}".encode()).digest()[:4], "big")
