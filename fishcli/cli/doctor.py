"""`fish doctor`: check the installation, the machine, the settings and the models."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console
from fishcli.cli.app import app, command

if TYPE_CHECKING:
    from rich.table import Table

    from fishcli.doctor import Check

_WIDE = 60  # columns; a narrower terminal has names and values in one column
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@command(app)
def doctor(
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify the checksums of the models too, and measure the speed.")
    ] = False,
) -> None:
    """Check this machine and explain how to fix what is missing.

    Examples:
      fish doctor
      fish doctor --verify
    """
    with console.status("Verifying the models" if verify else "Checking this machine"):
        from fishcli.doctor import examine

        checks = examine(Path.cwd(), os.environ, verify)
    healthy = all(check.state != "fail" for check in checks)
    if console.flags.json:
        console.result({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
    elif shown := [check for check in checks if check.state != "ok" or not console.flags.quiet]:
        _show(shown)
    if not healthy:
        raise typer.Exit(1)


def _show(checks: Sequence[Check]) -> None:
    if console.stdout.is_terminal:
        console.stdout.print(_table(checks))
        return
    for check in checks:
        console.listing(f"{check.state:4}  {check.name}: {check.value}")
        if check.remedy:
            console.listing(f"      -> {check.remedy}")


def _table(checks: Sequence[Check]) -> Table:
    """Return a table of state, name and value, with the remedy below the value."""
    from rich.table import Table
    from rich.text import Text

    narrow = console.stdout.width < _WIDE
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    if not narrow:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        style = _STYLES[check.state]
        name = f"{check.name}: " if narrow else ""
        found = Text(check.value, "" if check.state == "ok" else style)
        remedy = Text(f"\n-> {check.remedy}" if check.remedy else "", "cyan")
        table.add_row(Text(check.state, style), *([] if narrow else [check.name]), Text.assemble(name, found, remedy))
    return table
