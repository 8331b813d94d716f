"""The manifest of a job's folder: what was made of each line, and whether its file is still that.

`manifest.jsonl` begins with a line about the job; each further line is an `Entry`. Entries are appended, synced, as
lines end, and an entry is written before its file gets its name; so a file that no entry names is not ours. At the end
the manifest is rewritten in the order of the job. Part 1 of 4 of a job has `manifest-1-of-4.jsonl`, until a run of the
whole job takes it up.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fishcli import files
from fishcli.errors import InputError
from fishcli.jobs.identity import sha256_of
from fishcli.jobs.line import SpokenChunk

NAME = "manifest.jsonl"
_MAX_LINE = 2**22  # bytes of an entry
_MAX_LINES = 2_000_000
_NAME = re.compile(r"manifest(-[0-9]{1,6}-of-[0-9]{1,6})?\.jsonl")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"(?!\.{1,2}\Z)[^/\\\0:]{1,255}")  # of a path; a colon is a drive or a stream on Windows

_NUMBERS = ("number", "bytes", "seed", "frames", "seconds", "retries")


@dataclass(frozen=True)
class Entry:
    """A line that was spoken, or why it was not (`error`).

    `file` is relative to the folder of the manifest, with / between names; `sha256` and `bytes` are the file's.
    `frames`, and the times of chunks, count frames of the codec; `retries` the further attempts at chunks.
    """

    id: str
    number: int
    address: str
    file: str | None = None
    sha256: str | None = None
    bytes: int = 0
    seed: int = 0
    frames: int = 0
    seconds: float = 0.0
    voice: str | None = None
    model: str | None = None
    check: str | None = None
    retries: int = 0
    chunks: tuple[SpokenChunk, ...] = ()
    error: str | None = None
    made_at: str | None = None

    def __post_init__(self) -> None:
        if self.file is not None:
            check_path(self.file)
        for name in ("address", "sha256"):
            if (digest := getattr(self, name)) is not None and not _DIGEST.fullmatch(digest):
                raise ValueError(f"{name} is no SHA-256")
        if (self.file is None) != (self.sha256 is None) or (self.file is None) == (self.error is None):
            raise ValueError("it has neither a file with its sha256 nor an error")
        if not all(0 <= getattr(self, name) < 2**63 for name in _NUMBERS):
            raise ValueError("a number is negative, or too large")
        if not all(0 <= each.start <= each.start + each.frames <= self.frames for each in self.chunks):
            raise ValueError("a chunk lies outside its line")

    @property
    def faults(self) -> list[SpokenChunk]:
        """The chunks that came out wrong."""
        return [each for each in self.chunks if each.fault]

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as JSON holds it, without the fields that are empty."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        fields["chunks"] = [_without_none(dataclasses.asdict(chunk)) for chunk in self.chunks]
        return _without_none(fields)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Entry:
        """Return the entry of a JSON object, whose unknown fields are passed over. Raises ValueError."""
        chunks = given.get("chunks", [])
        if not isinstance(chunks, list):
            raise ValueError("chunks is no list")
        known = _typed(cls, {name: value for name, value in given.items() if name != "chunks"})
        return cls(**known, chunks=tuple(SpokenChunk(**_typed(SpokenChunk, each)) for each in chunks))


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (float, int),
}


def _typed(kind: type, given: object) -> dict[str, Any]:
    """Return the fields of a JSON object that a dataclass has. Raises ValueError for a wrong type or a missing one."""
    if not isinstance(given, Mapping):
        raise ValueError("it is no JSON object")
    found = {}
    for each in dataclasses.fields(kind):
        if each.name in given:
            value, types = given[each.name], _TYPES[str(each.type)]
            if type(value) not in types:
                raise ValueError(f"{each.name} is {type(value).__name__}")
            found[each.name] = value
        elif each.name != "chunks" and each.default is dataclasses.MISSING:
            raise ValueError(f"{each.name} is missing")
    return found


def check_path(name: str) -> None:
    """Raise ValueError for a path that does not stay in its folder, on any system."""
    if not name or not all(map(_PART.fullmatch, name.split("/"))):
        raise ValueError(f"file is {name[:60]!r}, which is no path in the folder")


def place(folder: Path, name: str) -> Path:
    """Return the path of an entry's file. Raises ValueError if links lead out of the folder."""
    check_path(name)
    path = folder.joinpath(*PurePosixPath(name).parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"file is {name[:60]!r}, which links lead out of the folder")
    return path


def is_intact(folder: Path, entry: Entry, read: bool = True) -> bool:
    """Return whether the file of an entry is there with the bytes that were written; else as many, unless `read`."""
    if entry.file is None:
        return False
    if read:
        return fault_of(folder, entry.as_dict()) is None
    try:
        return place(folder, entry.file).stat().st_size == entry.bytes
    except (OSError, ValueError):
        return False


