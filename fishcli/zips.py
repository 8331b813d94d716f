"""The checks of a ZIP that a stranger made, before `zipfile` reads it."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from typing import BinaryIO

# What `zipfile` raises for damaged files.
FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    OSError,
    OverflowError,
    RuntimeError,  # NotImplementedError too
    ValueError,
)
_END = struct.Struct("<4s4x2H2LH")  # the end of the directory: entries, its size and place, length of a comment
_TAIL = 2**16 + _END.size  # bytes in which it lies
_ZIP64 = b"PK\6\7"


def check_directory(file: BinaryIO, max_bytes: int, max_members: int, max_names: int) -> None:
    """Check the end of a ZIP before `zipfile` makes an object for each of what may be millions of entries.

    The limits are bytes of the file, members, and bytes of the directory. Raises ValueError.
    """
    size = file.seek(0, 2)
    if size > max_bytes:
        raise ValueError(f"it has over {max_bytes // 2**20:,} MiB")
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":  # as zipfile finds it
        at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + _END.size:
        raise ValueError("it is no ZIP, or cut off")
    _, _, entries, names, _, _ = _END.unpack(tail[at : at + _END.size])
    if entries > max_members or names > max_names or tail[:at][-20:].startswith(_ZIP64):
        raise ValueError("it has too many members")


def is_link_or_device(info: zipfile.ZipInfo) -> bool:
    """Return whether a member is neither a file nor a folder."""
    return stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)


def is_encrypted(info: zipfile.ZipInfo) -> bool:
    """Return whether a member needs a password."""
    return bool(info.flag_bits & 1)
