"""Checks of the data and cache folders: free space, and the converted copies of models."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from typing import Literal

from fishcli.doctor.check import Check
from fishcli.doctor.install import usable
from fishcli.files import folder

_ROOM = 2_000_000_000  # bytes, for Fish Speech 1.5 or its converted copy


def checks(verify: bool) -> Iterator[Check]:
    """Check the free space, and the converted models in the cache."""
    yield _room("data", "models")
    yield _room("cache", "converted models")
    converted = sorted((folder("cache") / "converted").glob("*.safetensors"))
    size = sum(path.stat().st_size for path in converted)
    yield Check("cache", f"{len(converted)} converted files, {size / 1e6:,.0f} MB")
    if verify and usable("torch"):
        from fishcli.checkpoints import convert

        for path in converted:
            if not convert.verify(path):
                remedy = f"run `rm {shlex.quote(str(path))}`; the next start converts it again"
                yield Check("cache", f"{path.name} is damaged", "fail", remedy)


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
