"""Where files live, and files that are whole or not there: written aside, synced, renamed when complete."""

import contextlib
import glob
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from fishcli.errors import FishError, InputError

_TEMPORARY = ".tmp"


def folder(kind: Literal["cache", "config", "data"]) -> Path:
    """The user's folder for caches, settings or models: `FISHCLI_CACHE_DIR` and so on, else the system's custom."""
    import platformdirs

    given = os.environ.get(f"FISHCLI_{kind.upper()}_DIR")
    return Path(given) if given else Path(getattr(platformdirs, f"user_{kind}_dir")("fishcli", appauthor=False))


@contextlib.contextmanager
def replacing(target: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a new temporary path beside `target`; it takes the target's place if the block succeeds.

    If the block raises, the temporary file is removed and `target` is left as it was. A target that is
    not a regular file (`/dev/null`, a named pipe) cannot be replaced and is yielded itself. What is not `durable`
    is not waited for until it has reached the disk: after a loss of power it may be damaged.
    """
    target = Path(os.path.realpath(target))  # through a link, so that the link stays one
    if target.exists() and not target.is_file():
        yield target
        return
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        yield temporary
        if durable:
            sync(temporary)
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
        if durable:
            sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def discard_leftovers(target: Path) -> None:
    """Remove what killed writers of `target` left beside it. Call it only while no other can be writing."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk. Windows cannot open a folder to sync it."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def next_free(path: Path, count: int = 1) -> list[Path]:
    """The first `count` of `out.wav`, `out-1.wav`, `out-2.wav`, ... that do not exist."""
    names = itertools.chain([path], (path.with_stem(f"{path.stem}-{i}") for i in itertools.count(1)))
    return list(itertools.islice((name for name in names if not name.exists()), count))


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. What is missing, a folder, or a pipe or device (not waited for) is an InputError."""
    try:
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the path of a file that can.") from error
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{str(path)!r} is not a possible name of a file; give another path.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path} is not a file but a pipe or a device; give the path of a file.")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a named pipe would wait for its writer


@contextlib.contextmanager
def naming_failures(name: Path | str) -> Iterator[None]:
    """A full disk, a missing folder and the like, as one FishError that names the output."""
    try:
        yield
    except BrokenPipeError:  # the reader has gone, as in `fish ... | head`: the caller ends quietly
        raise
    except OSError as error:
        raise FishError(f"{name} cannot be written ({error.strerror}); choose another place or make room.") from error
