"""One file that holds a voice: a ZIP of its recordings, transcripts, description and their checksums.

    voice.json                title, description, tags, ..., and the id
    00.wav, 00.lab, ...       recordings, each with its transcript
    SHA256SUMS                as `sha256sum` writes it

Nothing is ever unpacked to a path: an import gives the audio and the texts to `Library.add`, which checks them as it
does any other and makes up the names of the files.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

from fishcli import zips
from fishcli.errors import InputError, SettingError
from fishcli.voices import voice as voices
from fishcli.voices.recordings import suffix_of
from fishcli.voices.stored import NOTES
from fishcli.voices.voice import MAX_RECORDINGS, Voice

if TYPE_CHECKING:
    from fishcli.voices.library import Library

MAX_EXPORT = 2**28  # bytes, of the file and of all that is in it
_MAX_RATIO = 100  # of the content to the file; speech has 1 to 3
_MAX_NAMES = 2**16  # bytes of the directory of a ZIP, ten times that of the largest voice
_SUMS = "SHA256SUMS"
_FIELDS: tuple[str, ...] = ("title", "description", "tags", "visibility", "languages")
_MEMBER = re.compile(r"voice\.json|SHA256SUMS|(\d\d)\.(?:lab|[a-z][a-z0-9]{1,4})")
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")


class Exported(NamedTuple):
    """The contents of an export: the id, the fields of the description, the audio files and their transcripts."""

    id: str | None
    fields: dict[str, Any]
    recordings: list[bytes]
    texts: list[str]


def export_voice(library: Library, voice: Voice) -> bytes:
    """Return a voice as one file. The same voice gives the same bytes. Raises InputError."""
    notes = {"id": voice.id, "title": voice.title, "description": voice.description, "tags": list(voice.tags)}
    notes |= {"visibility": voice.visibility, "languages": list(voice.languages)}
    members = {NOTES: json.dumps(notes, ensure_ascii=False, indent=1).encode(errors="backslashreplace")}
    for number, (recording, data) in enumerate(library.contents(voice)):
        members[f"{number:02}{suffix_of(data)}"] = data
        if recording.text:
            members[f"{number:02}.lab"] = recording.text.encode()
    members[_SUMS] = "".join(f"{_digest(data)}  {name}\n" for name, data in members.items()).encode()
    if sum(map(len, members.values())) > MAX_EXPORT:
        raise InputError(f"The voice {voice.name} has over {MAX_EXPORT // 2**20} MiB; shorten its recordings.")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # stored: sound hardly gets smaller
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def read_export(data: bytes, name: str) -> Exported:
    """Return the content of an exported file, all checksums verified, to be given to `Library.add`.

    `name` stands for the file in messages. Raises InputError for a file that is no export of a voice, or damaged.
    """
    try:
        members = _members(data)
        _verify(members)
        fields = voices.read_description(members[NOTES])
        id = fields.get("id")
        texts = [members[f"{stem}.lab"].decode() if f"{stem}.lab" in members else "" for stem in _stems(members)]
        known = {key: fields[key] for key in _FIELDS if key in fields}
        if "title" not in known:
            raise ValueError("the voice has no title")
        return Exported(None if id is None else voices.check_id(id), known, _recordings(members), texts)
    except (*zips.FAULTS, SettingError) as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise InputError(f"{name} is no export of a voice, or damaged ({reason}); export the voice again.") from error


def _members(data: bytes) -> dict[str, bytes]:
    """Return the content of a ZIP by name. Raises one of `zips.FAULTS`."""
    file = io.BytesIO(data)
    zips.check_directory(file, MAX_EXPORT, 2 * MAX_RECORDINGS + 2, _MAX_NAMES)
    members: dict[str, bytes] = {}
    left = min(MAX_EXPORT, _MAX_RATIO * len(data))  # bytes
    with zipfile.ZipFile(file) as archive:
        if archive.comment or not data.startswith(b"PK\3\4"):
            raise ValueError("it has more than an export has")
        for info in archive.infolist():
            _check_member(info, members)
            with archive.open(info) as member:
                members[info.filename] = member.read(left + 1)
            left -= len(members[info.filename])
            if left < 0:
                raise ValueError("it unpacks to far more than it has")
    return members


def _check_member(info: zipfile.ZipInfo, seen: dict[str, bytes]) -> None:
    if not _MEMBER.fullmatch(info.filename) or info.filename in seen or zips.is_link_or_device(info):
        raise ValueError(f"its member {info.filename!r:.60} is not of a voice")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or zips.is_encrypted(info):
        raise ValueError(f"its member {info.filename} is packed in a way that is not read")


def _verify(members: dict[str, bytes]) -> None:
    """Raise ValueError unless exactly the members that have a checksum are there, with these."""
    lines = members.pop(_SUMS, b"").decode().splitlines()
    sums = {found[2]: found[1] for found in map(_SUM.fullmatch, lines) if found}
    if sums.keys() != members.keys() or NOTES not in sums:
        raise ValueError("its members are not those that were exported")
    for name, data in members.items():
        if sums[name] != _digest(data):
            raise ValueError(f"the checksum of {name} is wrong")


def _stems(members: dict[str, bytes]) -> list[str]:
    """Return the numbers of the recordings, in order. Raises ValueError for two of one number, or a text alone."""
    audio = sorted(name[:2] for name in members if name != NOTES and not name.endswith(".lab"))
    alone = {name[:2] for name in members if name.endswith(".lab")}.difference(audio)
    if len(set(audio)) != len(audio) or alone:
        raise ValueError("its recordings and texts do not match")
    return audio


def _recordings(members: dict[str, bytes]) -> list[bytes]:
    return [members[name] for name in sorted(members) if name != NOTES and not name.endswith(".lab")]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
