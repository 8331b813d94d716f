"""What a person sees. Results go to stdout, everything else to stderr; no other module prints."""

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

if TYPE_CHECKING:
    from rich.progress import TaskID

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)


@dataclass
class Manner:
    """How much is said, and how: set by the options that every command has."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    debug: bool = False


manner = Manner()


def is_live() -> bool:
    """Whether what is shown can move: a terminal that can, and nobody asked for quiet."""
    return stderr.is_terminal and not stderr.is_dumb_terminal and not manner.quiet


def error(message: str) -> None:
    """One line that says what is wrong and what to do next."""
    _line("error: ", "bold red", message)


def warn(message: str) -> None:
    """Something that the user should know although the work goes on; -q keeps it."""
    _line("warning: ", "yellow", message)


def note(message: str) -> None:
    """What happens, or happened; -q drops it."""
    if not manner.quiet:
        _line("", "", message)


def listing(lines: str) -> None:
    """A result that is text, on stdout as it is."""
    sys.stdout.write(lines if lines.endswith("\n") else f"{lines}\n")


def result(fields: Mapping[str, Any]) -> None:
    """With --json, the result of a command as one JSON object on stdout."""
    if manner.json:
        sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")


def summary(rows: Mapping[str, str]) -> None:
    """A few figures at the end: a table on a terminal, one line elsewhere."""
    if manner.quiet or manner.json:
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


def status(doing: str) -> contextlib.AbstractContextManager[object]:
    """A spinner while something is done that shows no progress of its own."""
    if not is_live():
        return contextlib.nullcontext()
    return stderr.status(f"{doing} ...")


@contextlib.contextmanager
def speaking_bar(expected: int) -> Iterator[Callable[[int, str], None]]:
    """A bar over about `expected` frames: call it with the frames so far and a few words."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=None))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=stderr, transient=True) as progress:
        task = progress.add_task("speaking", total=expected)

        def show(frames: int, doing: str) -> None:
            # Speech may turn out longer than expected: then the bar stays just short of its end.
            total = max(expected, frames + 1)
            progress.update(task, completed=frames, total=total, description=doing)

        yield show


@contextlib.contextmanager
def transfer_bars(total: int) -> Iterator[Callable[[str, str, int, int], None]]:
    """A bar for each file and one for all of `total` bytes: call it with name, stage, bytes done and size."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn

    wide = stderr.width >= 60
    figures = (DownloadColumn(), TransferSpeedColumn()) if wide else (TaskProgressColumn(),)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), *figures, console=stderr, disable=not is_live()
    ) as progress:
        whole = progress.add_task("in total", total=total)
        tasks: dict[str, TaskID] = {}
        arrived: dict[str, int] = {}

        def show(name: str, stage: str, done: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=size)
                if not is_live():
                    note(f"{name}: {size / 1e6:.1f} MB")
            arrived[name] = max(done, arrived.get(name, 0))  # what has come is checked again
            progress.update(tasks[name], completed=done, description=f"{stage} {name}")
            progress.update(whole, completed=sum(arrived.values()))

        yield show


def _line(label: str, style: str, message: str) -> None:
    # Text, not markup: messages quote what users wrote, brackets included.
    stderr.print(Text.assemble((label, style), message), soft_wrap=not stderr.is_terminal)


class LogHandler(logging.Handler):
    """Shows what the lower layers log."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            warn(message)
        else:
            note(message)


def set_up_logging() -> None:
    """Warnings always, what takes a while unless -q, what happens inside with -v."""
    logger = logging.getLogger("fishcli")
    if not any(isinstance(handler, LogHandler) for handler in logger.handlers):
        logger.addHandler(LogHandler())
    logger.propagate = False
    logger.setLevel(logging.DEBUG if manner.verbose else logging.INFO)
