"""The entry point: run the command line, and turn every error into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer

from fishcli.cli import console, hints, signals, streams
from fishcli.cli.app import app
from fishcli.cli.completion_scripts import INSTRUCTIONS, VARIABLE
from fishcli.errors import FishError

# Importing a command adds it to the app, in the order of the help.
# isort: off
from fishcli.cli import say, generate, encode, decode, download, config, doctor, bench, completion  # noqa: F401
# isort: on

_READER_GONE = 141  # as after SIGPIPE


def main() -> None:
    """Run the command line and exit with its code."""
    streams.prepare()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    _shorten_openmp_spinning()
    code = _run()
    if code == signals.INTERRUPTED:
        console.stderr.print(signals.interruption())
    try:
        streams.flush()
    except BrokenPipeError:
        code = code or _READER_GONE
    except OSError as error:
        if not code:
            code = 1
            console.error(f"stdout cannot be written ({error.strerror}).")
    sys.exit(code)


def _run() -> int:
    """Run the command, and return the exit code."""
    if os.environ.get(VARIABLE) and os.environ[VARIABLE] not in INSTRUCTIONS:
        return _stray_variable()
    try:
        code = app(standalone_mode=False, prog_name="fish", complete_var=VARIABLE)
    except KeyboardInterrupt:
        return signals.INTERRUPTED
    except SystemExit as ended:  # from a signal, or from the parser, which exits with 1 if stdout's reader is gone
        if isinstance(ended.__context__, BrokenPipeError):
            streams.discard()
            return _READER_GONE
        return ended.code if isinstance(ended.code, int) else 0
    except Exception as error:
        return _report(error)
    return code if isinstance(code, int) else 0


def _shorten_openmp_spinning() -> None:
    """Shorten the time that OpenMP threads spin before they sleep. Call it before torch is imported.

    With another process on one of two cores, the full-size model is 3 times as fast with it; alone, 0.98 times.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _report(error: BaseException) -> int:
    """Print an error on one line, and return the exit code."""
    if console.flags.debug:
        console.stderr.print(traceback.format_exc(), markup=False)
    if isinstance(error, FishError):
        console.error(hints.message(error))
        return error.exit_code
    if isinstance(error, typer.Abort):
        return signals.INTERRUPTED
    if isinstance(error, KeyError | ValueError) and VARIABLE in os.environ:
        return _stray_variable()
    if isinstance(error, OSError) and not _has_working_folder():
        console.error("The working folder does not exist any more; change to another one.")
        return 1
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
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    if message := message.rstrip("."):
        help_page = f" See `{error.ctx.command_path} -h`." if error.ctx else ""
        console.error(f"{message}{'' if message.endswith('?') else '.'}{help_page}")
    return int(error.exit_code)


def _stray_variable() -> int:
    console.error(f"{VARIABLE} is set, as completion scripts do for one call; unset it.")
    return 2


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Exit through every `finally`, so that no partial file remains."""
    raise SystemExit(128 + number)
