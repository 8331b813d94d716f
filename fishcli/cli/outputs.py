"""The names of a command's outputs, and their checks before any work starts. `-` is stdout.

The rule: a name that was typed (`-o`), and a name on which the documentation's next step relies (codes_0.npy, the
NAME.npy of a recording, fake.npy), is replaced, and the latter is said. Audio without a name takes the next free one of
out.wav, out-1.wav, ..., also among parallel runs, when it is complete. The names take-1.wav, ... of the further samples
of `-o take.wav` replace nothing without --force.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from fishcli.cli import console, streams
from fishcli.cli.pipes import is_stream
from fishcli.errors import SettingError
from fishcli.files import NextFree, check_writable, is_special, numbered, report_write_errors, reserved, writing

Output: TypeAlias = Path | NextFree


def samples(typed: Path | None, default: Path, count: int, force: bool = False) -> list[Output]:
    """Return the outputs of `count` samples: the typed name and names derived from it, else the default series.

    Raises SettingError for a derived name that is taken, unless `force`.
    """
    if typed is None:
        return [*NextFree.choose(numbered(default), count)]
    derived = [numbered(typed)(number) for number in range(1, count)]
    if not force and (taken := next(filter(os.path.lexists, derived), None)):
        raise SettingError(f"{taken} exists; pass --force to replace it, or choose another -o.")
    return [typed, *derived]


def codes(folder: Path, count: int) -> list[Path]:
    """Return the outputs codes_0.npy, codes_1.npy, ..."""
    return [folder / f"codes_{number}.npy" for number in range(count)]


def codes_of(recording: Path, old_spelling: bool) -> Path:
    """Return the output for the codes of a recording: as the documentation expects it after `-i`, else of its name."""
    if old_spelling:
        return Path("fake.npy")
    return Path("stdin.npy" if is_stream(recording) else f"{recording.stem}.npy")


@contextlib.contextmanager
def replacing(derived: Sequence[Path]) -> Iterator[None]:
    """Hold derived names while their files are made, and say which of them are replaced.

    Raises FishError if another run is making a file of the same name.
    """
    with contextlib.ExitStack() as stack:
        for path in derived:
            with report_write_errors(path):
                stack.enter_context(reserved(path))
            if path.exists():
                console.note(f"{path} exists and will be replaced.")
        yield


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


def put(output: Output, data: bytes) -> None:
    """Write a result that is there as a whole. Raises FishError if it cannot be written."""
    with report_write_errors(str(output)):
        if str(output) == "-":
            sys.stdout.buffer.write(data)
            return
        with writing(output) as file:
            file.write(data)
