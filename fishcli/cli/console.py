"""Print to the terminal: results to stdout, everything else to stderr. No other module prints."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fishcli.files import report_write_errors

if TYPE_CHECKING:
    from rich.progress import TaskID

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


@dataclass
class Flags:
    """Verbosity and output format, set by the options that every command has."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    debug: bool = False


flags = Flags()


def is_live() -> bool:
    """Return whether to show live progress: on a capable terminal, unless -q is given."""
    return stderr.is_terminal and not stderr.is_dumb_terminal and not flags.quiet and _is_utf8(stderr.encoding)


def error(message: str) -> None:
    """Print an error: one line that says what is wrong and how to fix it."""
    _line("error: ", "bold red", message)


def warn(message: str) -> None:
    """Print a warning, even with -q."""
    _line("warning: ", "yellow", message)


def note(message: str) -> None:
    """Print information, unless -q is given."""
    if not flags.quiet:
        _line("", "", message)


def listing(lines: str) -> None:
    """Print a text result to stdout, unchanged."""
    with report_write_errors("stdout"):
        sys.stdout.write(lines if lines.endswith("\n") else f"{lines}\n")


def result(fields: Mapping[str, Any]) -> None:
    """With --json, print the result of a command to stdout, as one JSON object."""
    if flags.json:
        listing(json.dumps(fields, ensure_ascii=not _is_utf8(sys.stdout.encoding)))


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def summary(rows: Mapping[str, str]) -> None:
    """Print a few figures at the end: a table on a terminal, else one line."""
    if flags.quiet or flags.json:
        return
    if not stderr.is_terminal:
        note(", ".join(f"{name} {value}" for name, value in rows.items()))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    stderr.print(table)


def status(activity: str) -> contextlib.AbstractContextManager[object]:
    """Show a spinner during work without progress."""
    if not is_live():
        return contextlib.nullcontext()
    return stderr.status(f"{activity} ...")


@contextlib.contextmanager
def speaking_bar(expected: int) -> Iterator[Callable[[int, str], None]]:
    """Show a bar of about `expected` frames. Yield a function that takes the frames so far and a description."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=None))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=stderr, transient=True) as progress:
        task = progress.add_task("speaking", total=expected)

        def show(frames: int, description: str) -> None:
            # Speech may be longer than expected: the bar then stays just below its end.
            total = max(expected, frames + 1)
            progress.update(task, completed=frames, total=total, description=description)

        yield show


@contextlib.contextmanager
def transfer_bars(total: int) -> Iterator[Callable[[str, str, int, int], None]]:
    """Show a bar per file and one for all `total` bytes. Yield a function of name, stage, bytes done and size."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn

    wide = stderr.width >= 60
    figures = (DownloadColumn(), TransferSpeedColumn()) if wide else (TaskProgressColumn(),)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), *figures, console=stderr, disable=not is_live()
    ) as progress:
        overall = progress.add_task("total", total=total)
        tasks: dict[str, TaskID] = {}
        arrived: dict[str, int] = {}

        def show(name: str, stage: str, done: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=size)
                if not is_live():
                    note(f"{name}: {size / 1e6:.1f} MB")
            arrived[name] = max(done, arrived.get(name, 0))  # verifying a file counts from 0 again
            progress.update(tasks[name], completed=done, description=f"{stage} {name}")
            progress.update(overall, completed=sum(arrived.values()))

        yield show


def _line(label: str, style: str, message: str) -> None:
    # Text, not markup: messages quote user input, which may have brackets.
    stderr.print(Text.assemble((label, style), message), soft_wrap=not stderr.is_terminal)


class LogHandler(logging.Handler):
    """Prints the log records of the package."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            warn(message)
        else:
            note(message)


def set_up_logging() -> None:
    """Print warnings always, info records unless -q is given, and debug records with -v."""
    logger = logging.getLogger("fishcli")
    if not any(isinstance(handler, LogHandler) for handler in logger.handlers):
        logger.addHandler(LogHandler())
    logger.propagate = False
    logger.setLevel(logging.DEBUG if flags.verbose else logging.INFO)
