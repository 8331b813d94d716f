"""Print to the terminal: results to stdout, everything else to stderr. No other module prints."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from fishcli.files import report_write_errors

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.progress import TaskID
    from rich.status import Status

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
_spinner: Status | None = None  # the one that turns


def is_live() -> bool:
    """Return whether to show live progress: on a capable terminal, unless -q is given."""
    return stderr.is_terminal and not stderr.is_dumb_terminal and not flags.quiet and _is_utf8(stderr.encoding)


def draws() -> bool:
    """Return whether stdout shows pictures made of characters: a capable terminal with UTF-8."""
    return stdout.is_terminal and not stdout.is_dumb_terminal and _is_utf8(stdout.encoding)


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


def saved(target: Path | str | None, seconds: float, seed: object = None) -> None:
    """Print the result of a run, such as `Saved out.wav (0.8 s, seed 42)`; None: it was played, `-`: on stdout."""
    what = "Played" if target is None else "Written to standard output" if str(target) == "-" else f"Saved {target}"
    note(f"{what} ({seconds:.1f} s{'' if seed is None else f', seed {seed}'})")


def note_once(name: str, message: str) -> None:
    """Print information that is shown once on this machine: a file in the cache folder remembers `name`."""
    from fishcli.files import folder

    shown = folder("cache") / "notes" / name
    if flags.quiet or shown.exists():
        return
    note(message)
    with contextlib.suppress(OSError):  # a cache that cannot be written shows it again
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.touch()


def help_page(text: str) -> None:
    """Print a help page that was not asked for."""
    sys.stderr.write(f"{text}\n")


def listing(lines: str) -> None:
    """Print a text result to stdout, unchanged."""
    with report_write_errors("stdout"):
        sys.stdout.write(lines if lines.endswith("\n") else f"{lines}\n")


def result(fields: Mapping[str, Any]) -> None:
    """With --json, print the result of a command, or its error, to stdout, as one JSON object."""
    if flags.json:
        listing(json.dumps(fields, ensure_ascii=not _is_utf8(sys.stdout.encoding)))


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


@contextlib.contextmanager
def status(activity: str) -> Iterator[None]:
    """Show a spinner during work of unknown length."""
    global _spinner
    if not is_live():
        yield
        return
    with stderr.status(f"{activity[:1].upper()}{activity[1:]}…") as _spinner:
        try:
            yield
        finally:
            _spinner = None


def update(activity: str) -> None:
    """Show another activity in the spinner, if one turns."""
    if _spinner is not None:
        _spinner.update(activity)


def converting(name: str, done: int, size: int) -> None:
    """Show the bytes of a conversion: in the spinner, or one line at its start."""
    if _spinner is not None:
        _spinner.update(f"Converting {name}: {done / 1e6:,.0f}/{size / 1e6:,.0f} MB")
    elif not done:
        note(f"Converting {name} for this machine, once: {size / 1e6:,.0f} MB.")


@contextlib.contextmanager
def speaking_bar(expected: int, state: Callable[[], tuple[int, str, float]]) -> Iterator[None]:
    """Show a bar of about `expected` frames. `state` returns the frames so far, a description and tokens/s.

    A narrow terminal gets the description and the time that is left, a wide one the figures as well.
    """
    from rich.live import Live
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    fields = [SpinnerColumn(), TextColumn("{task.description}")]
    bar = [BarColumn(bar_width=None)] if stderr.width >= 32 else []
    progress = Progress(*fields, *bar, TextColumn("{task.fields[times]}"), console=stderr)
    task = progress.add_task("starting", total=expected, times="")

    def draw() -> RenderableType:  # at each refresh, in a thread of Rich
        frames, description, rate = state()
        # Speech may be longer than expected: the bar then stays just below its end.
        total = max(expected, frames + 1)
        times = _times(progress.tasks[0].elapsed or 0.0, (total - frames) / rate, rate) if rate else ""
        progress.update(task, completed=frames, total=total, description=description, times=times)
        return progress.get_renderable()

    with Live(get_renderable=draw, console=stderr, refresh_per_second=10, transient=True):
        yield


@contextlib.contextmanager
def job_bar(state: Callable[[], tuple[float, str, str]]) -> Iterator[None]:
    """Show a bar of a job. `state` returns the share that is done, 0 to 1, a description and figures."""
    from rich.live import Live
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    fields = [SpinnerColumn(), TextColumn("{task.description}")]
    bar = [BarColumn(bar_width=None)] if stderr.width >= 56 else []
    progress = Progress(*fields, *bar, TextColumn("{task.fields[figures]}"), console=stderr)
    task = progress.add_task("starting", total=1.0, figures="")

    def draw() -> RenderableType:
        done, description, figures = state()
        progress.update(task, completed=done, description=description, figures=figures)
        return progress.get_renderable()

    with Live(get_renderable=draw, console=stderr, refresh_per_second=4, transient=True):
        yield


def _times(elapsed: float, left: float, rate: float) -> str:
    """Return the seconds so far, those that are left and the speed, as far as the terminal is wide enough."""
    parts = [f"about {clock(left)} left"]
    if stderr.width >= 56:
        parts.insert(0, clock(elapsed))
    if stderr.width >= 72:
        parts.append(f"{rate:.0f} tokens/s")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as 1:02 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextlib.contextmanager
def transfer_bars(total: int) -> Iterator[Callable[[str, str, int, int], None]]:
    """Show a bar per file and one for all `total` bytes. Yield a function of name, stage, bytes done and size."""
    from rich.progress import BarColumn, Progress, TextColumn

    fields = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[figures]}"))
    with Progress(*fields, console=stderr, disable=not is_live(), expand=True) as progress:
        overall = progress.add_task("total", total=total, figures="")
        tasks: dict[str, TaskID] = {}
        arrived: dict[str, int] = {}

        def show(name: str, stage: str, done: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(_shortened(name), total=size, figures="")
                if not is_live():
                    note(f"{name}: {size / 1e6:.1f} MB")
            arrived[name] = max(done, arrived.get(name, 0))  # verifying a file counts from 0 again
            progress.update(tasks[name], completed=done, figures=_figures(done, size, stage))
            done = sum(arrived.values())
            speed = progress.tasks[0].speed
            rate = f", {_bytes(speed)}/s" if speed and stderr.width >= 56 else ""
            progress.update(overall, completed=done, figures=f"{_figures(done, total)}{rate}")

        yield show


def _shortened(name: str) -> str:
    """Return a file name that takes two fifths of the terminal at most, without its middle."""
    room = max(12, stderr.width * 2 // 5)
    return name if len(name) <= room else f"{name[: room - 10]}…{name[-9:]}"


def _figures(done: int, size: int, stage: str = "") -> str:
    """Return the bytes done and in all, or their share on a narrow terminal."""
    if stderr.width < 56:
        return f"{done / max(size, 1):4.0%}"
    return f"{f'{stage} ' if stage else ''}{_bytes(done, size).split()[0]} of {_bytes(size)}"


def _bytes(count: float, scale: float | None = None) -> str:
    """Return bytes in the unit of `scale`, by default their own."""
    unit, name = next(
        (each for each in ((1e9, "GB"), (1e6, "MB")) if (count if scale is None else scale) >= each[0]), (1e3, "kB")
    )
    return f"{count / unit:.1f} {name}"


def wrapped(text: str, width: int, indent: str = "", first: str = "") -> list[str]:
    """Wrap a paragraph. A command in backquotes and a default in brackets stay in one piece where they fit."""
    room = width - len(indent)
    whole = re.sub(r"\[default: [^]]*\]|`[^`]*`", lambda m: m[0].replace(" ", "\0") if len(m[0]) < room else m[0], text)
    lines = textwrap.wrap(whole, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def _line(label: str, style: str, message: str) -> None:
    if stderr.is_terminal and "`" in message:
        message = "\n".join(wrapped(f"{label}{message}", stderr.width))[len(label) :]
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
