"""Checks of the data and cache folders: free space, the converted copies of models, and the size of the cache."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from typing import Literal

from fishcli.doctor import cache
from fishcli.doctor.check import Check
from fishcli.doctor.install import usable
from fishcli.files import folder

_ROOM = 2_000_000_000  # bytes, for Fish Speech 1.5 or its converted copy


def checks(verify: bool) -> Iterator[Check]:
    """Check the free space, and the converted models in the cache."""
    yield _room("data", "models")
    yield _room("cache", "converted models")
    if verify and usable("torch"):
        from fishcli.checkpoints import convert

        for path in sorted((folder("cache") / "converted").glob("*.safetensors")):
            if not convert.verify(path):
                remedy = f"run `rm {shlex.quote(str(path))}`; the next start converts it again"
                yield Check("converted model", f"{path.name} is damaged", "fail", remedy)


def cached() -> Check:
    """Return the size of the cache, and the command that clears it."""
    size = sum(kind.bytes for kind in cache.contents())
    return Check(
        "cached files",
        f"{size / 1e6:,.0f} MB",
        remedy="`fish cache show` lists them, `fish cache clear` frees the space",
    )


def _room(kind: Literal["cache", "data"], content: str) -> Check:
    """Check whether a folder is writable and has space for a model."""
    path = folder(kind)
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    elsewhere = f"choose another folder with FISHCLI_{kind.upper()}_DIR"
    if not os.access(there, os.W_OK):
        return Check(kind, f"{path}, for {content}, is not writable", "warn", elsewhere)
    if free < _ROOM:
        return Check(kind, f"{free / 1e9:.1f} GB free in {path} for {content}", "warn", f"free space, or {elsewhere}")
    return Check(kind, f"{free / 1e9:,.0f} GB free in {path} for {content}")
