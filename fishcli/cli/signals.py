"""Signals: Ctrl-C exits at once while nothing is written, and through every `finally` later.

This module imports nothing heavy, because it runs before anything else does.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # without `typing`, which takes longer than all else here
if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130
_CLEAR_LINE = b"\r\x1b[2K\x1b[?25h"  # and show the cursor, which a spinner hides

_unsaved = True


def leave_at_once() -> None:
    """Exit at once on Ctrl-C. While libraries load, an exception raised in an import could be swallowed."""
    signal.signal(signal.SIGINT, _leave)


def clean_up(saves: bool = False) -> None:
    """Raise KeyboardInterrupt on Ctrl-C. Call it before files are written; `saves`: whether they are results."""
    global _unsaved
    _unsaved = saves
    signal.signal(signal.SIGINT, signal.default_int_handler)


def saved() -> None:
    """Remember that a result has been saved."""
    global _unsaved
    _unsaved = False


def interruption() -> str:
    """Return the message for a Ctrl-C."""
    return "Interrupted; nothing was saved." if _unsaved else "Interrupted."


def _leave(_signal: int, _frame: FrameType | None) -> None:
    # Without Python's streams: the signal may have come while one of them was in use.
    try:
        os.write(2, (_CLEAR_LINE if _may_spin() else b"") + f"{interruption()}\n".encode())
    finally:  # also where stderr is closed
        os._exit(INTERRUPTED)


def _may_spin() -> bool:
    """Return whether a spinner may be on the terminal."""
    console = sys.modules.get("fishcli.cli.console")
    try:
        return console is not None and bool(console.is_live())
    except AttributeError:  # it is being imported
        return False
