"""A sequence: one stream of codes being generated, chunk after chunk of a text."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

from fishcli.engine.attempts import Attempt, Attempts
from fishcli.engine.kv_pool import Slot
from fishcli.engine.prepared import Prepared
from fishcli.errors import FishError
from fishcli.lm.prompt import Columns
from fishcli.lm.sampling import WINDOW
from fishcli.request import Codes, Frame, Span


class Sequence:
    """The chunks of a sample that share a context. Each is generated after a prompt that holds the ones before.

    `chunks` are those still to generate, the current one first; `length` columns are known, and the keys and values of
    `computed` of them are in the cache. `slot` is None while the sequence waits.
    """

    def __init__(self, prepared: Prepared, sample: int, place: int) -> None:
        self.prepared = prepared
        self.sample = sample
        self.params = prepared.request.sampling
        self.chunks: deque[Span] = deque()
        self.open = False  # whether further chunks may come
        self.slot: Slot | None = None
        self.columns: Columns = np.empty((prepared.codebooks + 1, 0), np.int64)
        self.length = self.computed = 0
        self.history = np.empty((prepared.codebooks, WINDOW), np.int64)
        self._width = 0  # of the prompt of the current chunk; 0: it has none yet
        self._left = 0  # frames that the chunk may still take
        self._turns = list(prepared.earlier)
        self._uniforms: Tensor | None = None
        self._attempts = Attempts(prepared, prepared.request.seed + sample, place)

    @property
    def finished(self) -> bool:
        """Whether every chunk has been generated, and no other will come."""
        return not self.open and not self.chunks  # a feeder adds a chunk before it clears `open`

    @property
    def start(self) -> int:
        """The first position of its slot in the KV cache. Raises RuntimeError while it waits for one."""
        if self.slot is None:
            raise RuntimeError("The sequence has no slot of the KV cache.")
        return self.slot.start

    @property
    def started(self) -> bool:
        """Whether it has had a slot."""
        return self.columns.shape[1] > 0

    @property
    def prefilled(self) -> bool:
        """Whether the current chunk can take a decode step, which feeds the last known column."""
        return self._width > 0 and self.computed == self.length - 1

    @property
    def prefilling(self) -> bool:
        """Whether there is a chunk whose prompt is not computed."""
        return bool(self.chunks) and not self.prefilled

    def begin_chunk(self) -> bool:
        """Put the prompt of the current chunk in place, unless it is; return whether it is new."""
        if self._width or self.slot is None:
            return False
        prompt, self._turns = self.prepared.prompt(self.chunks[0], self._turns)
        if not self.columns.shape[1]:
            self.columns = np.zeros((len(self.columns), self.slot.length), np.int64)
        self._width = self.length = prompt.shape[1]
        # The last column is left to the first decode step, so that every frame comes from the same code.
        self.computed = common_prefix(self.columns[:, : self.computed], prompt[:, :-1])
        self.columns[:, : self.length] = prompt
        needed = self._width + self.prepared.limit(self._width)
        if needed > self.slot.length:
            raise FishError(f"A chunk needs {needed} positions of a slot of {self.slot.length}.")
        self._begin_attempt()
        return True

    def _begin_attempt(self) -> None:
        """Generate from the end of the prompt, whose columns but the last are computed."""
        self.length, self.computed = self._width, min(self.computed, self._width - 1)
        self.history[:] = self.prepared.codes + 1  # no choice yet
        limit, most = self.prepared.limit(self._width), self._attempts.most_frames(self.chunks[0].text)
        self._left = limit if most is None else min(limit, most)

    def uniforms(self) -> Tensor:
        """Return the random numbers (K,) of the next frame; the same ones until the frame is accepted."""
        if self._uniforms is None:
            self._uniforms = torch.rand(len(self.history), generator=self._attempts.generator)
        return self._uniforms

    def accept(self, column: Columns, choices: Columns, ended: bool) -> list[Frame]:
        """Take a sampled frame: column (K + 1,) and choices (K,), or the end of speech. Raises FishError for NaN.

        Returns the frames that are final now: this one, or where a chunk may be generated again, all of a chunk.
        """
        if (choices < 0).any():
            raise FishError("The model computed numbers that are not finite; verify the checkpoint or use float32.")
        self._uniforms = None
        self._left -= 1
        if ended:
            return self._end(True)
        self.columns[:, self.length] = column
        self.computed, self.length = self.length, self.length + 1
        self.history = np.concatenate([self.history[:, 1:], choices[:, None]], axis=1)
        if not self._left:
            return self._end(False)
        return (
            [] if self._attempts.retries else [Frame(self.sample, self.chunks[0], self._codes(self.length - 1), None)]
        )

    def _end(self, ended: bool) -> list[Frame]:
        """End an attempt at the current chunk: at the end of speech, or truncated after its last frame."""
        span = self.chunks[0]
        kept = self._attempts.take(span.text, self._codes(self._width), ended)
        if kept is None:
            self._begin_attempt()
            return []
        self.chunks.popleft()
        if kept.codes.shape[1] and self.prepared.request.iterative_prompt:
            self._turns.append(self.prepared.turn(span, kept.codes))
        self._width = 0
        frames = self._final_frames(span, kept)
        self._attempts.begin_chunk()
        return frames

    def _final_frames(self, span: Span, kept: Attempt) -> list[Frame]:
        """Return the last frame of a complete chunk, which tells how it ended, after those that waited for it."""
        last = kept.codes.shape[1] - (not kept.ended)  # the end of speech is a frame without codes
        waiting = range(last if self._attempts.retries else 0)
        frames = [Frame(self.sample, span, kept.codes[:, i : i + 1], None) for i in waiting]
        return [*frames, Frame(self.sample, span, kept.codes[:, last:], kept.ended, kept.fault, self._attempts.count)]

    def _codes(self, start: int) -> Codes:
        return self.columns[1:, start : self.length].astype(np.int16)


def common_prefix(known: Columns, wanted: Columns) -> int:
    """Return how many columns the two have in common at their start."""
    width = min(known.shape[1], wanted.shape[1])
    same = (known[:, :width] == wanted[:, :width]).all(axis=0)
    return width if same.all() else int(same.argmin())
