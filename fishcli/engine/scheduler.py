"""The policy of the engine: what the model thread does next. It decides, and touches no model, thread or clock."""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

LEAST_BLOCK = 32  # columns of a prefill at once
_SECONDS_PER_COLUMN = 0.002  # until the first prefill was timed
_SECONDS_PER_STEP = 0.03
_SECONDS_PER_PIECE = 0.03


class Playback(Protocol):
    """The playback of a sample."""

    def ahead(self, now: float) -> float:
        """Return the seconds of audio that wait to be played."""


class Runnable(Protocol):
    """A sequence that can take a decode step.

    `playback` is None where frames are wanted and no audio. `missing` counts the frames until its next piece.
    """

    @property
    def playback(self) -> Playback | None: ...

    @property
    def missing(self) -> int: ...


class Piece(Protocol):
    """A piece of audio whose codes are there."""

    @property
    def playback(self) -> Playback: ...


J = TypeVar("J")
R = TypeVar("R", bound=Runnable)
P = TypeVar("P", bound=Piece)


@dataclass(frozen=True)
class State(Generic[J, R, P]):
    """The work that is possible now. `joining` are prefills and other work in blocks, in the order of their turns."""

    now: float  # seconds, by any clock
    joining: List[J] = ()
    runnable: List[R] = ()
    pieces: List[P] = ()


@dataclass(frozen=True)
class Join(Generic[J]):
    """Go on with a prefill, by at most `columns`, or do a block of other work."""

    item: J
    columns: int


@dataclass(frozen=True)
class Step(Generic[R]):
    """Do one decode step of a batch."""

    batch: List[R]


@dataclass(frozen=True)
class Vocode(Generic[P]):
    """Decode one piece of audio."""

    piece: P


class Scheduler:
    """Picks the next piece of work.

    - Between two decode steps, at most one block of a prefill or piece of an encoding: a voice that joins stalls
      nobody. The block follows how far the running listeners are ahead.
    - Pieces of audio in the order in which their listeners would run out of audio, and before the next step unless
      the listener of a running sequence needs that step sooner.

    `block`: the most columns of a prefill at once; `exact`: whether fewer change no bits (see `Runner`).
    """

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.exact, self.block = True, 96  # until the runner is known
        self._joined = False  # since the last step
        self._column, self._step, self._piece = _SECONDS_PER_COLUMN, _SECONDS_PER_STEP, _SECONDS_PER_PIECE

    def next(self, state: State[J, R, P]) -> Join[J] | Step[R] | Vocode[P] | None:
        """Return what to do now; None when there is nothing to do."""
        work = self._pick(state)
        if isinstance(work, Join | Step):
            self._joined = isinstance(work, Join)
        return work

    def timed(self, work: Join[J] | Step[R] | Vocode[P], seconds: float, columns: int = 0) -> None:
        """Learn how long a piece of work took; `columns`: those that a prefill computed."""
        if isinstance(work, Step):
            self._step += 0.3 * (seconds - self._step)
        elif isinstance(work, Vocode):
            self._piece += 0.3 * (seconds - self._piece)
        elif columns:
            self._column += 0.3 * (seconds / columns - self._column)

    def _pick(self, state: State[J, R, P]) -> Join[J] | Step[R] | Vocode[P] | None:
        piece = min(state.pieces, key=lambda piece: piece.playback.ahead(state.now), default=None)
        ahead = piece.playback.ahead(state.now) if piece is not None else float("inf")
        urgent = ahead < LEAST_BLOCK * self._column + self._piece  # it would come too late after a block
        idle = not state.runnable and piece is None
        if state.joining and (idle or not self._joined) and not urgent:
            return Join(state.joining[0], self._block(state))
        if piece is not None and (not state.runnable or ahead - self._piece <= self._need(state)):
            return Vocode(piece)
        return Step(state.runnable[: self.max_batch]) if state.runnable else None

    def _need(self, state: State[J, R, P]) -> float:
        """Return the slack, in seconds, of the running sequence whose listener needs further steps first."""
        slacks = [
            playback.ahead(state.now) - each.missing * self._step
            for each in state.runnable
            if (playback := each.playback) is not None and each.missing
        ]
        return max(0.0, min(slacks, default=float("inf")))  # a first piece is urgent, but its delay is no underrun

    def _block(self, state: State[J, R, P]) -> int:
        """Return the columns of the next prefill block: as many as leave the running listeners with audio to play."""
        if not self.exact:
            return self.block
        playbacks = [*(each.playback for each in state.runnable), *(each.playback for each in state.pieces)]
        slack = min((each.ahead(state.now) for each in playbacks if each is not None), default=float("inf"))
        if slack == float("inf"):
            return self.block
        return min(max(int((slack - self._step) / self._column), LEAST_BLOCK), self.block)
