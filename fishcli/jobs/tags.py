"""Titles and chapters in sound files, as players read them.

MP3 gets ID3v2.4 with the frames CHAP and CTOC, FLAC and Opus get Vorbis comments (CHAPTER001=00:01:02.500 and
CHAPTER001NAME=...), which VLC, mpv, foobar2000 and audiobook players show.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, NamedTuple

from fishcli.audio import ogg
from fishcli.errors import InputError

_VENDOR = b"fishcli"
_COMMENTS, _LAST = 4, 0x80  # a kind of FLAC block, and the flag of the last one
_MAX_COMMENTS = 2**24 - 1  # bytes of a FLAC block
_MAX_LISTED = 255  # chapters in a table of contents of ID3
_NO_OFFSET = 2**32 - 1


class Mark(NamedTuple):
    """A chapter in a file, from `start` to `end`, in seconds."""

    title: str
    start: float
    end: float


@dataclass(frozen=True)
class Tags:
    """The tags of a file. `chapters` are those inside it; a file of one chapter has none, but a `track`."""

    title: str
    album: str = ""
    track: int = 0
    tracks: int = 0
    chapters: Sequence[Mark] = ()


def copy(format: str, source: BinaryIO, target: BinaryIO, tags: Tags) -> None:
    """Copy a FLAC, MP3 or Opus file from its start, with its tags. Raises InputError if it is damaged."""
    source.seek(0)
    if format == "mp3":
        target.write(_id3(tags))
        shutil.copyfileobj(source, target)
    elif format == "flac":
        _copy_flac(source, target, _comments(tags)[:_MAX_COMMENTS])
    else:
        found = ogg.with_packet(ogg.pages(source), b"OpusTags" + _comments(tags))
        for page in ogg.packed(found):
            target.write(page)


def _copy_flac(source: BinaryIO, target: BinaryIO, comments: bytes) -> None:
    """Copy a FLAC file with its comments replaced. They are the last block, before the frames of sound."""
    if source.read(4) != b"fLaC":
        raise InputError("The sound is no FLAC file, or damaged; make it again.")
    target.write(b"fLaC")
    last = False
    while not last:
        head = source.read(4)
        if len(head) < 4:
            raise InputError("The sound is cut off; make it again.")
        kind, last, size = head[0] & ~_LAST, bool(head[0] & _LAST), int.from_bytes(head[1:], "big")
        block = source.read(size)
        if kind != _COMMENTS:
            target.write(bytes([kind]) + head[1:] + block)
    target.write(bytes([_COMMENTS | _LAST]) + len(comments).to_bytes(3, "big") + comments)
    shutil.copyfileobj(source, target)


def _comments(tags: Tags) -> bytes:
    """Return a list of Vorbis comments."""
    fields = [f"TITLE={tags.title}"]
    fields += [f"ALBUM={tags.album}"] if tags.album else []
    fields += [f"TRACKNUMBER={tags.track}", f"TRACKTOTAL={tags.tracks}"] if tags.track else []
    for number, chapter in enumerate(tags.chapters, 1):
        milliseconds = round(chapter.start * 1000)
        minutes, rest = divmod(milliseconds, 60_000)
        time = f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
        fields += [f"CHAPTER{number:03}={time}", f"CHAPTER{number:03}NAME={chapter.title}"]
    encoded = [field.encode() for field in fields]
    parts = (struct.pack("<I", len(each)) + each for each in encoded)
    return struct.pack("<I", len(_VENDOR)) + _VENDOR + struct.pack("<I", len(encoded)) + b"".join(parts)


def _id3(tags: Tags) -> bytes:
    """Return an ID3v2.4 tag."""
    frames = [_text("TIT2", tags.title)]
    frames += [_text("TALB", tags.album)] if tags.album else []
    frames += [_text("TRCK", f"{tags.track}/{tags.tracks}")] if tags.track else []
    body = b"".join(chain(frames, _id3_chapters(tags.chapters)))
    return b"ID3\4\0\0" + _syncsafe(len(body)) + body


def _id3_chapters(chapters: Sequence[Mark]) -> Iterator[bytes]:
    names = [f"chp{number}".encode() + b"\0" for number in range(len(chapters))]
    if 0 < len(names) <= _MAX_LISTED:
        yield _frame("CTOC", b"toc\0\3" + bytes([len(names)]) + b"".join(names))
    for name, chapter in zip(names, chapters, strict=True):
        times = (round(chapter.start * 1000), round(chapter.end * 1000))
        yield _frame("CHAP", name + struct.pack(">4I", *times, _NO_OFFSET, _NO_OFFSET) + _text("TIT2", chapter.title))


def _text(id: str, text: str) -> bytes:
    return _frame(id, b"\3" + text.encode())  # 3: UTF-8


def _frame(id: str, body: bytes) -> bytes:
    return id.encode() + _syncsafe(len(body)) + b"\0\0" + body


def _syncsafe(size: int) -> bytes:
    """Return a size as four bytes of seven bits."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
