"""Where the program starts and every error ends."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer

from fishcli.cli import console, signals
from fishcli.cli.app import app
from fishcli.errors import FishError

# Importing a command adds it to the app: this is the order of the help.
# isort: off
from fishcli.cli import say, generate, encode, decode, download, config, doctor, bench, completion  # noqa: F401
# isort: on


def main() -> None:
    """Run the command line; every way it can end is an exit code."""
    signals.leave_at_once()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    _wait_briefly()
    try:
        code = app(standalone_mode=False, prog_name="fish")
    except KeyboardInterrupt:
        code = signals.INTERRUPTED
    except Exception as error:
        code = _told(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, which is its right; Python must not complain of it at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code if isinstance(code, int) else 0)


def _wait_briefly() -> None:
    """Have OpenMP's threads, which spin while they wait for each other, go to sleep sooner than by default.

    Where another process has one of two cores, the full-size model runs 3 times as fast for it; alone, 0.98 times.
    torch reads it when it is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _told(error: BaseException) -> int:
    """Say what went wrong in one line -> the exit code."""
    if isinstance(error, BrokenPipeError):
        return 141  # as a program that SIGPIPE ended
    if console.manner.debug:
        console.stderr.print(traceback.format_exc(), markup=False)
    if isinstance(error, FishError):
        console.error(str(error))
        return error.exit_code
    if isinstance(error, typer.Abort):
        return signals.INTERRUPTED
    if isinstance(error, OSError):
        console.error(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        return 1
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error):  # torch's words
        console.error("There is not enough memory; use a shorter text or reference, or fewer samples.")
        return 1
    reason = str(error).split("\n", 1)[0]
    console.error(f"This is a fault of fishcli ({type(error).__name__}: {reason}); run it with --debug and report it.")
    return 1


def _usage(error: Any) -> int:
    """What the parser refuses; without any argument the help was shown, and there is no more to say."""
    # "Value error" is how the parser's library names what its caller raised.
    if message := error.format_message().rstrip(".").replace("Value error, ", ""):
        help_page = f" See `{error.ctx.command_path} -h`." if error.ctx else ""
        console.error(f"{message}{'' if message.endswith('?') else '.'}{help_page}")
    return int(error.exit_code)


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Leave through every `finally`, so that no partial file stays behind."""
    raise SystemExit(128 + number)
