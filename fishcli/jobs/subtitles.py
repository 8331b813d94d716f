"""Subtitles from the times of chunks: SRT, WebVTT and JSON.

A chunk starts and ends as the frames of its sound do. The times of cues and words inside it are estimates: they share
its time by how long their characters take to say. The JSON marks them so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import regex

from fishcli import files
from fishcli import text as texts
from fishcli.jobs import cues
from fishcli.jobs.line import SpokenChunk
from fishcli.text.chunks import UNSPACED

Kind = Literal["srt", "vtt", "json"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_WORD = regex.compile(rf"{UNSPACED.pattern}[\p{{P}}\p{{M}}]*|(?:(?!{UNSPACED.pattern})\S)+")


class Spoken(NamedTuple):
    """A chunk of a sound: its text, and where it starts and ends, in seconds."""

    text: str
    start: float
    end: float


class Cue(NamedTuple):
    """One or two lines of a subtitle, and their time in milliseconds; `estimated` unless it is a whole chunk."""

    lines: tuple[str, ...]
    start: int
    end: int
    estimated: bool


def timed(chunks: Sequence[SpokenChunk], seconds_per_frame: float) -> list[Spoken]:
    """Return the chunks of a line with their times in its sound."""
    return [
        Spoken(each.text, each.start * seconds_per_frame, (each.start + each.frames) * seconds_per_frame)
        for each in chunks
    ]


def write(sound: Path, spoken: Sequence[Spoken], kinds: Sequence[Kind]) -> list[Path]:
    """Write the subtitles of a sound beside it, `sound.srt` and so on, and return their paths. Raises FishError.

    The chunks are in order and do not overlap.
    """
    paths = []
    for kind in dict.fromkeys(kinds):
        path = sound.with_name(f"{sound.stem}.{kind}")
        said = {"srt": srt, "vtt": vtt, "json": as_json}[kind](spoken)
        with files.report_write_errors(path), files.writing(path) as file:
            file.write(said.encode(errors="replace"))
        paths.append(path)
    return paths


def srt(spoken: Sequence[Spoken]) -> str:
    """Return subtitles in SubRip's format."""
    return "".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{_shown(cue)}\n\n"
        for number, cue in enumerate(_cues(spoken), 1)
    )


def vtt(spoken: Sequence[Spoken]) -> str:
    """Return subtitles in WebVTT."""
    found = (f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{_escaped(_shown(cue))}\n\n" for cue in _cues(spoken))
    return "WEBVTT\n\n" + "".join(found)


def as_json(spoken: Sequence[Spoken]) -> str:
    """Return chunks with their cues and words. Times are in seconds; `estimated` ones come from counting characters."""
    return json.dumps({"chunks": [_object(each) for each in spoken]}, ensure_ascii=False, indent=1) + "\n"


def _object(spoken: Spoken) -> dict[str, Any]:
    words = _WORD.findall(spoken.text)
    return {
        "text": spoken.text,
        "start": round(spoken.start, 3),
        "end": round(spoken.end, 3),
        "cues": [
            {"lines": cue.lines, "start": cue.start / 1000, "end": cue.end / 1000, "estimated": cue.estimated}
            for cue in _cues_of(spoken)
        ],
        "words": [
            {"text": word, "start": start / 1000, "end": end / 1000, "estimated": True}
            for word, (start, end) in zip(words, _shared(spoken, words), strict=True)
        ],
    }


def _cues(spoken: Sequence[Spoken]) -> Iterator[Cue]:
    return (cue for each in spoken for cue in _cues_of(each))


def _cues_of(spoken: Spoken) -> list[Cue]:
    """Return the cues of a chunk. Those too short for a millisecond of their own are left out."""
    found = list(cues.cut(spoken.text))
    times = _shared(spoken, [" ".join(lines) for lines in found])
    estimated = len(found) > 1
    return [Cue(lines, *time, estimated) for lines, time in zip(found, times, strict=True) if time[1] > time[0]]


def _shared(spoken: Spoken, parts: Sequence[str]) -> list[tuple[int, int]]:
    """Return start and end of each part of a chunk in milliseconds: a share of its time for its characters."""
    ends = [0.0, *accumulate(max(texts.seconds(part), 0.01) for part in parts)]
    start, length = spoken.start, spoken.end - spoken.start
    return list(pairwise(round(1000 * (start + length * end / (ends[-1] or 1))) for end in ends))


def _time(milliseconds: int, point: str) -> str:
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _shown(cue: Cue) -> str:
    return "\n".join(cue.lines).replace("-->", "->")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
