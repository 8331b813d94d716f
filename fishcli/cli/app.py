"""The Typer app, and the options that all commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import fishcli
from fishcli.cli import console
from fishcli.cli.option_groups import grouped
from fishcli.errors import SettingError

# Options in the documentation of Fish Speech, not shown in the help. None: its value is a positional argument.
_FISH_SPEECH_OPTIONS: dict[str, str | None] = {
    "--llama-checkpoint-path": "--checkpoint-path",
    "--decoder-checkpoint-path": "--codec-path",
    "--output-path": "--output",
    "--text": None,
    "--input-path": None,
    "-i": None,
}
_WITHOUT_SETTINGS = {"cache", "config", "completion", "doctor"}
_CODEC_CONFIG = "firefly_gan_vq"


class Command(TyperCommand):
    """A command that takes its defaults from the settings and accepts the options of Fish Speech."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Help, completion and `fish config` must work while a settings file is broken.
        options = args[: args.index("--")] if "--" in args else args
        help_wanted = {"-h", "--help"} & set(options) or ctx.resilient_parsing
        if not help_wanted and ctx.command_path.split()[1] not in _WITHOUT_SETTINGS:
            from fishcli.config import load_settings

            ctx.default_map = load_settings(Path.cwd(), os.environ).defaults_for(ctx.info_name)
        return super().parse_args(ctx, _modern(args))


def _flag(name: str, *spellings: str, help: str) -> Any:
    def remember(value: bool) -> None:
        setattr(console.flags, name, value)
        console.set_up_logging()

    # Eager, so that it applies to errors in other options.
    return typer.Option(*spellings, help=help, callback=remember, is_eager=True, rich_help_panel="Common")


@dataclass(frozen=True)
class CommonOptions:
    """The options of every command. Their callbacks apply them, so commands do not receive them."""

    quiet: Annotated[bool, _flag("quiet", "-q", "--quiet", help="Print errors and warnings only.")] = False
    verbose: Annotated[bool, _flag("verbose", "-v", "--verbose", help="Print debug messages.")] = False
    json: Annotated[bool, _flag("json", "--json", help="Print the result as JSON.")] = False
    debug: Annotated[bool, _flag("debug", "--debug", help="Print the traceback of an error.")] = False


def command(home: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds a function to an app as a command, with its option groups and the common ones."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        return home.command(name, cls=Command)(grouped(function, CommonOptions))

    return add


def _modern(args: list[str]) -> list[str]:
    """Replace the options of Fish Speech, up to `--`. Values that become positional arguments follow a `--`."""
    modern: list[str] = []
    positional: list[str] = []
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.partition("=")
        if arg == "--":
            positional += rest
        elif name == "--decoder-config-name":
            if (given := value if equals else next(rest, "")) != _CODEC_CONFIG:
                raise SettingError(f"The codec {given!r} is not supported; the only one is {_CODEC_CONFIG}.")
        elif name not in _FISH_SPEECH_OPTIONS:
            modern.append(arg)
        elif (ours := _FISH_SPEECH_OPTIONS[name]) is not None:
            modern.append(f"{ours}{equals}{value}")
        else:
            positional.append(value if equals else next(rest, ""))
    return [*modern, "--", *positional] if positional else modern


class Commands(TyperGroup):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    name="fish",
    cls=Commands,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(ctx: typer.Context, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        console.listing(f"fishcli {fishcli.__version__}")
        raise typer.Exit


@app.callback(epilog="[dim]fish COMMAND -h shows examples.[/dim]")
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Speech synthesis and voice cloning with Fish Speech 1.5.

    [cyan]fish say "Hello, world!"[/cyan]  writes out.wav
    [cyan]fish say "Hello, world!" --ref paimon.wav --play[/cyan]  plays it in the voice of a recording
    """
