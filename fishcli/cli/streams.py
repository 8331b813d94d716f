"""The standard streams: a closed one becomes the null device, and no character is an error."""

from __future__ import annotations

import contextlib
import io
import os
import sys

_NAMES = ("stdin", "stdout", "stderr")
_closed: set[str] = set()


def prepare() -> None:
    """Make the standard streams usable. Call it first: a file opened later must not become a closed stdout."""
    _occupy_descriptors()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            _closed.add(name)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_closed(name: str) -> bool:
    """Return whether a standard stream was closed when the program started."""
    return name in _closed


def flush() -> None:
    """Write out what stdout holds. Raises OSError, and then leaves nothing that Python would report at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        discard()
        raise


def discard() -> None:
    """Send what stdout holds nowhere, since nobody can read it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _occupy_descriptors() -> None:
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < len(_NAMES):
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
