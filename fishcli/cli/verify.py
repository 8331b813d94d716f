"""`fish verify`: whether the files of a job are those that were made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fishcli.cli import console
from fishcli.cli.app import app, command

_SHOWN = 20  # problems


@command(app)
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of `fish batch -o`.")],
) -> None:
    """Check every file of a finished job against its manifest.

    Examples:
      printf 'Good morning.\\nGood night.\\n' > greetings.txt
      fish batch greetings.txt -o greetings
      fish verify greetings
    """
    from fishcli.cli.batch_progress import counted
    from fishcli.jobs.verify import verify

    with console.status("Reading the files"):
        found = verify(folder)
    console.result(
        {"folder": str(folder), "lines": found.lines, "seconds": round(found.seconds, 3), "problems": found.problems}
    )
    for problem in found.problems[:_SHOWN]:
        console.error(problem)
    if found.problems:
        more = len(found.problems) - _SHOWN
        console.note(f"{f'And {more:,} more. ' if more > 0 else ''}`fish batch` with the same JOB makes them again.")
        raise typer.Exit(1)
    console.note(f"{counted(found.lines, 'line')} verified ({console.clock(found.seconds)} of sound).")
