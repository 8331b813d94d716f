"""Read a folder that strangers may have filled, and write one that only its owner can read.

Links are never followed and nothing but regular files is opened. Where the system can, files are opened relative to
the open folder, so that nobody can put a link in their place meanwhile.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

_RELATIVE = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _SAFE
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | _SAFE


class Folder:
    """An open folder, for a `with` block. Raises OSError for what is no folder, or a link to one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise NotADirectoryError(str(path))
        if _RELATIVE:
            self._descriptor = os.open(path, _FOLDER)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def files(self) -> dict[str, float]:
        """Return the names of the regular files, in order, and when each was changed (seconds since 1970)."""
        with os.scandir(self._path if self._descriptor is None else self._descriptor) as entries:
            found = [(each.name, each) for each in entries if each.is_file(follow_symlinks=False)]
            return {name: each.stat(follow_symlinks=False).st_mtime for name, each in sorted(found)}

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a regular file. Raises OSError for anything else, ValueError for over `limit` bytes."""
        if self._descriptor is None:
            if not stat.S_ISREG((self._path / name).lstat().st_mode):
                raise FileNotFoundError(name)
            descriptor = os.open(self._path / name, os.O_RDONLY | _SAFE)
        else:
            descriptor = os.open(name, os.O_RDONLY | _SAFE, dir_fd=self._descriptor)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError(name)
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"it is larger than {limit:,} bytes")
        return data


def folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, in order, without links and hidden ones; [] of none."""
    try:
        with os.scandir(path) as entries:
            return sorted(each.name for each in entries if each.name[0] != "." and each.is_dir(follow_symlinks=False))
    except OSError:
        return []


def write(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, and sync it. Raises FileExistsError, for a link too."""
    with open(os.open(path, _NEW, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
