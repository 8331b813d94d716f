"""A voice: its recordings, and its description, which is kept in `voice.json`."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from fishcli.errors import FishError, InputError, SettingError

Visibility = Literal["public", "unlist", "private"]

MAX_RECORDINGS = 16
MAX_TITLE, MAX_TAGS, MAX_DESCRIPTION, MAX_TEXT = 200, 32, 5_000, 10_000  # characters, but the number of tags
_ID = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)\Z)[a-z0-9_-]{1,64}", re.IGNORECASE | re.ASCII)  # no device's name

_DRAWN = re.compile(r"[0-9a-f]{32}")


class VoiceMissing(FishError):
    """The library has no voice of that id or title."""

    exit_code = 3
    status = 404


class VoiceExists(InputError):
    """The library has a voice of that id already."""

    status = 409


class VoiceReadOnly(InputError):
    """The voice lies in a folder that is only read."""

    status = 403


def check_id(id: object) -> str:
    """Return an id of letters, digits, `_` and `-`. Raises SettingError for another."""
    if not isinstance(id, str) or not is_id(id):
        raise SettingError(
            f"A voice cannot have the id {id!r:.60}; use 1 to 64 letters, digits, _ and -.", field="voice"
        )
    return id


def is_id(name: str) -> bool:
    """Return whether a name may be an id. It is then safe as the name of a folder, on every system."""
    return _ID.fullmatch(name) is not None


def is_drawn(id: str) -> bool:
    """Return whether an id was drawn or digested from a name, and so says nothing to people."""
    return _DRAWN.fullmatch(id) is not None


@dataclass(frozen=True)
class Recording:
    """A recording of a voice: the name of its file in the voice's folder, and its transcript, "" if unknown."""

    name: str
    text: str


@dataclass(frozen=True)
class Voice:
    """A voice of the library. Its times are in UTC. `writable`: it may be changed and removed."""

    id: str
    title: str
    recordings: tuple[Recording, ...]
    description: str
    tags: tuple[str, ...]
    visibility: Visibility
    languages: tuple[str, ...]  # ISO 639-1
    created_at: datetime
    updated_at: datetime
    folder: Path
    writable: bool

    @property
    def name(self) -> str:
        """The name for people: its id, or its title where the id was drawn."""
        return self.title if is_drawn(self.id) else self.id


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a description, as JSON holds them. Raises SettingError for one that is wrong."""
    return {name: _CHECKS[name](name, value) for name, value in given.items()}


def check_transcript(text: object) -> str:
    """Return a transcript without white space around it. Raises SettingError for one that is too long, or no text."""
    return _text("texts", text, MAX_TEXT, "\n\r\t").strip()


def read_description(data: bytes) -> dict[str, Any]:
    """Return all fields of a `voice.json`, the known ones checked. Raises ValueError or SettingError."""
    try:
        fields = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")
    return fields | checked({name: value for name, value in fields.items() if name in _CHECKS})


def printable(name: str) -> str:
    """Return a file's name as text, without control characters and without bytes that are not UTF-8."""
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in name)


def now() -> str:
    """Return the time as `voice.json` holds it."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _text(name: str, value: object, limit: int, allowed: str = "") -> str:
    if not isinstance(value, str):
        raise SettingError(f"{name} must be text, not {type(value).__name__}.", field=name)
    if len(value) > limit:
        raise SettingError(f"{name} has {len(value):,} characters; use at most {limit:,}.", field=name)
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in allowed for letter in value):
        raise SettingError(f"{name} has a control character or half a surrogate pair; remove it.", field=name)
    return value


def _title(name: str, value: object) -> str:
    if not (title := _text(name, value, MAX_TITLE).strip()):
        raise SettingError(f"{name} is empty; give the voice a name.", field=name)
    return title


def _description(name: str, value: object) -> str:
    return _text(name, value, MAX_DESCRIPTION, "\n\r\t")


def _words(name: str, value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > MAX_TAGS:
        raise SettingError(f"{name} must be a list of at most {MAX_TAGS} words.", field=name)
    words = [_text(name, each, MAX_TITLE).strip() for each in value]
    return list(dict.fromkeys(filter(None, words)))


def _visibility(name: str, value: object) -> str:
    if value not in get_args(Visibility):
        raise SettingError(f"{name} must be {', '.join(get_args(Visibility))}, not {value!a:.40}.", field=name)
    return str(value)


def _time(name: str, value: object) -> str:
    try:
        if datetime.fromisoformat(_text(name, value, 40)).tzinfo is None:
            raise ValueError
        datetime.fromisoformat(str(value)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise SettingError(f"{name} must be a time such as 2026-01-31T12:00:00+00:00.", field=name) from None
    return str(value)


_CHECKS = {
    "title": _title,
    "description": _description,
    "tags": _words,
    "visibility": _visibility,
    "languages": _words,
    "created_at": _time,
    "updated_at": _time,
}
