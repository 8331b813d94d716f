"""Subtitles from the times of chunks: SRT, WebVTT and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from fishcli.jobs.line import SpokenChunk

Kind = Literal["srt", "vtt", "json"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Spoken(NamedTuple):
    """A chunk of a sound: its text, and where it starts and ends, in seconds."""

    text: str
    start: float
    end: float


def timed(chunks: Sequence[SpokenChunk], seconds_per_frame: float) -> list[Spoken]:
    """Return the chunks of a line with their times in its sound."""
    raise NotImplementedError


def write(sound: Path, spoken: Sequence[Spoken], kinds: Sequence[Kind]) -> list[Path]:
    """Write the subtitles of a sound beside it, `sound.srt` and so on, and return their paths. Raises FishError."""
    raise NotImplementedError
