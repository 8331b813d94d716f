"""The members of a ZIP that a stranger made: checked before one is read, and never written to the disk."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from fishcli import zips
from fishcli.errors import InputError

MAX_BYTES = 2**30  # of the file: pictures and fonts are large, and not read
MAX_MEMBERS = 20_000
MAX_MEMBER = 2**24  # bytes of a member that is read
MAX_READ = 2**26  # bytes of all members that are read
_MAX_RATIO = 200  # of a member to its place in the file, from 1 MiB; books have 2 to 10
_MAX_NAMES = 2**23  # bytes of the directory


class Archive:
    """An open ZIP. Raises InputError for a file that is none, damaged, too large, or has a member with an unsafe name.

    Names with `..`, absolute names, links, encrypted members, and two members of one name are refused, read or not.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._name, self._left = name, MAX_READ
        try:
            zips.check_directory(file, MAX_BYTES, MAX_MEMBERS, _MAX_NAMES)
            self._zip = zipfile.ZipFile(file)
            infos = self._zip.infolist()
        except zips.FAULTS as error:
            raise self._damaged(error) from error
        self.members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            self._check(info)
            self.members[info.filename] = info

    def read(self, member: str) -> bytes:
        """Return the bytes of a member. Raises InputError if it is missing, damaged, too large or packed as a bomb."""
        info = self.members.get(member)
        if info is None:
            raise InputError(f"{self._name} has no {member!r:.80}, which it names; get the book again.")
        limit = min(MAX_MEMBER, self._left, max(2**20, _MAX_RATIO * info.compress_size))
        try:
            with self._zip.open(info) as file:
                data = file.read(limit + 1)
        except zips.FAULTS as error:
            raise self._damaged(error) from error
        self._left -= len(data)
        if len(data) > limit:
            raise InputError(f"{self._name}: {member!r:.80} unpacks to far more than a book has; it is not read.")
        return data

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        parts = name.rstrip("/").split("/")
        bad = "\\" in name or "\0" in info.orig_filename or ":" in parts[0] or {"", ".", ".."} & {*parts}
        if bad or name in self.members or zips.is_link_or_device(info):
            raise InputError(f"{self._name} has a member that no book has, {name!r:.80}; it is not read.")
        if zips.is_encrypted(info):
            raise InputError(f"{self._name} is locked: {name!r:.80} is encrypted; use a copy without a lock (DRM).")

    def _damaged(self, error: Exception) -> InputError:
        reason = str(error).rstrip(".") or type(error).__name__
        return InputError(f"{self._name} is no EPUB, or damaged ({reason}); get the book again.")
