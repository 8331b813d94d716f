"""The pages of an Ogg stream (RFC 3533): its comments, and a serial number that does not change.

libsndfile draws the serial number of a stream at random, so that the same sound never gives the same bytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from fishcli.errors import InputError

SERIAL = 0x66697368  # "fish"
_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _UNFINISHED = 1, -1
_MAX_SEGMENTS = 255  # of a page, of 255 bytes each
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """A page: its flags, the position in the stream, the sizes of its segments, and their bytes."""

    flags: int
    granule: int
    sizes: bytes
    body: bytes


def pages(file: BinaryIO) -> Iterator[Page]:
    """Yield the pages of a stream from where it stands. Raises InputError for one that is damaged."""
    while head := file.read(_HEADER.size):
        if len(head) < _HEADER.size or head[:4] != b"OggS":
            raise InputError("The sound is no Ogg stream, or damaged; make it again.")
        _, _, flags, granule, _, _, _, count = _HEADER.unpack(head)
        sizes = file.read(count)
        yield Page(flags, granule, sizes, file.read(sum(sizes)))


def packed(found: Iterable[Page], serial: int = SERIAL) -> Iterator[bytes]:
    """Yield pages as bytes, numbered from 0, in a stream of a serial number."""
    for number, page in enumerate(found):
        head = (b"OggS", 0, page.flags, page.granule, serial, number)
        data = _HEADER.pack(*head, 0, len(page.sizes)) + page.sizes + page.body
        yield _HEADER.pack(*head, _checksum(data), len(page.sizes)) + page.sizes + page.body


def repeatable(data: bytes) -> bytes:
    """Return the bytes of an Ogg file with the serial number that does not change. Raises InputError if damaged."""
    return b"".join(packed(pages(io.BytesIO(data))))


def with_packet(found: Iterator[Page], packet: bytes) -> Iterator[Page]:
    """Yield the pages of a stream, with its second packet, which holds the comments, replaced.

    The packet must end its page, as it does in Opus.
    """
    yield next(found)
    for page in found:
        if not page.sizes or page.sizes[-1] < 255:
            break
    yield from _of_packet(packet)
    yield from found


def _of_packet(packet: bytes) -> Iterator[Page]:
    """Yield the pages of one packet. Its last segment is shorter than 255 bytes, and may be empty."""
    sizes = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    for start in range(0, len(sizes), _MAX_SEGMENTS):
        part = sizes[start : start + _MAX_SEGMENTS]
        last = start + len(part) == len(sizes)
        body = packet[255 * start : 255 * start + sum(part)]
        yield Page(_CONTINUED if start else 0, 0 if last else _UNFINISHED, part, body)


def _checksum(data: bytes) -> int:
    """Return the CRC-32 of Ogg: that of zlib with the bits of each byte the other way round, from 0, not inverted."""
    mirrored = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
