"""Whether others could have written a library that is about to be loaded into this process, and so run in it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_private(folder: Path) -> None:
    """Make a folder that only this user can write, and the missing ones above it, whatever the umask. Raises OSError.

    One of this user that others could write is emptied first.
    """
    if folder.is_dir() and not folder.is_symlink():
        status = folder.lstat()
        if status.st_uid == os.geteuid() and status.st_mode & _OTHERS:
            shutil.rmtree(folder)
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def is_private(folder: Path) -> bool:
    """Make a folder as `make_private` does; return whether nobody else can change its files."""
    try:
        make_private(folder)
        return why_not_folder(folder) is None
    except OSError:
        return False


def why_not_folder(folder: Path) -> str | None:
    """Return why others can change the files of a folder, as a sentence without its stop; None where nobody can.

    They may write to its parent only where they cannot rename our folder there (the sticky bit). Raises OSError.
    """
    for each in (folder, folder.parent):
        status = each.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return f"{each} is not a folder"
        if reason := _why_not(each, status, sticky=each != folder):
            return reason
    return None


def why_not_file(path: Path) -> str | None:
    """Return why others may have written a file, as `why_not_folder` does. Raises OSError."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a file"
    return _why_not(path, status)


def _why_not(path: Path, status: os.stat_result, sticky: bool = False) -> str | None:
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user"
    if status.st_mode & _OTHERS and not (sticky and status.st_mode & stat.S_ISVTX):
        return f"other users can write to {path}"
    return None
