"""Ctrl-C: exit at once while nothing is written, and through every `finally` later."""

from __future__ import annotations

import os
import signal
from types import FrameType

from fishcli.cli import console

INTERRUPTED = 130


def leave_at_once() -> None:
    """Exit at once on Ctrl-C. While libraries load, an exception raised in an import could be swallowed."""
    signal.signal(signal.SIGINT, _leave)


def clean_up() -> None:
    """Raise KeyboardInterrupt on Ctrl-C. Call it before files are written."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    console.stderr.show_cursor()  # a spinner hides it
    os._exit(INTERRUPTED)
