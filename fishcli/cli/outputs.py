"""Where results go, checked before any work starts. `-` is stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from fishcli import audio
from fishcli.cli import console
from fishcli.errors import SettingError


def check(outputs: Sequence[Path], given: Iterable[Path | None] = ()) -> None:
    """Refuse to write over what is read or over another output, and to mix two results on stdout."""
    needed = {path.resolve() for path in given if path is not None and path.exists()}
    taken: set[Path] = set()
    for path in outputs:
        if path.resolve() in needed:
            raise SettingError(f"{path} would be written over what is read; give another output.")
        if path.resolve() in taken:
            raise SettingError(f"Two results would be called {path}; give them other names.")
        if str(path) == "-" and console.manner.json:
            raise SettingError("--json and -o - both want stdout; give -o FILE.")
        if str(path) == "-" and (sys.stdout is None or sys.stdout.isatty()):
            raise SettingError("-o - would send data to the terminal; add `> FILE`, or a pipe.")
        taken.add(path.resolve())


def check_sound(outputs: Sequence[Path], subtype: str | None = None) -> None:
    """Refuse a sound file of a kind that cannot be written; on stdout it is a WAV."""
    for path in outputs:
        audio.output_format(Path("stdout.wav") if str(path) == "-" else path, subtype)


def target(path: Path) -> Path | BinaryIO:
    """What to write to for an output."""
    return sys.stdout.buffer if str(path) == "-" else path
