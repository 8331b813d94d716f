"""The typer app, and what all of its commands share."""

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

# Spellings of the documentation of Fish Speech, kept out of the help. None: the value that follows is a plain argument.
_OLD_SPELLINGS: dict[str, str | None] = {
    "--llama-checkpoint-path": "--checkpoint-path",
    "--decoder-checkpoint-path": "--codec-path",
    "--output-path": "--output",
    "--text": None,
    "--input-path": None,
    "-i": None,
}
_WITHOUT_SETTINGS = {"config", "completion", "doctor"}
_CODEC_CONFIG = "firefly_gan_vq"


class Command(TyperCommand):
    """A command that takes its defaults from the settings and reads the documentation's old spellings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Help and completion must come up, and the settings be mended, while a settings file is broken.
        options = args[: args.index("--")] if "--" in args else args
        asked = {"-h", "--help"} & set(options) or ctx.resilient_parsing
        if not asked and ctx.command_path.split()[1] not in _WITHOUT_SETTINGS:
            from fishcli.config import load_settings

            ctx.default_map = load_settings(Path.cwd(), os.environ).defaults_for(ctx.info_name)
        return super().parse_args(ctx, _modern(args))


def _flag(name: str, *spellings: str, help: str) -> Any:
    def remember(value: bool) -> None:
        setattr(console.manner, name, value)
        console.set_up_logging()

    # Eager, so that an error in another option is already told in this manner.
    return typer.Option(*spellings, help=help, callback=remember, is_eager=True, rich_help_panel="Common")


@dataclass(frozen=True)
class CommonOptions:
    """What every command takes; their callbacks have done all there is to do."""

    quiet: Annotated[bool, _flag("quiet", "-q", "--quiet", help="Say only what went wrong.")] = False
    verbose: Annotated[bool, _flag("verbose", "-v", "--verbose", help="Say what happens inside.")] = False
    json: Annotated[bool, _flag("json", "--json", help="The result as JSON on stdout.")] = False
    debug: Annotated[bool, _flag("debug", "--debug", help="A traceback with an error.")] = False


def command(home: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a function to an app as a command, with its groups of options and the common ones."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        return home.command(name, cls=Command)(grouped(function, CommonOptions))

    return add


def _modern(args: list[str]) -> list[str]:
    """Old spellings replaced by ours, up to `--`; what an old option made a plain argument of comes after one."""
    modern: list[str] = []
    plain: list[str] = []
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.partition("=")
        if arg == "--":
            plain += rest
        elif name == "--decoder-config-name":
            if (given := value if equals else next(rest, "")) != _CODEC_CONFIG:
                raise SettingError(f"The codec {given!r} is not known; this program has {_CODEC_CONFIG}.")
        elif name not in _OLD_SPELLINGS:
            modern.append(arg)
        elif (ours := _OLD_SPELLINGS[name]) is not None:
            modern.append(f"{ours}{equals}{value}")
        else:
            plain.append(value if equals else next(rest, ""))
    return [*modern, "--", *plain] if plain else modern


class Commands(TyperGroup):
    """The commands in the order in which they were added."""

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

    [cyan]fish say "Hello, world!"[/cyan]  speaks into out.wav
    [cyan]fish say "Hello, world!" --ref paimon.wav --play[/cyan]  in the voice of a recording, aloud
    """
