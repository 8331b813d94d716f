"""The folders of the package, and atomic writes: to a temporary file, synced, then renamed.

A name that the caller gives is replaced (`replacing`, or `writing` to a Path). A name that the program makes up never
replaces a file (`writing` to a NextFree).
"""

import contextlib
import errno
import itertools
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from fishcli.errors import FishError, InputError

_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_LONGEST_NAME = 255  # bytes
_TEMPORARY = re.compile(r"\..*\.fishcli-[0-9a-f]{8}\.tmp", re.DOTALL)
_MOST_LINKS = 40  # as in Linux


def folder(kind: Literal["cache", "config", "data"]) -> Path:
    """Return the user's folder for caches, settings or models: `FISHCLI_CACHE_DIR` etc., or the system's default."""
    import platformdirs

    given = os.environ.get(f"FISHCLI_{kind.upper()}_DIR")
    return Path(given) if given else Path(getattr(platformdirs, f"user_{kind}_dir")("fishcli", appauthor=False))


@dataclass
class NextFree:
    """A new file, which gets the first free name of a series when it is complete: out.wav, out-1.wav, ...

    No file is replaced, and parallel runs never get the same name. `path` is the name that was free when it was
    chosen, and after `writing` the name of the file.
    """

    name: Callable[[int], Path]  # the series
    number: int

    @property
    def path(self) -> Path:
        return self.name(self.number)

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def choose(cls, name: Callable[[int], Path], count: int = 1, start: int = 0) -> list["NextFree"]:
        """Return the first `count` numbers from `start` whose names are free now."""
        free = (number for number in itertools.count(start) if not os.path.lexists(name(number)))
        return [cls(name, number) for number in itertools.islice(free, count)]

    def take(self, temporary: Path) -> None:
        """Rename a complete file to the first free name."""
        while True:
            try:
                os.close(os.open(self.path, _NEW, 0o666))  # claims the name, on any file system
            except FileExistsError:
                self.number += 1
                continue
            try:
                return os.replace(temporary, self.path)
            except BaseException:
                self.path.unlink()
                raise


def numbered(path: Path) -> Callable[[int], Path]:
    """Return the series out.wav, out-1.wav, out-2.wav, ... of out.wav."""
    return lambda number: path.with_stem(f"{path.stem}-{number}") if number else path


@contextlib.contextmanager
def replacing(target: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a new temporary path beside `target`, and rename it to `target` if the block succeeds.

    If the block raises, the temporary file is removed and `target` is unchanged. A target that is not a regular file
    (`/dev/null`, a named pipe) cannot be replaced and is yielded itself. Without `durable` the file is not synced to
    the disk, and may be damaged after a power failure.
    """
    if is_special(target):
        yield target
        return
    target = _destination(target)
    with _temporary(target) as (temporary, file):
        file.close()
        yield temporary
        if durable:
            sync(temporary)
        _rename(temporary, target)
        if durable:
            sync(target.parent)


@contextlib.contextmanager
def writing(target: Path | NextFree) -> Iterator[BinaryIO]:
    """Yield a new file for a result of the user's. It gets its name, synced, if the block succeeds.

    While the process lives its temporary file is locked: one that a killed process has left in the folder is removed.
    """
    if isinstance(target, Path):
        if is_special(target):
            with target.open("wb") as special:
                yield special
            return
        target = _destination(target)
    path = target if isinstance(target, Path) else target.path
    _remove_abandoned(path.parent)
    with _temporary(path, locked=True) as (temporary, file):
        yield file
        file.flush()
        os.fsync(file.fileno())
        if os.name == "nt":  # where an open file cannot be renamed
            file.close()
        if isinstance(target, Path):
            _rename(temporary, target)
        else:
            target.take(temporary)
        sync(path.parent)


@contextlib.contextmanager
def reserved(path: Path) -> Iterator[None]:
    """Hold the name of a file that is being made. Raises FishError if another run holds it."""
    path = _destination(path)
    _remove_abandoned(path.parent)
    with _temporary(path, locked=True) as (own, _):
        start = f".{_shortened(path.name)}.fishcli-"
        if any(each.name.startswith(start) and each.name != own.name for each in path.parent.iterdir()):
            raise FishError(f"Another run is making {path}; wait for it, or work in another folder.")
        yield


def is_special(path: Path) -> bool:
    """Return whether a path is a device or a pipe, which is written to and not replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _destination(target: Path) -> Path:
    """Return the file that a path leads to: a link that is written to stays a link.

    Raises PermissionError for a stranger's link in a folder like /tmp, as systems do that protect their users from it.
    """
    for _ in range(_MOST_LINKS):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        if not target.is_symlink():
            return target
        place, link = target.parent.stat(), target.lstat()
        shared = place.st_mode & stat.S_ISVTX and place.st_mode & stat.S_IWOTH
        if shared and link.st_uid not in (os.geteuid(), place.st_uid):
            raise PermissionError(errno.EACCES, "it is another user's link in a shared folder", str(target))
        target = target.parent / target.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))


