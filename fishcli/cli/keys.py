"""The API key of a server: from a file or the environment, since others can read a command line."""

from __future__ import annotations

import os
from pathlib import Path

from fishcli.cli import console
from fishcli.errors import InputError
from fishcli.files import open_regular

_VARIABLE = "FISHCLI_API_KEY"
_LONGEST = 4096  # bytes


def api_key(file: Path | None) -> str | None:
    """Return the key in a file, else that of the environment, if any. Raises InputError where it cannot be one."""
    if file is None:
        given = os.environ.get(_VARIABLE, "").strip()
        if given and not is_key(given):
            raise InputError(f"{_VARIABLE} must hold an API key: letters, digits and signs without spaces.")
        return given or None
    with open_regular(file) as opened:
        data = opened.read(_LONGEST + 1)
    key = data.decode("ascii", errors="replace").strip()
    if len(data) > _LONGEST or not is_key(key):
        raise InputError(f"{file} must hold an API key alone: one line of letters, digits and signs.", field="api_key")
    return key


def is_key(text: str) -> bool:
    """Return whether a text can be an API key, which is sent in a header."""
    return text.isascii() and text.isprintable() and " " not in text and text != ""


def typed(key: str | None) -> str | None:
    """Return a key of the command line, with a warning."""
    if key:
        console.warn("Others on this machine can read a key on the command line; pass it with --api-key-file.")
    return key
