"""The help page of a command: examples first, then two columns, for terminals of any width."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fishcli.cli import console
from fishcli.config import SETTINGS

_WIDEST = 100  # columns; longer lines are hard to read
_ROOM = 20  # columns that a text needs beside the names; else it stands below them
_NAMES = 26  # columns for the names of options; the text of a longer name starts on the next line
_GAP = 2
_WORD = re.compile(
    r'(?:--?[a-z][\w-]* )?(?:[^\s"]|"[^"]*")+'
)  # of an example: a text in quotes, an option with its value
_BOLD, _CYAN, _PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[0m"
_BY_NAME = {setting.name: setting for setting in SETTINGS.values()}

# What a reader looks for first.
_ORDER = (
    *("Arguments", "Commands", "Server", "Output", "Lines", "Voice", "Text", "Speaking", "Options", "Book", "Model"),
    "Common",
)

Row = tuple[str, str]  # names and text


def page(command: Any, ctx: Any) -> str:
    """Return the help page of a command or a group, for the width of the terminal."""
    width = min(console.stdout.width, _WIDEST)
    text, _, examples = inspect.cleandoc(command.help or "").partition("Examples:\n")
    lines = [*console.wrapped(f"Usage: {_usage(command, ctx)}", width, " " * 8), ""]
    for paragraph in filter(None, text.strip().split("\n\n")):
        lines += [*console.wrapped(paragraph, width), ""]
    if examples:
        lines += [_heading("Examples"), *_examples(textwrap.dedent(examples), width), ""]
    sections = _sections(command, ctx)
    # Pages of few options have one column in common, and the names of commands are short.
    column = max((len(name) for rows in sections.values() for name, _ in rows if len(name) <= _NAMES), default=0)
    for heading, rows in sections.items():
        lines.append(_heading(heading))
        for row in rows:
            lines += _row(row, column, width)
    if command.epilog:
        for paragraph in inspect.cleandoc(command.epilog).split("\n\n"):
            lines += ["", *console.wrapped(paragraph, width)]
    return "\n".join(lines) + "\n"


def _usage(command: Any, ctx: Any) -> str:
    words = [ctx.command_path, "[OPTIONS]"]
    for each in command.params:
        if each.param_type_name == "argument":
            words.append(each.metavar if each.required else f"[{each.metavar}]")
    return " ".join([*words, *(["COMMAND ..."] if hasattr(command, "commands") else [])])


def _sections(command: Any, ctx: Any) -> dict[str, list[Row]]:
    """Return the rows below each heading."""
    sections: dict[str, list[Row]] = {heading: [] for heading in _ORDER}
    for name, each in getattr(command, "commands", {}).items():
        sections["Commands"].append((name, _first_sentence(each.short_help or each.help or "")))
    parameters = [each for each in command.get_params(ctx) if not each.hidden]
    for each in parameters:
        if each.param_type_name == "argument":
            sections["Arguments"].append((each.metavar, _sentence(each)))
        else:
            heading = each.rich_help_panel or ("Common" if each.name == "help" else "Options")
            sections[heading].append((_names(each), _sentence(each)))
    return {heading: rows for heading, rows in sections.items() if rows}


def _names(option: Any) -> str:
    """Return the names of an option with its metavar, such as `-o, --output FILE`; aliases are left out."""
    long = next(name for name in option.opts if name.startswith("--"))
    if option.secondary_opts and option.default is not None:
        long = option.secondary_opts[0] if option.default else long  # the one that changes something
    elif option.secondary_opts:
        long = f"--[no-]{long[2:]}"
    short = next((f"{name}, " for name in option.opts if len(name) == 2), "    ")
    metavar = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return f"{short}{long}{metavar}"


def _sentence(parameter: Any) -> str:
    """Return the help of an option or argument, its choices and its default."""
    if parameter.name == "help" and parameter.param_type_name == "option":
        return "Show this page"
    known = _BY_NAME.get(parameter.name)
    help = parameter.help or ""
    if known is not None and known.off and parameter.default is True:
        help = known.off
    said = help.removesuffix(".")
    if known is not None and known.choices:
        said += f": {', '.join(known.choices[:-1])} or {known.choices[-1]}"
    default = _default(parameter)
    return f"{said} [default: {default}]" if default else said


def _default(parameter: Any) -> str:
    """Return the default in words; empty where there is none worth showing."""
    known = _BY_NAME.get(parameter.name)
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if known and known.choices:
        return ""  # auto, which stands first
    value = (known.unset if known else None) if parameter.default in (None, Path()) else parameter.default
    if value is None or isinstance(value, bool | Path) or parameter.required or parameter.show_default is False:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(row: Row, column: int, width: int) -> list[str]:
    """Return the lines of a row: the text beside the names, or below them where they are long or the page narrow."""
    name, text = row
    indent = " " * (_GAP + column + _GAP)
    if width - len(indent) < _ROOM:
        return [f"  {_painted(name.strip(), _CYAN)}", *console.wrapped(text, width, " " * 6, " " * 6)]
    beside = console.wrapped(text, width, indent, indent) or [""]
    if len(name) > column:
        return [f"  {_painted(name, _CYAN)}", *beside]
    return [f"  {_painted(name.ljust(column), _CYAN)}  {beside[0].lstrip()}".rstrip(), *beside[1:]]


def _examples(text: str, width: int) -> Iterator[str]:
    """Yield the lines of the examples; a long command is continued with a backslash, so that it can be copied."""
    for example in text.strip().splitlines():
        command, hash, comment = example.strip().partition("  # ")
        if len(example.strip()) + _GAP <= width:
            yield f"  {command}{f'{hash}{comment}' if hash else ''}"
            continue
        if hash:
            yield from console.wrapped(f"# {comment}", width, "  # ", "  ")
        line = " "
        for word in _pieces(command, width - 8):
            if len(line) + len(word) + 3 > width and line.strip():
                yield f"{line} \\"
                line = "     "
            line += f" {word}"
        yield line


def _pieces(command: str, room: int) -> Iterator[str]:
    """Yield the words of a command, an option with its value where that fits."""
    for word in _WORD.findall(command):
        yield from [word] if len(word) <= room else word.split(" ", 1)


def _first_sentence(text: str) -> str:
    line = inspect.cleandoc(text).split("\n", 1)[0]
    return line.split(". ", 1)[0].removesuffix(".")


def _heading(text: str) -> str:
    return _painted(f"{text}:", _BOLD)


def _painted(text: str, style: str) -> str:
    coloured = console.stdout.is_terminal and not (console.stdout.no_color or console.stdout.is_dumb_terminal)
    return f"{style}{text}{_PLAIN}" if coloured else text
