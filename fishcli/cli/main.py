"""The entry point: run the command line, and turn every error into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer

from fishcli.cli import console, hints, signals
from fishcli.cli.app import app
from fishcli.errors import FishError

# Importing a command adds it to the app, in the order of the help.
# isort: off
from fishcli.cli import say, generate, encode, decode, download, config, cache, doctor, bench, completion  # noqa: F401
# isort: on


def main() -> None:
    """Run the command line and exit with its code."""
    signals.leave_at_once()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    _shorten_openmp_spinning()
    try:
        code = app(standalone_mode=False, prog_name="fish")
    except KeyboardInterrupt:
        code = signals.INTERRUPTED
    except Exception as error:
        code = _report(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, which is no error. Without this, Python prints one when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code if isinstance(code, int) else 0)


def _shorten_openmp_spinning() -> None:
    """Shorten the time that OpenMP threads spin before they sleep. Call it before torch is imported.

    With another process on one of two cores, the full-size model is 3 times as fast with it; alone, 0.98 times.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _report(error: BaseException) -> int:
    """Print an error on one line, and return the exit code."""
    if isinstance(error, BrokenPipeError):
        return 141  # as after SIGPIPE
    if console.flags.debug:
        console.stderr.print(traceback.format_exc(), markup=False)
    if isinstance(error, FishError):
        console.error(hints.message(error))
        return error.exit_code
    if isinstance(error, typer.Abort):
        return signals.INTERRUPTED
    if isinstance(error, OSError):
        console.error(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        return 1
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error):  # torch's messages
        console.error("Out of memory; use a shorter text or reference, or fewer samples.")
        return 1
    reason = str(error).split("\n", 1)[0]
    console.error(f"Internal error ({type(error).__name__}: {reason}). Run again with --debug and report it.")
    return 1


def _usage(error: Any) -> int:
    """Print a usage error, and return the exit code. Without arguments the message is empty: the help was shown."""
    # The parser prefixes messages of ValueError with "Value error".
    if message := error.format_message().rstrip(".").replace("Value error, ", ""):
        help_page = f" See `{error.ctx.command_path} -h`." if error.ctx else ""
        console.error(f"{message}{'' if message.endswith('?') else '.'}{help_page}")
    return int(error.exit_code)


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Exit through every `finally`, so that no partial file remains."""
    raise SystemExit(128 + number)
