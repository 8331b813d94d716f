"""The policy of the engine: what the model thread does next. It decides, and touches no model, thread or clock."""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import Protocol

BLOCK = 128  # columns of a prefill at once by PyTorch, which smaller blocks only slow down; bounds its memory
_LEAST_BLOCK, _MOST_BLOCK = (
    32,
    96,
)  # columns: as listeners allow; Ctrl-C must take effect within 200 ms
_SECONDS_PER_COLUMN = 0.002  # until the first prefill was timed
_SECONDS_PER_STEP = 0.03
_SECONDS_PER_PIECE = 0.03


class Listener(Protocol):
    """The playback of a sample."""

    def ahead(self, now: float) -> float:
        """Return the seconds of audio that wait to be played."""


class Runnable(Protocol):
    """A sequence that can take a decode step.

    `listener` is None where frames are wanted and no audio. `missing` counts the frames until its next piece.
    """

    @property
    def listener(self) -> Listener | None: ...

    @property
    def missing(self) -> int: ...


class Piece(Protocol):
    """A piece of audio whose codes are there."""

    @property
    def listener(self) -> Listener: ...


@dataclass(frozen=True)
class State:
    """What could be done now. `joining`: prefills and encodings, the first one first."""

    now: float  # seconds, by any clock
    joining: List[object] = ()
    runnable: List[Runnable] = ()
    pieces: List[Piece] = ()


@dataclass(frozen=True)
class Join:
    """Go on with a prefill, by at most `columns`, or with an encoding, by one piece."""

    item: object
    columns: int


@dataclass(frozen=True)
class Step:
    """One decode step of a batch."""

    batch: List[Runnable]


@dataclass(frozen=True)
class Vocode:
    """Decode one piece of audio."""

    piece: Piece


Work = Join | Step | Vocode


class Scheduler:
    """Picks the next piece of work.

    - Between two decode steps, at most one block of a prefill or piece of an encoding: a voice that joins stalls
      nobody. The block follows how far the running listeners are ahead.
    - Pieces of audio in the order in which their listeners would run dry, and before the next step unless the
      listener of a running sequence needs that step sooner.

    `exact`: whether the blocks of a prefill may have any size without a change of bits (see `Runner.exact`).
    """

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.exact = True
        self._joined = False  # since the last step
        self._column, self._step, self._piece = _SECONDS_PER_COLUMN, _SECONDS_PER_STEP, _SECONDS_PER_PIECE

    def next(self, state: State) -> Work | None:
        """Return what to do now; None when there is nothing to do."""
        work = self._pick(state)
        if work is not None:
            self._joined = isinstance(work, Join) or (self._joined and not isinstance(work, Step))
        return work

    def timed(self, work: Work, seconds: float, columns: int = 0) -> None:
        """Learn how long a piece of work took; `columns`: those that a prefill computed."""
        if isinstance(work, Join):
            self._column += 0.3 * (seconds / columns - self._column) if columns else 0.0
        elif isinstance(work, Step):
            self._step += 0.3 * (seconds - self._step)
        elif isinstance(work, Vocode):
            self._piece += 0.3 * (seconds - self._piece)

    def _pick(self, state: State) -> Work | None:
        piece = min(state.pieces, key=lambda piece: piece.listener.ahead(state.now), default=None)
        idle = not state.runnable and piece is None
        if state.joining and (idle or not self._joined) and not self._urgent(piece, state.now):
            return Join(state.joining[0], self._block(state))
        if piece is not None and piece.listener.ahead(state.now) - self._piece <= self._need(state):
            return Vocode(piece)
        if state.runnable:
            return Step(state.runnable[: self.max_batch])
        if piece is not None:
            return Vocode(piece)
        return None

    def _urgent(self, piece: Piece | None, now: float) -> bool:
        """Whether the listener of a complete piece would run dry during a block of a prefill."""
        return piece is not None and piece.listener.ahead(now) < _LEAST_BLOCK * self._column + self._piece

    def _need(self, state: State) -> float:
        """Return the slack, in seconds, of the running sequence whose listener needs further steps first."""
        listening = [each for each in state.runnable if each.listener is not None and each.missing]
        slacks = [each.listener.ahead(state.now) - each.missing * self._step for each in listening if each.listener]
        return max(0.0, min(slacks, default=float("inf")))  # a first piece is urgent, but makes nobody run dry

    def _block(self, state: State) -> int:
        """Return the columns of the next prefill block: as many as the running listeners do not miss."""
        if not self.exact:
            return BLOCK
        listeners = [*(each.listener for each in state.runnable), *(each.listener for each in state.pieces)]
        ahead = [listener.ahead(state.now) for listener in listeners if listener]
        if not ahead:
            return _MOST_BLOCK
        columns = int((min(ahead) - self._step) / self._column)
        return min(max(columns, _LEAST_BLOCK), _MOST_BLOCK)
