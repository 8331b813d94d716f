"""`fish config`: show and change the settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli import config
from fishcli.cli import completers, console
from fishcli.cli.app import Commands, app, command
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from rich.table import Table

    from fishcli.config import Resolved, Settings

_DEFAULT = "default"
_WIDE = 60  # columns; a narrower terminal has the source below the value

home = typer.Typer(cls=Commands, rich_markup_mode=None)
app.add_typer(
    home,
    name="config",
    help="""Show and change the settings.

    Examples:
      fish config show
      fish config set generate.temperature 0.5
      fish config set device cpu --local
    """,
    short_help="Show and change the settings.",
)

Key = Annotated[
    str, typer.Argument(metavar="KEY", help="Key of a setting, such as generate.top_p.", autocompletion=completers.keys)
]
Local = Annotated[bool, typer.Option("--local", help="Use ./fishcli.toml, not the file of the user.")]


@command(home)
def show() -> None:
    """Show every setting with its value and source.

    Examples:
      fish config show
      fish config show --json
    """
    settings = config.load_settings(Path.cwd(), os.environ)
    if console.flags.json:
        console.result({key: {"value": each.value, "source": each.source} for key, each in settings.resolved.items()})
    elif console.stdout.is_terminal:
        console.stdout.print(_table(settings))
    else:
        console.listing("\n".join(_line(key, each) for key, each in settings.resolved.items()))


@command(home)
def path(local: Local = False) -> None:
    """Show the path of the settings file, which may not exist yet.

    Examples:
      fish config path
      $EDITOR $(fish config path)
    """
    file = _file(local)
    if console.flags.json:
        console.result({"path": str(file), "exists": file.exists()})
    else:
        console.listing(str(file))


@command(home)
def get(key: Key) -> None:
    """Print the value of a setting; the exit code is 1 if it has none.

    Examples:
      fish config get generate.chunk_length
    """
    found = config.load_settings(Path.cwd(), os.environ).find(key)
    if console.flags.json:
        console.result({"key": key, "value": found.value, "source": found.source})
    elif found.value is not None:
        console.listing(found.value if isinstance(found.value, str) else config.format_value(found.value))
    if found.value is None:
        raise typer.Exit(1)


@command(home, "set")
def set_(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="New value.", autocompletion=completers.value_of_key)],
    local: Local = False,
) -> None:
    """Change a setting in the file of the user, which keeps its comments.

    Examples:
      fish config set generate.temperature 0.5
      fish config set checkpoint_path checkpoints/fish-speech-1.5 --local
    """
    file = _file(local)
    kept = config.set_value(file, key, value)
    console.note(f"{key} = {config.format_value(kept)} in {file}")
    _warn_unless_in_force(key, file)
    console.result({"key": key, "value": kept, "path": str(file)})


@command(home)
def unset(key: Key, local: Local = False) -> None:
    """Remove a setting from the file of the user.

    Examples:
      fish config set device cpu && fish config unset device
    """
    file = _file(local)
    config.unset(file, key)
    console.note(f"{key} is no longer set in {file}")
    console.result({"key": key, "path": str(file)})


@command(home)
def init(local: Local = False) -> None:
    """Write a settings file with every setting as a comment.

    Examples:
      fish config init
      fish config init --local
    """
    file = _file(local)
    if file.exists():
        command = f"fish config set KEY VALUE{' --local' if local else ''}"
        raise SettingError(f"{file} exists already; change it with `{command}`.")
    config.init(file)
    console.note(f"Written to {file}; remove the # before a setting to change it.")
    console.result({"path": str(file)})


def _file(local: bool) -> Path:
    return config.local_file(Path.cwd()) if local else config.user_file()


def _warn_unless_in_force(key: str, file: Path) -> None:
    """Warn if another source overrides the setting that was just changed."""
    try:
        source = config.load_settings(Path.cwd(), os.environ).find(key).source
    except SettingError as error:
        console.warn(str(error))  # an error in another setting; this one is written
        return
    if not source.startswith(f"{file}:"):
        console.warn(f"{key} is also set by {source}, which takes precedence here.")


def _line(key: str, each: Resolved) -> str:
    """Format a setting as a line of a settings file, with its source."""
    if each.value is None:
        return f"# {key} is not set"
    return f"{key} = {config.format_value(each.value)}  # {each.source}"


def _table(settings: Settings) -> Table:
    """Return a table of names, values and sources, with a heading per table; defaults are dimmed."""
    from rich.table import Table
    from rich.text import Text

    narrow = console.stdout.width < _WIDE
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    heading = ""
    for each in settings.resolved.values():
        if each.setting.table != heading:
            heading = each.setting.table
            table.add_row()
            table.add_row(Text(f"[{heading}]", "bold"))
        source = each.source.rpartition(os.sep)[2]  # the file name is enough: `path` shows the folders
        value = "-" if each.value is None else config.format_value(each.value)
        style = "dim" if each.source == _DEFAULT else "cyan"
        cells = [f"{value}\n{source}" if narrow and each.source != _DEFAULT else value, *([] if narrow else [source])]
        table.add_row(each.setting.name, *(Text(cell, style) for cell in cells))
    return table
