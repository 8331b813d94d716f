"""Complete the values of options and arguments. It runs at every press of Tab, so it imports nothing heavy.

Without an offer the shell completes file names.
"""

from collections.abc import Callable

import typer

from fishcli.config import SETTINGS, Setting

_SUBTYPES = ("PCM_16", "PCM_24", "FLOAT")  # those of WAV; `fishcli.audio` would import numpy
_ON_OR_OFF = ("true", "false")

Offer = Callable[[str], list[str]]


def models(incomplete: str) -> list[str]:
    """Return the names of the models on this machine."""
    from fishcli.checkpoints import local

    return [found.name for found in local.models() if found.name.startswith(incomplete)]


def voices(incomplete: str) -> list[tuple[str, str]]:
    """Return the names of the voices in the library, with their titles."""
    from fishcli.voices import Library

    known = Library.of_user().list()
    return [(each.name, each.title) for each in known if each.name.startswith(incomplete)]


def words(setting: Setting) -> Offer | None:
    """Return the completer for the values of a setting; None for a file, a number or free text."""
    if setting.kind == "model":
        return models
    named = _ON_OR_OFF if setting.kind == "bool" else setting.choices

    def offer(incomplete: str) -> list[str]:
        return [word for word in named if word.startswith(incomplete)]

    return offer if named else None


def subtypes(incomplete: str) -> list[str]:
    """Return the sample encodings."""
    return [word for word in _SUBTYPES if word.startswith(incomplete)]


def keys(incomplete: str) -> list[tuple[str, str]]:
    """Return the keys of settings, with their help."""
    return [(key, setting.help) for key, setting in SETTINGS.items() if key.startswith(incomplete)]


def value_of_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the values of the setting whose key precedes on the command line."""
    setting = SETTINGS.get(ctx.params.get("key") or "")
    offer = words(setting) if setting else None
    return offer(incomplete) if offer else []
