"""Ctrl-C: at once while nothing is at stake, through every `finally` once something is."""

from __future__ import annotations

import os
import signal
from types import FrameType

from fishcli.cli import console

INTERRUPTED = 130


def leave_at_once() -> None:
    """While libraries load: an exception that is raised in the middle of an import can be lost in there."""
    signal.signal(signal.SIGINT, _leave)


def clean_up() -> None:
    """From now on files are being written: a Ctrl-C is a KeyboardInterrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    console.stderr.show_cursor()  # a spinner hides it
    os._exit(INTERRUPTED)
