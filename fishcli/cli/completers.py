"""What the shell offers where a value is wanted. Run at every press of Tab, so nothing heavy is imported.

Where nothing is offered the shell completes files.
"""

from collections.abc import Callable

import typer

from fishcli.config import SETTINGS, Setting

_SUBTYPES = ("PCM_16", "PCM_24", "FLOAT")  # what a .wav can hold; `fishcli.audio` would import numpy
_ON_OR_OFF = ("true", "false")

Offer = Callable[[str], list[str]]


def models(incomplete: str) -> list[str]:
    """Models that are on this machine."""
    from fishcli.checkpoints import local

    return [found.name for found in local.models() if found.name.startswith(incomplete)]


def words(setting: Setting) -> Offer | None:
    """What to offer as the value of a setting; None for one that is a file or has no words."""
    if setting.kind == "model":
        return models
    named = _ON_OR_OFF if setting.kind == "bool" else setting.choices

    def offer(incomplete: str) -> list[str]:
        return [word for word in named if word.startswith(incomplete)]

    return offer if named else None


def subtypes(incomplete: str) -> list[str]:
    """How the samples of a file can be stored."""
    return [word for word in _SUBTYPES if word.startswith(incomplete)]


def keys(incomplete: str) -> list[tuple[str, str]]:
    """Settings by their key, with what each of them is."""
    return [(key, setting.help) for key, setting in SETTINGS.items() if key.startswith(incomplete)]


def value_of_key(ctx: typer.Context, incomplete: str) -> list[str]:
    """What the setting that stands before on the command line may be."""
    setting = SETTINGS.get(ctx.params.get("key") or "")
    offer = words(setting) if setting else None
    return offer(incomplete) if offer else []
