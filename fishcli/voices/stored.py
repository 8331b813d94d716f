"""Read a voice from its folder, which may come from anywhere: a download, a repository, another program."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fishcli.errors import SettingError
from fishcli.voices import voice as voices
from fishcli.voices.folder import Folder
from fishcli.voices.voice import Recording, Voice

NOTES = "voice.json"
_MAX_NOTES = 2**18  # bytes of a transcript or of voice.json
_LAST = 253_402_300_799.0  # seconds since 1970 of the last second that a datetime has

# What `fishcli.audio.read` takes, by suffix.
_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".rf64"}
_SUFFIXES |= {".m4a", ".mp4", ".mov", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr", ".caf", ".au", ".w64", ".wv"}

Warn = Callable[[str], None]


def open_voice(path: Path, writable: bool, warn: Warn) -> Voice | None:
    """Return the voice in a folder, None if it has no recording or is a link. Damaged notes are a warning."""
    try:
        with Folder(path) as folder:
            there = folder.files()
            names = [each for each in there if Path(each).suffix.lower() in _SUFFIXES and each[0] != "."]
            recordings = [Recording(each, _transcript(folder, there, each, path, warn)) for each in names]
            notes = _notes(folder, path, warn) if NOTES in there else {}
    except OSError:
        return None
    if len(recordings) > voices.MAX_RECORDINGS:
        warn(f"{path} has more than {voices.MAX_RECORDINGS} recordings; only the first ones are used.")
    return _voice(path, recordings, [there[each] for each in names], notes, writable) if recordings else None


def kept_notes(path: Path, warn: Warn) -> dict[str, Any]:
    """Return what the voice.json in a folder says, fields of later versions too; {} where there is none."""
    try:
        with Folder(path) as folder:
            return _notes(folder, path, warn)
    except OSError:
        return {}


def id_of(name: str) -> str:
    """Return the id of the voice in a folder: its name, or a digest of a name that cannot be an id."""
    return name if voices.is_id(name) else hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def _voice(path: Path, recordings: list[Recording], times: list[float], notes: dict[str, Any], writable: bool) -> Voice:
    return Voice(
        id=id_of(path.name),
        title=notes.get("title") or voices.printable(path.name),
        recordings=tuple(recordings[: voices.MAX_RECORDINGS]),
        description=notes.get("description", ""),
        tags=tuple(notes.get("tags", ())),
        visibility=notes.get("visibility", "private"),
        languages=tuple(notes.get("languages", ())),
        created_at=_time(notes.get("created_at"), min(times)),
        updated_at=_time(notes.get("updated_at"), max(times)),
        folder=path,
        writable=writable,
    )


def _transcript(folder: Folder, there: dict[str, float], recording: str, path: Path, warn: Warn) -> str:
    """Return the text in the .lab or .txt file of a recording, "" if it has none."""
    for name in (f"{Path(recording).stem}.lab", f"{Path(recording).stem}.txt"):
        if name in there:
            try:
                if text := voices.check_transcript(folder.read(name, _MAX_NOTES).decode("utf-8-sig")):
                    return text
            except (OSError, ValueError, SettingError):
                warn(f"{path / name} is no transcript: it is too long or not UTF-8 text; correct it.")
    return ""


def _notes(folder: Folder, path: Path, warn: Warn) -> dict[str, Any]:
    try:
        return voices.read_description(folder.read(NOTES, _MAX_NOTES))
    except (ValueError, SettingError) as error:
        warn(f"{path / NOTES} cannot be used ({str(error).rstrip('.')}); correct or remove it.")
        return {}


def _time(noted: str | None, changed: float) -> datetime:
    if noted:
        return datetime.fromisoformat(noted).astimezone(timezone.utc)
    return datetime.fromtimestamp(min(max(changed, 0.0), _LAST), timezone.utc)
