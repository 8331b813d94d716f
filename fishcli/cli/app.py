"""The Typer app, and the options that all commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Set
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
_INPUT_OPTIONS = {"-i", "--input-path"}
_OLD_SPELLING = "fishcli.old_spelling"  # in the meta data of a context


class Command(TyperCommand):
    """A command that takes its defaults from the settings and accepts the options of Fish Speech."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Help, completion and `fish config` must work while a settings file is broken.
        options = args[: args.index("--")] if "--" in args else args
        if ctx.resilient_parsing or {"-h", "--help"} & set(options):
            return super().parse_args(ctx, args)
        if ctx.command_path.split()[1] not in _WITHOUT_SETTINGS:
            from fishcli.config import load_settings

            ctx.default_map = load_settings(Path.cwd(), os.environ).defaults_for(ctx.info_name)
        ctx.meta[_OLD_SPELLING] = any(arg.partition("=")[0] in _INPUT_OPTIONS for arg in options)
        own = {name for each in self.params for name in each.opts}
        from fishcli.cli import arguments

        if ctx.info_name == "client":
            from fishcli.cli import client_spellings

            args = client_spellings.modern(args)
        return super().parse_args(ctx, arguments.arrange(ctx, _modern(args, own)))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from fishcli.cli import help

        formatter.write(help.page(self, ctx))


def in_old_spelling(ctx: typer.Context) -> bool:
    """Return whether the input was given as the documentation of Fish Speech gives it, as `-i FILE`."""
    return bool(ctx.meta.get(_OLD_SPELLING))


def _flag(name: str, *spellings: str, help: str) -> Any:
    def remember(value: bool) -> None:
        if value:  # else it keeps what was given before the command
            setattr(console.flags, name, True)
        console.set_up_logging()

    # Eager, so that it applies to errors in other options.
    return typer.Option(*spellings, help=help, callback=remember, is_eager=True, rich_help_panel="Common")


@dataclass(frozen=True)
class DebugOption:
    """The option of a command that has no result of its own, such as `fish completion`."""

    debug: Annotated[bool, _flag("debug", "--debug", help="Show the traceback of an error.")] = False


@dataclass(frozen=True)
class CommonOptions:
    """The options of every command. Their callbacks apply them, so commands do not receive them."""

    quiet: Annotated[bool, _flag("quiet", "-q", "--quiet", help="Show errors and warnings only.")] = False
    verbose: Annotated[bool, _flag("verbose", "-v", "--verbose", help="Show details.")] = False
    json: Annotated[bool, _flag("json", "--json", help="Print the result, or the error, as JSON.")] = False
    debug: Annotated[bool, _flag("debug", "--debug", help="Show the traceback of an error.")] = False


def command(
    home: typer.Typer, name: str | None = None, common: type = CommonOptions
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds a function to an app as a command, with its option groups and the common ones."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        return home.command(name, cls=Command)(grouped(function, common))

    return add


def _modern(args: list[str], own: Set[str]) -> list[str]:
    """Replace the options of Fish Speech but for a command's own ones, up to `--`.

    Values that become positional arguments follow a `--`.
    """
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
        elif name in own or name not in _FISH_SPEECH_OPTIONS:
            modern.append(arg)
        elif (ours := _FISH_SPEECH_OPTIONS[name]) is not None:
            modern.append(f"{ours}{equals}{value}")
        else:
            positional.append(value if equals else next(rest, ""))
    return [*modern, "--", *positional] if positional else modern


class Commands(TyperGroup):
    """A group that lists its commands in the order in which they were added, and names the one that was meant."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            console.help_page(ctx.get_help())
            raise typer.Exit(2)
        if not ctx.resilient_parsing:
            from fishcli.cli import arguments

            arguments.check_options(ctx, args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            from fishcli.cli import mistakes

            ctx.fail(mistakes.unknown_command(self, ctx.command_path, args))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from fishcli.cli import help

        formatter.write(help.page(self, ctx))


app = typer.Typer(
    name="fish",
    cls=Commands,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(ctx: typer.Context, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        console.listing(f"fishcli {fishcli.__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool,
        typer.Option(
            "-V", "--version", help="Show the version.", callback=_version, is_eager=True, rich_help_panel="Common"
        ),
    ] = False,
) -> None:
    """Speech synthesis and voice cloning with Fish Speech 1.5.

    Examples:
      fish say "Thank you for coming." -o thanks.wav
      fish say "See you soon." --ref thanks.wav --ref-text "Thank you for coming."
      fish doctor  # what runs here, and what is missing
    """


EXIT_CODES = """`fish COMMAND -h` shows the options of a command. The common ones may stand before it, too.

Exit codes: 0 done; 1 failed, such as an unreadable file; 2 a wrong option, value or setting; 3 no such model;
4 credentials refused; 5 network or server; 6 a part of a batch failed; 130 Ctrl-C; 143 SIGTERM. With --json an error
is printed as {"error": MESSAGE, "code": KIND, "exit": NUMBER}.
"""
app.callback(epilog=EXIT_CODES)(grouped(root, CommonOptions))
