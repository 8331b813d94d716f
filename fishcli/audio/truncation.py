"""Tell whether a recording was cut off, as by a copy that broke off: its header promises more than the file holds.

libsndfile decodes such a file without a word. A FLAC needs no test, for it is refused.
"""

import os
import struct
from typing import BinaryIO

_SLACK = 0.02  # of the promised size: writers differ in what they count
_UNKNOWN_LENGTH = 0x7FFF_F000  # and above: what programs write that stream a WAV
_MAX_CHUNKS = 100
_MAX_PAGE = 65_307  # bytes of an Ogg page


def is_cut_off(file: BinaryIO) -> bool:
    """Return whether a WAV, AIFF, Ogg or MP3 file is shorter than it says. The file is read from its start."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] in (b"RIFF", b"FORM"):
        return _is_short(*_sound_chunk(file, size, "<I" if start[:4] == b"RIFF" else ">I"))
    if start[:4] == b"OggS":
        return _last_page_is_cut(file, size)
    if start[:4] in (b"RF64", b"fLaC"):
        return False
    return _is_short(*_mp3_stream(file, size))


def _is_short(promised: int, found: int) -> bool:
    return promised < _UNKNOWN_LENGTH and found < promised * (1 - _SLACK)


def _sound_chunk(file: BinaryIO, size: int, number: str) -> tuple[int, int]:
    """Return the bytes of sound that a WAV or AIFF promises, and those that are there."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        chunk = file.read(8)
        if len(chunk) < 8:
            break
        (length,) = struct.unpack(number, chunk[4:])
        if chunk[:4] in (b"data", b"SSND"):
            return length, size - position - 8
        position += 8 + length + length % 2
    return 0, 0


def _last_page_is_cut(file: BinaryIO, size: int) -> bool:
    file.seek(max(0, size - _MAX_PAGE - 1))
    tail = file.read(_MAX_PAGE + 1)
    page = tail[tail.rfind(b"OggS") :]
    if not page.startswith(b"OggS"):
        return False
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) < 27 or len(page) < 27 + page[26] or len(page) < 27 + page[26] + sum(segments)


def _mp3_stream(file: BinaryIO, size: int) -> tuple[int, int]:
    """Return the bytes of an MP3 stream that the tag of its encoder promises, and those that are there."""
    file.seek(0)
    start = file.read(10)
    position = 0
    if start[:3] == b"ID3" and len(start) == 10:
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))
    file.seek(position)
    frame = file.read(64)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + 16:
        return 0, 0
    flags, *numbers = struct.unpack(">III", frame[tag + 4 : tag + 16])
    if not flags & 2:  # it does not tell
        return 0, 0
    return numbers[flags & 1], size - position
