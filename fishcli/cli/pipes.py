"""Inputs that are no regular files: stdin as `-` or /dev/stdin, named pipes, and `<(command)`."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fishcli.errors import InputError

_BLOCK = 2**20  # bytes
_PATIENCE = 5.0  # seconds until somebody opens a named pipe for writing


class Input(NamedTuple):
    """A regular file to read, and the name of the input in messages."""

    path: Path
    name: str


@contextlib.contextmanager
def readable(path: Path, limit: int) -> Iterator[Input]:
    """Yield an input as a file: `path` itself, or a copy of at most `limit` + 1 bytes of stdin or of a pipe.

    Raises InputError for a named pipe that nobody writes to.
    """
    name = "stdin" if str(path) == "-" else str(path)
    if not is_stream(path):
        yield Input(path, name)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "input"
        with copy.open("wb") as file:
            for block in _stdin() if str(path) == "-" else _pipe(path):
                file.write(block[: limit + 1 - file.tell()])
                if file.tell() > limit:
                    break
        yield Input(copy, name)


def is_stream(path: Path) -> bool:
    """Return whether an input can be read only once: `-`, a pipe or a device such as a terminal."""
    if str(path) == "-":
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # opening it raises the error that says why
        return False
    return (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)) and hasattr(select, "poll")


def _stdin() -> Iterator[bytes]:
    if sys.stdin is None:
        raise InputError("There is no stdin; pass a file.")
    # As it comes: `read` would ask a terminal for a second Ctrl-D.
    return iter(lambda: sys.stdin.buffer.read1(_BLOCK), b"")  # type: ignore[union-attr]


def _pipe(path: Path) -> Iterator[bytes]:
    """Yield what is written to a pipe. Opened for blocking reads, one without a writer would be waited for for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        yield from _blocks(descriptor, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    finally:
        os.close(descriptor)


def _blocks(descriptor: int, path: Path) -> Iterator[bytes]:
    deadline: float | None = time.monotonic() + _PATIENCE
    events = select.poll()
    events.register(descriptor, select.POLLIN)
    while True:
        ready = events.poll(100)  # milliseconds; an end of the data is an event only where there was a writer
        try:
            block = os.read(descriptor, _BLOCK)
        except BlockingIOError:  # there is a writer, which takes its time
            deadline = None
            continue
        if block:
            deadline = None
            yield block
        elif ready or deadline is None:
            return
        elif time.monotonic() > deadline:
            raise InputError(f"Nobody writes to the pipe {path}; start the program that does, or pass a file.")
