"""The folders of the package, and atomic writes: to a temporary file, synced, then renamed over the target."""

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
    """Return the user's folder for caches, settings or models: `FISHCLI_CACHE_DIR` etc., or the system's default."""
    import platformdirs

    given = os.environ.get(f"FISHCLI_{kind.upper()}_DIR")
    return Path(given) if given else Path(getattr(platformdirs, f"user_{kind}_dir")("fishcli", appauthor=False))


@contextlib.contextmanager
def replacing(target: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a new temporary path beside `target`, and rename it to `target` if the block succeeds.

    If the block raises, the temporary file is removed and `target` is unchanged. A target that is not a regular file
    (`/dev/null`, a named pipe) cannot be replaced and is yielded itself. Without `durable` the file is not synced to
    the disk, and may be damaged after a power failure.
    """
    target = Path(os.path.realpath(target))  # a link stays a link
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
    """Remove the temporary files of killed writers of `target`. Call it only while nobody else can be writing."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk. On Windows, where a folder cannot be opened, do nothing for one."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def next_free(path: Path, count: int = 1) -> list[Path]:
    """Return the first `count` of `out.wav`, `out-1.wav`, `out-2.wav`, ... that do not exist."""
    names = itertools.chain([path], (path.with_stem(f"{path.stem}-{i}") for i in itertools.count(1)))
    return list(itertools.islice((name for name in names if not name.exists()), count))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises InputError, at once even for a named pipe without a writer."""
    try:
        file = open(path, "rb", opener=_open_nonblocking)  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{str(path)!r} is not a valid file name.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path} is not a regular file but a pipe or a device.")
    return file


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else a named pipe waits for its writer


@contextlib.contextmanager
def report_write_errors(name: Path | str) -> Iterator[None]:
    """Turn an OSError, such as a full disk or a missing folder, into a FishError that names the output."""
    try:
        yield
    except BrokenPipeError:  # the reader has closed the pipe, as in `fish ... | head`: not an error
        raise
    except OSError as error:
        raise FishError(f"{name} cannot be written ({error.strerror}); use another path or free space.") from error
