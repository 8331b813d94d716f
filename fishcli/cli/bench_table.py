"""The results of a benchmark as lines, or as a table on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fishcli.cli import console


class Line(NamedTuple):
    """One measurement: its name, the median, the range, and figures that follow from it."""

    name: str
    median: str
    extremes: str = ""
    notes: str = ""


def show(title: str, described: Mapping[str, object], lines: Sequence[Line]) -> None:
    """Print lines under a title, with what was measured on."""
    from rich.table import Table
    from rich.text import Text

    run = ", ".join(f"{name} {value}" for name, value in described.items())
    if not console.stdout.is_terminal:
        console.listing(f"{title}\n{run}")
        for name, median, extremes, notes in lines:
            console.listing(f"{name}: {median}{f' ({extremes})' if extremes else ''}{f', {notes}' if notes else ''}")
        return
    table = Table(title=Text(title), caption=Text(run), box=None, padding=(0, 1), pad_edge=False)
    table.add_column()
    table.add_column("median", justify="right")
    table.add_column("min to max", style="dim")
    table.add_column()
    for line in lines:
        table.add_row(*map(Text, line))
    console.stdout.print(table)


def seconds(value: float) -> str:
    """Return a time in seconds or milliseconds."""
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def size(count: float) -> str:
    """Return a number of bytes."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def counted(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
