"""The entry point: run the command line, and turn every error into one line and an exit code."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import typer

from fishcli.cli import console, hints, mistakes, signals, streams
from fishcli.cli.app import app
from fishcli.cli.completion_scripts import INSTRUCTIONS, VARIABLE
from fishcli.errors import FishError, is_out_of_memory

# Importing a command adds it to the app, in the order of the help.
# isort: off
from fishcli.cli import say, batch, verify, generate, encode, decode, voices, audition, serve, webui  # noqa: F401
from fishcli.cli import client, download, config, cache, doctor, bench, completion  # noqa: F401
# isort: on

_READER_GONE = 141  # as after SIGPIPE


def main() -> None:
    """Run the command line and exit with its code."""
    streams.prepare()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminated)
    _shorten_openmp_spinning()
    # For errors that the parser finds before it reads the option.
    console.flags.json = "--json" in itertools.takewhile("--".__ne__, sys.argv[1:])
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
    """Print an error on one line, with --json as JSON too, and return the exit code."""
    if console.flags.debug:
        console.stderr.print(traceback.format_exc(), markup=False)
    if isinstance(error, typer.Abort):
        return signals.INTERRUPTED
    if isinstance(error, KeyError | ValueError) and VARIABLE in os.environ:
        return _stray_variable()
    message, kind, code = _described(error)
    console.error(message)
    with contextlib.suppress(OSError, FishError):  # it may be stdout that cannot be written
        console.result({"error": message, "code": kind, "exit": code})
    return code


def _described(error: BaseException) -> tuple[str, str, int]:
    """Return the message, the kind and the exit code of an error."""
    if isinstance(error, FishError):
        return hints.message(error), _snake_case(type(error).__name__), error.exit_code
    if isinstance(error, OSError) and not _has_working_folder():
        return "The working folder does not exist any more; change to another one.", "os_error", 1
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", "os_error", 1
    if isinstance(error, typer.TyperException):
        return _usage(error), "usage_error", int(error.exit_code)
    if is_out_of_memory(error):
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
