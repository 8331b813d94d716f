"""Arrange the words of a command line before the parser reads them, so that a text may start with a dash."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from fishcli.cli import mistakes

_NAME = re.compile(r"--?[^\W\d][\w-]*")  # the shape of an option
_WORD = re.compile(r"[\w']+[.!?]*")  # the value of an option that takes a file has another shape


def arrange(ctx: Any, words: Sequence[str]) -> list[str]:
    """Return the options of a command and then, behind `--`, its positional arguments. Raises a usage error.

    A word that starts with a dash and cannot be an option is a positional argument: `-5 degrees`, `- an item`.
    """
    takes_value = _takes_value(ctx)
    options: list[str] = []
    positional: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            positional += rest
        elif found := _option(word, takes_value):
            name, value = found
            options.append(word)
            if takes_value[name] and value is None:
                options.append(_next(ctx, name, rest))
            elif not takes_value[name] and value is not None:
                ctx.fail(f"{name} takes no value.")
        elif word.startswith("-") and _NAME.fullmatch(word.partition("=")[0]):
            ctx.fail(mistakes.unknown_option(ctx, word))
        else:
            positional.append(word)
    if not positional:
        _refuse_glued_text(ctx, options)
    mistakes.check_count(ctx, positional)
    return [*options, "--", *positional] if positional else options


def check_options(ctx: Any, words: Sequence[str]) -> None:
    """Raise a usage error for an unknown option before the command. None of those options takes a value."""
    known = _takes_value(ctx)
    for word in itertools.takewhile(lambda word: word.startswith("-"), words):
        if not _option(word, known) and _NAME.fullmatch(word.partition("=")[0]):
            ctx.fail(mistakes.unknown_option(ctx, word))
        if not _option(word, known) and word != "--":
            ctx.fail(mistakes.unknown_command(ctx.command, ctx.command_path, [word]))


def _takes_value(ctx: Any) -> dict[str, bool]:
    """Return every option of the command, and whether a value follows it."""
    options = (each for each in ctx.command.get_params(ctx) if each.param_type_name == "option")
    return {name: not each.is_flag for each in options for name in (*each.opts, *each.secondary_opts)}


def _option(word: str, takes_value: dict[str, bool]) -> tuple[str, str | None] | None:
    """Return the last option in a word and the value in it, if any; None if the word is not an option.

    `--seed` and `--seed=3`; `-q`, `-qv`, `-qo` and `-oout.wav`.
    """
    name, equals, value = word.partition("=")
    if name in takes_value:
        return name, value if equals else None
    if not word.startswith("-") or word.startswith("--"):
        return None
    for at, letter in enumerate(word[1:], 1):
        if (short := f"-{letter}") not in takes_value:
            return None
        if takes_value[short] and (value := word[at + 1 :]):
            # `-oh no, not again` is a text, and `-omy file.wav` is not.
            return None if " " in value and not re.search(r"\.\w+$", value) else (short, value)
    return (short, None) if len(word) > 1 else None


def _next(ctx: Any, name: str, rest: Any) -> str:
    """Return the word behind an option."""
    value = next(rest, None)
    if value is None:
        ctx.fail(f"{name} needs a value: {mistakes.expected(_parameter(ctx, name))}.")
    return str(value)


def _parameter(ctx: Any, name: str) -> Any:
    return next(each for each in ctx.command.get_params(ctx) if name in (*each.opts, *each.secondary_opts))


def _refuse_glued_text(ctx: Any, options: Sequence[str]) -> None:
    """Raise a usage error for `say -ouch`, which would write to a file named `uch`."""
    if not mistakes.takes_text(ctx.command):
        return
    for word in options:
        if word.startswith("-o") and _WORD.fullmatch(word[2:]):
            text = mistakes.quoted(word)
            ctx.fail(f"{word} means -o {word[2:]}; to speak it, type `{ctx.command_path} -- {text}`.")
