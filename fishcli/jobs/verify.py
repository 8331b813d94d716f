"""Check a finished job: its manifest, and every file that the manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fishcli.errors import InputError
from fishcli.jobs import manifest
from fishcli.jobs.identity import sha256_of
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


def _of_entry(folder: Path, entry: Entry) -> Iterator[str]:
    if entry.error is not None:
        yield f"it was not spoken: {entry.error}"
        return
    yield from _of_chunks(entry)
    try:
        path = manifest.place(folder, entry.file or "")
        if path.is_symlink():
            yield f"{entry.file} is a link"
        elif not path.exists():
            yield f"{entry.file} is missing"
        elif path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            yield f"{entry.file} is not the file that was written"
        else:
            yield from _of_sound(path, entry)
    except (OSError, ValueError, InputError) as error:
        yield str(error)


def _of_chunks(entry: Entry) -> Iterator[str]:
    end = 0
    for chunk in entry.chunks:
        if chunk.start < end or chunk.frames < 0:
            yield f"the chunk {chunk.text[:40]!r} starts before the one before it ends"
        end = chunk.start + chunk.frames
    if end > entry.frames:
        yield f"its chunks end at frame {end:,}, and it has {entry.frames:,}"


def _of_sound(path: Path, entry: Entry) -> Iterator[str]:
    import soundfile

    try:
        seconds = soundfile.info(str(path)).duration
    except (RuntimeError, OSError) as error:
        yield f"{entry.file} is no sound ({error})"
        return
    if abs(seconds - entry.seconds) > _SLACK.get(path.suffix, _LOSSY):
        yield f"{entry.file} lasts {seconds:.3f} s, and the manifest says {entry.seconds:.3f} s"
