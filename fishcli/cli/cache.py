"""`fish cache`: show and clear what is kept between runs."""

from __future__ import annotations

from typing import Annotated

import typer

from fishcli.cli import console
from fishcli.cli.app import Commands, app, command
from fishcli.files import folder

home = typer.Typer(cls=Commands, rich_markup_mode=None)
app.add_typer(
    home,
    name="cache",
    help="""Show and clear the files that are kept between runs.

    Examples:
      fish cache show
      fish cache clear
    """,
    short_help="Show and clear the files that are kept between runs.",
)


@command(home)
def show() -> None:
    """Show the kinds of cached files and their sizes.

    Examples:
      fish cache show
      fish cache show --json
    """
    from fishcli.doctor import cache

    kinds = cache.contents()
    total = sum(kind.bytes for kind in kinds)
    console.result({"path": str(folder("cache")), "bytes": total, "kinds": [cache.as_dict(kind) for kind in kinds]})
    if console.flags.json:
        return
    for kind in kinds:
        if kind.files:
            console.listing(f"{_size(kind.bytes):>10}  {kind.name:10}  {kind.content}")
    console.listing(f"{_size(total):>10}  in {folder('cache')}")
    console.note(f"Downloaded models are not cached files; they lie in {folder('data')}.")


@command(home)
def clear(
    kinds: Annotated[list[str] | None, typer.Argument(metavar="[KIND...]", help="The kinds to clear; all.")] = None,
) -> None:
    """Remove cached files; later runs make them again. Downloaded models stay.

    Examples:
      fish cache clear
      fish cache clear voices recordings
    """
    from fishcli.doctor import cache

    done = cache.clear(kinds or [])
    freed = sum(each.removed.bytes for each in done)
    in_use = sum(each.in_use for each in done)
    for each in done:
        if each.removed.files:
            console.note(f"{_size(each.removed.bytes):>10}  {each.removed.name}")
    if in_use:
        console.warn(f"{in_use} file{'' if in_use == 1 else 's'} stay, because another process is writing them.")
    console.note(f"Freed {_size(freed)} in {folder('cache')}.")
    freed_kinds = [cache.as_dict(each.removed) | {"in_use": each.in_use} for each in done]
    console.result({"path": str(folder("cache")), "bytes": freed, "in_use": in_use, "kinds": freed_kinds})


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
