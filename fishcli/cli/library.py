"""The library of the user at the prompt: a voice by its name, and what was probably meant by another."""

from __future__ import annotations

import difflib
from typing import Any

from fishcli.voices import Library, Voice, VoiceExists, VoiceMissing, is_id, printable


def find(name: str) -> tuple[Library, Voice]:
    """Return the library and the voice of a name. Raises VoiceMissing, which names the nearest one."""
    library = Library.of_user()
    try:
        return library, library.find(name)
    except VoiceMissing as error:
        known = [each.name for each in library.list()]
        if near := difflib.get_close_matches(name, known, 1):
            raise VoiceMissing(f"There is no voice {name[:64]!r}; did you mean {near[0]}?") from error
        if not known:
            raise VoiceMissing("There are no voices yet; `fish voices add NAME AUDIO` adds one.") from error
        raise


def new_id(library: Library, name: str) -> str | None:
    """Return the id of a new voice: its name where that can be one; None: it is drawn. Raises VoiceExists."""
    try:
        known = library.find(name)
    except VoiceMissing:
        return name if is_id(name) else None
    if known.writable:
        raise VoiceExists(f"There is a voice {known.name} already; choose another name, or remove it first.")
    return name if is_id(name) else None  # it hides the one that is only read


def path(voice: Voice) -> str:
    """Return where a voice lies; the name of a folder may hold what a terminal would obey."""
    return printable(str(voice.folder))


def as_dict(voice: Voice) -> dict[str, Any]:
    """Return a voice for --json."""
    return {
        "id": voice.id,
        "title": voice.title,
        "description": voice.description,
        "tags": list(voice.tags),
        "languages": list(voice.languages),
        "path": str(voice.folder),
        "writable": voice.writable,
        "updated_at": voice.updated_at.isoformat(),
        "recordings": [{"name": each.name, "text": each.text} for each in voice.recordings],
    }
