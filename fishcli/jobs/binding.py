"""Put the lines of a job together when they are done: the chapters of a book, and subtitles.

The manifest keeps the names and digests of these files, and what they were made of, so that a run that changes nothing
does not make them again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fishcli
from fishcli.jobs import books, manifest, subtitles
from fishcli.jobs.books import BookSettings
from fishcli.jobs.identity import sha256_of
from fishcli.jobs.line import Job
from fishcli.jobs.manifest import Entry
from fishcli.jobs.output import Output


@dataclass(frozen=True)
class Bound:
    """The files put together, by their paths in the folder, and the titles of chapters that lack a line.

    `seconds` is the length of the sound, `gain` how much louder or quieter it was made, in dB; `fresh`: made just now.
    """

    files: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    seconds: float = 0.0
    gain: float = 0.0
    fresh: bool = False


def bind(job: Job, output: Output, settings: BookSettings) -> Bound:
    """Put the chapters of a book together, or write the subtitles of lines, unless they are there. Raises FishError."""
    entries = output.right()
    key, kept = _key(job, entries, settings), output.bound
    if kept.get("key") == key and manifest.are_intact(output.folder, kept.get("files")):
        bound = _kept(kept)
        if bound is not None:
            return bound
    bound = _chapters(job, output, entries, settings) if job.chapters else _subtitles(job, output, entries, settings)
    made = [_made(output.folder, name) for name in bound.files]
    asked = _digest(dataclasses.asdict(settings))
    if not bound.incomplete and kept.get("settings") == asked:  # other settings may be a second edition
        _remove_outdated(output.folder, kept.get("files"), bound.files)
    output.bound = {"key": key, "settings": asked, **dataclasses.asdict(bound), "files": made} if made else {}
    output.bound.pop("fresh", None)
    return bound


def _key(job: Job, entries: Mapping[str, Entry], settings: BookSettings) -> str:
    """Return a digest of all that the files are made of."""
    lines = [(each.id, each.chapter, each.heading, getattr(entries.get(each.id), "sha256", None)) for each in job.lines]
    titles = [each.title for each in job.chapters]
    made_of = [fishcli.__version__, dataclasses.asdict(settings), job.title, titles, lines]
    return _digest(made_of)


def _digest(made_of: object) -> str:
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _kept(kept: Mapping[str, Any]) -> Bound | None:
    """Return what the manifest says of files that are there; None where it says it wrong."""
    try:
        names = tuple(str(each["file"]) for each in kept["files"])
        return Bound(names, tuple(map(str, kept["incomplete"])), float(kept["seconds"]), float(kept["gain"]))
    except (KeyError, TypeError, ValueError):
        return None


def _chapters(job: Job, output: Output, entries: Mapping[str, Entry], settings: BookSettings) -> Bound:
    book = books.assemble(job, output.folder, entries, settings)
    paths = [path for each in book.files for path in each.paths]
    seconds = round(sum(each.seconds for each in book.files), 3)
    return Bound(_names(output.folder, paths), book.incomplete, seconds, round(book.gain, 3), True)


def _subtitles(job: Job, output: Output, entries: Mapping[str, Entry], settings: BookSettings) -> Bound:
    written = _names(output.folder, _written(job, output.folder, entries, settings))
    return Bound(written, fresh=bool(written))


def _written(job: Job, folder: Path, entries: Mapping[str, Entry], settings: BookSettings) -> Iterator[Path]:
    for line in job.lines if settings.subtitles else ():
        if (entry := entries.get(line.id)) is not None and entry.file is not None and entry.frames:
            spoken = subtitles.timed(entry.chunks, entry.seconds / entry.frames)
            yield from subtitles.write(manifest.place(folder, entry.file), spoken, settings.subtitles)


def _remove_outdated(folder: Path, kept: object, files: Iterable[str]) -> None:
    """Remove files of an earlier run whose titles the job does not have any more, unless they were changed since."""
    for each in kept if isinstance(kept, list) else ():
        if manifest.fault_of(folder, each) is None and each["file"] not in files:
            manifest.place(folder, each["file"]).unlink()


def _names(folder: Path, paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(folder).as_posix() for path in paths)


def _made(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return {"file": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
