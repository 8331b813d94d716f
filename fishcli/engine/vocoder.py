"""Frames of codes to pieces of audio: the sizes of the pieces, and the playback of a simulated listener."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from fishcli.engine.streams import Later
from fishcli.request import Codes, Frame, Samples

# Frames of a piece. On a CPU one frame alone takes twice as long as one of four, so a hundred milliseconds of waiting
# for the first sound buy a tenth of the time of all others.
FIRST_PIECE, LONGEST_PIECE = 4, 32

# A streaming decoder: it keeps its conv state between calls.
Decode = Callable[[Codes], Samples | Later[Samples]]


def piece_size(frame: int) -> int:
    """Return the frames of the piece that begins at a sample's frame of this index.

    The size depends on the index alone, so a seed gives the same bits of sound under any load. It doubles once a
    listener is far enough ahead to wait for a piece of twice the size, where making audio takes at most r = 0.8 of its
    duration: a piece of s frames after n others is in time if (n + s) r <= FIRST_PIECE r + n.
    """
    size = FIRST_PIECE
    while size < LONGEST_PIECE and frame >= 4 * (2 * size - FIRST_PIECE):  # 4 = r / (1 - r)
        size *= 2
    return size


class Vocoder:
    """Decodes the codes of one sample piece by piece. A piece never spans two chunks of the text."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._waiting: deque[Frame] = deque()
        self._decoded = 0  # frames

    @property
    def waiting(self) -> int:
        """Frames that are not decoded yet."""
        return len(self._waiting)

    def push(self, frame: Frame) -> None:
        """Take the next frame of the sample."""
        self._waiting.append(frame)

    @property
    def missing(self) -> int:
        """Frames until the next piece can be decoded; 0 when it is complete."""
        size = piece_size(self._decoded)
        if len(self._waiting) >= size or any(frame.ended is not None for frame in self._waiting):
            return 0
        return size - len(self._waiting)

    def decode(self) -> tuple[Frame, Samples | Later[Samples]]:
        """Decode the next piece -> its last frame, with all of its codes (K, frames), and its samples."""
        piece: list[Frame] = []
        size = piece_size(self._decoded)
        while len(piece) < size:
            piece.append(self._waiting.popleft())
            if piece[-1].ended is not None:
                break
        codes = np.concatenate([frame.codes for frame in piece], axis=1)
        self._decoded += codes.shape[1]
        return piece[-1]._replace(codes=codes), self._decode(codes)


class Playback:
    """A listener who starts at the first piece and plays whatever has arrived, by the engine's clock (seconds)."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._seconds = 0.0  # of audio delivered

    def deliver(self, seconds: float, now: float) -> None:
        """Note that a piece was delivered."""
        earliest = now - self._seconds  # after an underrun, playback goes on from here
        self._started = earliest if self._started is None else max(self._started, earliest)
        self._seconds += seconds

    def ahead(self, now: float) -> float:
        """Return the seconds of audio that wait to be played; 0 before the first piece, negative in an underrun."""
        return 0.0 if self._started is None else self._seconds - (now - self._started)

    @property
    def started(self) -> bool:
        """Whether the listener has heard anything."""
        return self._started is not None
