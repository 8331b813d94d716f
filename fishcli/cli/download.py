"""`fish download`: download a model from the hub, and verify it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.checkpoints import local
from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command

if TYPE_CHECKING:
    from fishcli.checkpoints.download import Plan

_LICENCE = "The weights of Fish Speech 1.5 are licensed CC BY-NC-SA 4.0: no commercial use, credit, share alike."


@command(app)
def download(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME of the model on the hub.")] = local.REPO,
    local_dir: Annotated[Path | None, options.setting("download.local_dir", options.OUTPUT, "DIR")] = None,
    revision: Annotated[str | None, options.setting("download.revision", options.OUTPUT)] = None,
    dry_run: Annotated[bool, options.dry_run_option("Show the files and their sizes only.")] = False,
) -> None:
    """Download a model and verify its checksums. Complete files are kept.

    Examples:
      fish download
      fish download --dry-run
      fish download fishaudio/fish-speech-1.5 --local-dir checkpoints/fish-speech-1.5
    """
    from fishcli.checkpoints.download import Damaged, fetch, plan_download

    signals.clean_up()
    with console.status("Asking the hub"):
        plan = plan_download(repo, local_dir, revision)
    if dry_run:
        _show(plan)
        return
    if plan.missing and repo == local.REPO:
        console.note(_LICENCE)
    # Closed on Ctrl-C too, which releases the lock of the folder.
    with console.transfer_bars(plan.size) as show, contextlib.closing(fetch(plan)) as events:
        for event in events:
            if isinstance(event, Damaged):
                console.warn(f"{event.name} is damaged; downloading it again.")
            else:
                show(event.name, event.stage, event.done, event.size)
    console.note(f"{repo} is complete in {plan.folder}.")
    console.result({"repo": repo, "folder": str(plan.folder), "commit": plan.record.commit, "bytes": plan.size})


def _show(plan: Plan) -> None:
    """Print each file with its size and state, and the bytes to download."""
    files = [(file.name, file.size, plan.here.get(file.name, 0)) for file in plan.record.files]
    shown = [{"name": name, "bytes": size, "here": here} for name, size, here in files]
    console.result({"folder": str(plan.folder), "bytes": plan.size, "missing": plan.missing, "files": shown})
    if console.flags.json:
        return
    for name, size, here in files:
        console.listing(f"{size / 1e6:9.1f} MB  {'complete' if here == size else 'missing':8}  {name}")
    console.note(f"{plan.missing / 1e6:.1f} of {plan.size / 1e6:.1f} MB to download into {plan.folder}.")
