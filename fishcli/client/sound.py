"""Read sound as it comes from a server: a streamed WAV, or bare samples (pcm)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fishcli.errors import NetworkError

if TYPE_CHECKING:
    from fishcli.request import Samples

UNKNOWN = 4_294_967_040  # bytes of samples by the header of a stream; any size from `_ENDLESS` on is none
_ENDLESS = 0x7FFF_F000
_LONGEST_HEADER = 2**16  # bytes
_RATES = (1_000, 384_000)  # Hz


@dataclass(frozen=True)
class Layout:
    """The layout of samples in bytes: 16 bit integers or 32 bit floats, little-endian, one or two channels."""

    rate: int  # Hz
    channels: int = 1
    floats: bool = False

    @property
    def width(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * (4 if self.floats else 2)

    def samples(self, data: bytes) -> Samples:
        """Return whole samples as (n,) float32; two channels are mixed down."""
        import numpy as np

        if self.floats:
            found = np.frombuffer(data, "<f4").astype(np.float32)
        else:
            found = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
        return found.reshape(-1, self.channels).mean(axis=1, dtype=np.float32) if self.channels > 1 else found

    def header(self, size: int = UNKNOWN) -> bytes:
        """Return the header (44 bytes) of a WAV with so many bytes of samples."""
        tag, bits = (3, 32) if self.floats else (1, 16)
        form = struct.pack("<HHIIHH", tag, self.channels, self.rate, self.rate * self.width, self.width, bits)
        return struct.pack("<4sI4s4sI16s4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, form, b"data", size)


class Pcm:
    """Cuts bare samples into whole ones. `layout` is given, since the bytes do not tell it."""

    def __init__(self, layout: Layout) -> None:
        self.layout: Layout | None = layout
        self._width = layout.width
        self._left = b""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the samples that are complete."""
        data = self._left + data
        whole = len(data) // self._width * self._width
        self._left = data[whole:]
        return data[:whole]

    def end(self) -> None:
        """Raise NetworkError where the last sample is cut in two."""
        if self._left:
            raise NetworkError("The sound from the server ends within a sample.")


class Wav:
    """Takes a WAV apart. `layout` is None until its header has come. Sizes of a stream are not believed."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self._head = b""
        self._pcm: Pcm | None = None
        self._expected: int | None = None  # bytes of samples that are still to come; None: nobody knows

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the samples that are complete. Raises NetworkError for what is no WAV of ours."""
        if self._pcm is None:
            self._head += data
            data = self._parse()
        if self._pcm is None:
            return b""
        if self._expected is not None:
            data = data[: self._expected]  # what follows the samples is no sound
            self._expected -= len(data)
        return self._pcm.feed(data)

    def end(self) -> None:
        """Raise NetworkError where the sound is shorter than its header says, or there is none."""
        if self._pcm is None or self._expected:
            raise NetworkError("The WAV from the server is cut off.")
        self._pcm.end()

    def _parse(self) -> bytes:
        """Read the header as far as it has come; return the bytes behind it."""
        head = self._head
        if not b"RIFF".startswith(head[:4]) or (len(head) >= 12 and head[8:12] != b"WAVE"):
            raise NetworkError("The server sent something else than a WAV.")
        place, form = 12, b""
        while len(head) >= place + 8:
            name, size = struct.unpack("<4sI", head[place : place + 8])
            place += 8
            if name == b"data":
                self.layout = _layout(form)
                self._pcm = Pcm(self.layout)
                self._expected = None if size >= _ENDLESS else size
                self._head = b""
                return head[place:]
            if name == b"fmt ":
                form = head[place : place + size]
            place += size + size % 2
            if place > _LONGEST_HEADER:
                raise NetworkError("The WAV from the server has no sound in its first 64 KB.")
        return b""


def _layout(form: bytes) -> Layout:
    """Return the layout in a `fmt ` chunk."""
    if len(form) < 16:
        raise NetworkError("The WAV from the server does not tell its format.")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", form[:16])
    if (tag, bits) not in ((1, 16), (3, 32)) or channels not in (1, 2) or not _RATES[0] <= rate <= _RATES[1]:
        found = f"{channels} channels of {bits} bit at {rate} Hz, format {tag}"
        raise NetworkError(f"The WAV from the server is of a kind that is not read ({found}).")
    return Layout(rate, channels, tag == 3)