@contextlib.contextmanager
def _temporary(target: Path, locked: bool = False) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield a new file beside `target`, with its mode, open for writing. It is removed unless it was renamed."""
    path, descriptor = _create(target)
    while locked and not _lock(descriptor, wait=True):  # another run took it for one of a killed process
        os.close(descriptor)
        path, descriptor = _create(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _create(target: Path) -> tuple[Path, int]:
    path = target.with_name(f".{_shortened(target.name)}.fishcli-{os.urandom(4).hex()}.tmp")
    mode = _mode(target)
    descriptor = os.open(path, _NEW, 0o666 if mode is None else 0o600)
    if mode is not None:
        _set_mode(path, mode | stat.S_IWUSR)
    return path, descriptor


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        return None


def _rename(temporary: Path, target: Path) -> None:
    if (mode := _mode(target)) is not None:
        _set_mode(temporary, mode)
    os.replace(temporary, target)


def _set_mode(path: Path, mode: int) -> None:
    with contextlib.suppress(PermissionError):  # of a file system without modes
        path.chmod(mode)


def _shortened(name: str) -> str:
    """Return the start of a name, such that the name of its temporary file is not too long."""
    room = _LONGEST_NAME - len("..fishcli-01234567.tmp")
    return os.fsencode(name)[:room].decode(errors="ignore") if len(os.fsencode(name)) > room else name


def _lock(descriptor: int, wait: bool) -> bool:
    """Lock an open file for this process. Return False if another process has locked or removed it.

    The system frees the lock of a killed process. With `wait`, a file system without locks is no obstacle.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return wait
    return os.fstat(descriptor).st_nlink > 0


def _remove_abandoned(folder: Path) -> None:
    """Remove our temporary files in a folder whose writers are gone."""
    with contextlib.suppress(OSError):  # a folder that cannot be read
        for path in [each for each in folder.iterdir() if _TEMPORARY.fullmatch(each.name)]:
            with contextlib.suppress(OSError):
                _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    if os.name == "nt":
        return path.unlink()  # refused while it is open
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor, wait=False):
            path.unlink()
    finally:
        os.close(descriptor)


def discard_leftovers(target: Path) -> None:
    """Remove the temporary files of killed writers of `target`. Call it only while nobody else can be writing."""
    start = f".{_shortened(target.name)}."
    for path in target.parent.iterdir():
        if path.name.startswith(start) and path.name.endswith(".tmp"):
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk. For a folder it is an attempt: network shares and Windows may refuse it."""
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(target: Path) -> None:
    """Raise OSError if a file cannot be made or replaced here. Call it before long work whose result it holds."""
    if is_special(target):
        return
    folder = _destination(target).parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {folder} does not exist", str(target))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))


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
        remedy = "free space" if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)) else "use another path"
        raise FishError(f"{name} cannot be written ({error.strerror}); {remedy}.") from error
