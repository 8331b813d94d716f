"""The names of a command's outputs, and their checks before any work starts. `-` is stdout.

One rule: a name that the user typed is replaced; a name that the program makes up is the next free one of its series,
also among parallel runs: out.wav, out-1.wav; codes_0.npy, codes_1.npy; paimon.npy, paimon-1.npy; and take-1.wav,
take-2.wav, ... for the further samples of `-o take.wav`. It is taken when the file is complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from fishcli.cli import console, streams
from fishcli.errors import SettingError
from fishcli.files import NextFree, check_writable, is_special, numbered, report_write_errors

Output: TypeAlias = Path | NextFree


def samples(typed: Path | None, default: Path, count: int) -> list[Output]:
    """Return the outputs of `count` samples: the typed name and its next free siblings, else the default series."""
    if typed is None:
        return [*NextFree.choose(numbered(default), count)]
    return [typed, *(NextFree.choose(numbered(typed), count - 1, start=1) if count > 1 else [])]


def codes(folder: Path, count: int) -> list[NextFree]:
    """Return the outputs codes_0.npy, codes_1.npy, ...: the next free numbers."""
    return NextFree.choose(lambda number: folder / f"codes_{number}.npy", count)


def codes_of(recording: Path) -> NextFree:
    """Return the output for the codes of a recording: paimon.npy in the working folder, else paimon-1.npy, ..."""
    name = "stdin.npy" if str(recording) == "-" else f"{recording.stem}.npy"
    [output] = NextFree.choose(numbered(Path(name)))
    return output


def paths(outputs: Iterable[Output]) -> list[Path]:
    """Return the names of outputs: after writing, those that the files have got."""
    return [output.path if isinstance(output, NextFree) else output for output in outputs]


def check(outputs: Sequence[Output], given: Iterable[Path | None] = ()) -> None:
    """Raise SettingError for an output that is also an input or another output, and for two results on stdout."""
    needed = {os.path.realpath(path) for path in given if path is not None and path.exists()}
    taken: set[str] = set()
    for path in paths(outputs):
        place = os.path.realpath(path)
        if place in needed and not is_special(path):
            raise SettingError(f"{path} is an input; choose another output.")
        if place in taken and not is_special(path):
            raise SettingError(f"Two results would be written to {path}; rename an input.")
        if str(path) == "-":
            _check_stdout()
        taken.add(place)


def _check_stdout() -> None:
    if console.flags.json:
        raise SettingError("--json and -o - both write to stdout; pass -o FILE.")
    if streams.is_closed("stdout"):
        raise SettingError("-o - writes to stdout, which is closed; redirect it to a file or a pipe, or pass -o FILE.")
    if sys.stdout.isatty():
        raise SettingError("-o - would write binary data to the terminal; redirect stdout to a file or a pipe.")


def check_writable_all(outputs: Sequence[Output]) -> None:
    """Raise FishError for an output in a folder that is not there or cannot be written, before the model is loaded."""
    for path in paths(outputs):
        if str(path) != "-":
            with report_write_errors(path):
                check_writable(path)


def check_sound(outputs: Sequence[Output], subtype: str | None = None) -> None:
    """Raise SettingError for an audio format or subtype that cannot be written. On stdout the format is WAV."""
    from fishcli import audio

    for path in paths(outputs):
        audio.output_format(Path("stdout.wav") if str(path) == "-" else path, subtype)


def check_codes(outputs: Sequence[Output]) -> None:
    """Raise SettingError for a codes file whose name has another ending than .npy."""
    for path in paths(outputs):
        if path.suffix.lower() != ".npy" and str(path) != "-" and not is_special(path):
            raise SettingError(f"{path} does not end in .npy, as codes do; choose another name.")


def target(output: Output) -> Output | BinaryIO:
    """Return the file to write to, or the stream of stdout."""
    return sys.stdout.buffer if str(output) == "-" else output