def are_intact(folder: Path, made: object) -> bool:
    """Return whether files of a folder, as a manifest lists them (file, bytes, sha256), are there unchanged."""
    return isinstance(made, list) and not any(fault_of(folder, each) for each in made)


def fault_of(folder: Path, made: object) -> str | None:
    """Return what is wrong with a file that a manifest lists by its name, its size and its digest; None: nothing."""
    if not isinstance(made, Mapping) or not isinstance(name := made.get("file"), str):
        return "a file has no name"
    try:
        path = place(folder, name)
        if path.is_symlink() or not path.is_file():
            return f"{name} is {'a link' if path.is_symlink() else 'missing'}"
        if path.stat().st_size == made.get("bytes") and sha256_of(path) == made.get("sha256"):
            return None
    except (OSError, ValueError, InputError) as error:
        return str(error)
    return f"{name} is not the file that was written"


@dataclass
class Records:
    """The contents of a manifest: the line about the job, the last entry of each id, and damaged lines by number.

    `torn`: its last line has no end, because a run was killed.
    """

    header: dict[str, Any]
    entries: dict[str, Entry]
    damaged: dict[int, str]
    torn: bool = False


def read(path: Path) -> Records:
    """Return the contents of a manifest; none where there is no file. Raises InputError if it cannot be read.

    A last line without its newline is one that a killed process did not finish, and no damage.
    """
    records = Records({}, {}, {})
    if not os.path.lexists(path):
        return records
    with files.open_regular(path) as file:
        for number in range(1, _MAX_LINES + 2):
            line = file.readline(_MAX_LINE + 1)
            if not line.endswith(b"\n") and len(line) <= _MAX_LINE:
                records.torn = bool(line)
                return records
            if number > _MAX_LINES or len(line) > _MAX_LINE:
                raise InputError(f"{path} has too many or too long lines to be a manifest; move it away.")
            _take(records, number, line)
    return records


def _take(records: Records, number: int, line: bytes) -> None:
    try:
        fields = json.loads(line)
        if isinstance(fields, dict) and "manifest" in fields:
            records.header = fields
            return
        entry = Entry.from_dict(fields if isinstance(fields, dict) else {})
        records.entries[entry.id] = entry
    except (ValueError, TypeError, RecursionError) as error:
        records.damaged[number] = str(error) or type(error).__name__


def name_of(part: tuple[int, int] | None) -> str:
    """Return the name of the manifest of a job, or of a part of one: its number and their count."""
    return NAME if part is None else f"manifest-{part[0]}-of-{part[1]}.jsonl"


def names(folder: Path) -> list[str]:
    """Return the names of the manifests in a folder; those of parts, which are newer, come last."""
    found = [each.name for each in folder.iterdir() if _NAME.fullmatch(each.name)] if folder.is_dir() else []
    return sorted(found, key=lambda name: (name != NAME, name))


def entries(folder: Path) -> dict[str, Entry]:
    """Return the last entry of each id in the manifests of a folder. Raises InputError if one cannot be read."""
    found: dict[str, Entry] = {}
    for name in names(folder):
        found |= read(folder / name).entries
    return found


class Manifest:
    """A manifest of a folder while a job runs, and the entries of all others there. It has one writer at a time.

    `damaged` are the numbers of damaged lines by the manifest's name. Raises InputError if one cannot be read.
    """

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self.path = folder / name
        self.entries: dict[str, Entry] = {}  # the last one of each id
        self.damaged: dict[str, int] = {}
        self.header: dict[str, Any] = {}
        self._others = [each for each in names(folder) if each != name]
        for each in [*self._others, name] if name != NAME else [name, *self._others]:
            records = read(folder / each)
            self.entries |= records.entries
            if each == name:
                self.header = records.header
            if records.damaged:
                self.damaged[each] = len(records.damaged)
        self._journal: BinaryIO | None = None

    def begin(self, header: Mapping[str, Any], ids: Iterable[str]) -> None:
        """Write the line about the job and the entries so far of these ids, and open the journal behind them.

        The manifest of a whole job takes the place of those of its parts.
        """
        self.header = {"manifest": 1, **header}
        self._write(ids)
        if self.path.name == NAME:
            for each in self._others:
                self.path.with_name(each).unlink(missing_ok=True)
        self._journal = self.path.open("ab")

    def append(self, entry: Entry) -> None:
        """Add an entry, synced to the disk."""
        if self._journal is None:
            raise RuntimeError("begin() comes before append()")
        self._journal.write(_line(entry.as_dict()))
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self.entries[entry.id] = entry

    def finish(self, ids: Iterable[str]) -> None:
        """Rewrite the manifest: the entries of these ids, in this order."""
        self.close()
        self._write(ids)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _write(self, ids: Iterable[str]) -> None:
        with files.writing(self.path) as file:
            file.write(_line(self.header))
            file.writelines(_line(self.entries[id].as_dict()) for id in ids if id in self.entries)


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"
