"""The entry point: run the command line, and turn every error into one line and an exit code."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer

from fishcli.cli import console, hints, mistakes, signals
from fishcli.cli.app import app
from fishcli.errors import FishError

# Importing a command adds it to the app, in the order of the help.
# isort: off
from fishcli.cli import say, generate, encode, decode, download, config, doctor, bench, completion  # noqa: F401
# isort: on


def main() -> None:
    """Run the command line and exit with its code."""
    signals.leave_at_once()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    _shorten_openmp_spinning()
    # For errors that the parser finds before it reads the option.
    console.flags.json = "--json" in itertools.takewhile("--".__ne__, sys.argv[1:])
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
    """Print an error on one line, with --json as JSON too, and return the exit code."""
    if isinstance(error, BrokenPipeError):
        return 141  # as after SIGPIPE
    if console.flags.debug:
        console.stderr.print(traceback.format_exc(), markup=False)
    if isinstance(error, typer.Abort):
        return signals.INTERRUPTED
    message, kind, code = _described(error)
    console.error(message)
    console.result({"error": message, "code": kind, "exit": code})
    return code


def _described(error: BaseException) -> tuple[str, str, int]:
    """Return the message, the kind and the exit code of an error."""
    if isinstance(error, FishError):
        return hints.message(error), _snake_case(type(error).__name__), error.exit_code
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", "os_error", 1
    if isinstance(error, typer.TyperException):
        return _usage(error), "usage_error", int(error.exit_code)
    if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error):  # torch's messages
        return "Out of memory; use a shorter text or reference, or fewer samples.", "out_of_memory", 1
    reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return f"Internal error ({reason}). Run again with --debug and report it.", "internal_error", 1


def _usage(error: Any) -> str:
    """Return the message of a usage error, with the help page to read unless it names a command to type."""
    message = mistakes.wrong_value(error) or error.format_message().replace("Value error, ", "")
    message = message if message.endswith(("?", ".")) else f"{message}."
    return message if error.ctx is None or "`" in message else f"{message} See `{error.ctx.command_path} -h`."


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Exit through every `finally`, so that no partial file remains."""
    raise SystemExit(128 + number)
