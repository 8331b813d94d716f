"""Check a finished job: its manifest, and every file that the manifest names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fishcli.errors import InputError
from fishcli.jobs import manifest
from fishcli.jobs.manifest import Entry, Records

# Seconds by which a file may be longer or shorter than its sound: lossy formats have blocks.
_SLACK = {".wav": 0.001, ".flac": 0.001}
_LOSSY = 0.15


@dataclass(frozen=True)
class Verified:
    """How many lines the manifests of a folder have, their seconds of sound, and what is wrong with them."""

    lines: int
    seconds: float
    problems: tuple[str, ...]


def verify(folder: Path) -> Verified:
    """Check the manifests of a folder and every file they name. Raises InputError if there is none to read."""
    names = manifest.names(folder)
    if not names:
        raise InputError(f"{folder} has no {manifest.NAME}, which every job leaves in its folder.")
    problems: list[str] = []
    entries: dict[str, Entry] = {}
    for name in names:
        records = manifest.read(folder / name)
        problems += _of_manifest(name, records)
        problems += _of_bound(folder, records.header.get("bound"))
        entries |= records.entries
    for entry in entries.values():
        problems += (f"line {entry.number} ({entry.id}): {reason}" for reason in _of_entry(folder, entry))
    return Verified(len(entries), sum(each.seconds for each in entries.values()), tuple(problems))


def _of_manifest(name: str, records: Records) -> Iterator[str]:
    for number, reason in records.damaged.items():
        yield f"{name}, line {number} is damaged: {reason}"
    if records.torn:
        yield f"{name} ends within a line, as a killed run leaves it"
    lines = records.header.get("lines")
    if type(lines) is not int:
        yield f"{name} has no line about the job"
    elif lines > len(records.entries):
        yield f"{name} has {len(records.entries):,} of the {lines:,} lines of the job; the others are not made yet"


def _of_bound(folder: Path, bound: object) -> Iterator[str]:
    """Yield what is wrong with the files that were put together from the lines."""
    made = bound.get("files", []) if isinstance(bound, Mapping) else []
    for each in made if isinstance(made, list) else []:
        if fault := manifest.fault_of(folder, each):
            yield fault


def _of_entry(folder: Path, entry: Entry) -> Iterator[str]:
    if entry.error is not None:
        yield f"it was not spoken: {entry.error}"
        return
    yield from _of_chunks(entry)
    if fault := manifest.fault_of(folder, entry.as_dict()):
        yield fault
    else:
        yield from _of_sound(manifest.place(folder, entry.file or ""), entry)


def _of_chunks(entry: Entry) -> Iterator[str]:
    for before, chunk in pairwise(entry.chunks):
        if chunk.start < before.start + before.frames:
            yield f"the chunk {chunk.text[:40]!r} starts before the one before it ends"


def _of_sound(path: Path, entry: Entry) -> Iterator[str]:
    import soundfile

    try:
        seconds = soundfile.info(str(path)).duration
    except (RuntimeError, OSError) as error:
        yield f"{entry.file} is no sound ({error})"
        return
    if abs(seconds - entry.seconds) > _SLACK.get(path.suffix, _LOSSY):
        yield f"{entry.file} lasts {seconds:.3f} s, and the manifest says {entry.seconds:.3f} s"
