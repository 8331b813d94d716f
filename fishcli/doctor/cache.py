"""List and clear the cache folder: all in it can be computed again. Downloaded models lie in the data folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from fishcli.errors import SettingError
from fishcli.files import folder

KINDS = {
    "converted": "checkpoints converted for this machine",
    "native": "code compiled for this processor",
    "compiled": "graphs compiled for a GPU",
    "voices": "keys and values of references",
    "recordings": "codes of recordings",
    "bench": "random checkpoints for benchmarks",
    "notes": "marks of notes that are shown once",
}
_HOUR = 3600  # seconds; a temporary file that is older was left by a process that was killed


@dataclass(frozen=True)
class Kind:
    """The files of one kind in the cache: what they are, how many, and their size in bytes."""

    name: str
    content: str
    path: Path
    files: int
    bytes: int


@dataclass(frozen=True)
class Cleared:
    """The files of one kind that were removed, and how many stay because another process writes them."""

    removed: Kind
    in_use: int


def contents() -> list[Kind]:
    """Return every kind with its files."""
    return [_kind(name, [status.st_size for _, status in _files(path)]) for name, path in _folders().items()]


def clear(names: Sequence[str] = ()) -> list[Cleared]:
    """Remove the files of the kinds `names`, by default of all. Raises SettingError for an unknown kind.

    Other processes may use the cache meanwhile: what they have open stays usable, what they miss they compute again,
    and what they are writing stays.
    """
    folders = _folders()
    for name in names:
        if name not in folders:
            raise SettingError(f"{name!r} is not a kind of cached files: {', '.join(folders)}.")
    return [_cleared(name) for name in folders if name in names or not names]


def _folders() -> dict[str, Path]:
    return {name: folder("cache") / name for name in KINDS}


def _kind(name: str, sizes: Sequence[int]) -> Kind:
    return Kind(name, KINDS[name], _folders()[name], len(sizes), sum(sizes))


def _files(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files below a folder with their status, but no lock: another process may hold it."""
    for root, _, names in os.walk(path):
        for name in sorted(names):
            file = Path(root, name)
            with contextlib.suppress(OSError):  # removed meanwhile
                status = file.lstat()
                if stat.S_ISREG(status.st_mode) and file.suffix != ".lock":
                    yield file, status


def _cleared(name: str) -> Cleared:
    sizes, in_use = [], 0
    for file, status in list(_files(_folders()[name])):
        if _is_being_written(file, status) or not _remove(file):
            in_use += 1
        else:
            sizes.append(status.st_size)
    for root, _, _ in os.walk(_folders()[name], topdown=False):
        with contextlib.suppress(OSError):  # not empty
            Path(root).rmdir()
    return Cleared(_kind(name, sizes), in_use)


def _is_being_written(file: Path, status: os.stat_result) -> bool:
    return file.name.startswith(".") and file.suffix == ".tmp" and time.time() - status.st_mtime < _HOUR


def _remove(file: Path) -> bool:
    """Remove a file, unless another process holds its lock. Return whether it is gone."""
    lock = next((each for each in file.parents if each.suffix == ".build"), file).with_suffix(".lock")
    try:
        with filelock.FileLock(lock, timeout=0) if lock.exists() else contextlib.nullcontext():
            file.unlink(missing_ok=True)
    except (OSError, filelock.Timeout):
        return False
    return True


def as_dict(kind: Kind) -> dict[str, object]:
    """Return the fields of a kind for JSON."""
    return dataclasses.asdict(kind) | {"path": str(kind.path)}
