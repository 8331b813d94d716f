"""Check the outputs of a command before any work starts. `-` is stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from fishcli import audio
from fishcli.cli import console
from fishcli.errors import SettingError


def check(outputs: Sequence[Path], given: Iterable[Path | None] = ()) -> None:
    """Raise SettingError for an output that is also an input or another output, and for two results on stdout."""
    needed = {path.resolve() for path in given if path is not None and path.exists()}
    taken: set[Path] = set()
    for path in outputs:
        if path.resolve() in needed:
            raise SettingError(f"{path} is an input; choose another output.")
        if path.resolve() in taken:
            raise SettingError(f"Two results would be written to {path}; rename an input.")
        if str(path) == "-" and console.flags.json:
            raise SettingError("--json and -o - both write to stdout; pass -o FILE.")
        if str(path) == "-" and (sys.stdout is None or sys.stdout.isatty()):
            raise SettingError("-o - would write binary data to the terminal; redirect stdout to a file or a pipe.")
        taken.add(path.resolve())


def check_sound(outputs: Sequence[Path], subtype: str | None = None) -> None:
    """Raise SettingError for an audio format or subtype that cannot be written. On stdout the format is WAV."""
    for path in outputs:
        audio.output_format(Path("stdout.wav") if str(path) == "-" else path, subtype)


def check_codes(outputs: Sequence[Path]) -> None:
    """Raise SettingError for a codes file whose name does not end in .npy, unless it is a device or a pipe."""
    for path in outputs:
        if str(path) != "-" and path.suffix.lower() != ".npy" and not (path.exists() and not path.is_file()):
            raise SettingError(f"{path} does not end in .npy, as codes files do; choose another output.")


def target(path: Path) -> Path | BinaryIO:
    """Return the path to write to, or the stream of stdout."""
    return sys.stdout.buffer if str(path) == "-" else path
