"""Rows that join, step and leave: the one generation loop of the package.

N samples of a text, its chunks in parallel, and the requests of many clients are all rows of a batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fishcli.engine.prefix_cache import PrefixCache
from fishcli.lm.prompt import Columns
from fishcli.lm.sampling import WINDOW, SamplingTensors
from fishcli.request import SamplingParams
from fishcli.runners import base as runners
from fishcli.runners.base import Runner

_BLOCK = 128  # positions of a prompt that are computed at once; bounds the memory of its attention


class Row:
    """One speech in a batch. It is asked for chunk after chunk; what its prompts share is computed once."""

    def __init__(self, sampling: SamplingParams, seed: int, codebooks: int) -> None:
        self.sampling = sampling
        self.ended: bool | None = None  # None: speaking; True: came to its end; False: was cut off
        self.left = 0  # frames that the chunk may still take
        self._generator = torch.Generator().manual_seed(seed)
        self._columns: list[Columns] = [np.empty((codebooks + 1, 0), np.int64)]  # the prompt, then the frames
        self._history: list[Columns] = []

    @property
    def position(self) -> int:
        """Where the next step writes: the place of the last column; 0 before the first chunk."""
        return max(0, self._columns[0].shape[1] + len(self._columns) - 2)

    @property
    def column(self) -> Columns:
        """The last column (K + 1,), which the next step feeds."""
        return self._columns[-1][:, -1]

    def held(self) -> Columns:
        """The columns whose keys and values are in the cache."""
        return np.concatenate(self._columns, axis=1)[:, : self.position]

    def history(self, nothing: int) -> Columns:
        """The choices of the last frames of this chunk: (K, WINDOW), filled up with `nothing`."""
        choices = self._history[-WINDOW:]
        missing = np.full((len(self._columns[0]) - 1, WINDOW - len(choices)), nothing)
        return np.concatenate([missing, *choices], axis=1)

    def uniforms(self, codebooks: int) -> Tensor:
        """The random numbers of one frame, from this row's own stream."""
        return torch.rand(codebooks, generator=self._generator)

    def begin(self, prompt: Columns, limit: int) -> None:
        """Start a chunk."""
        self._columns, self._history = [prompt], []
        self.left, self.ended = limit, None

    def advance(self, column: Columns, choices: Columns, ended: bool) -> Columns:
        """Take in a frame, column (K + 1,) and choices (K,) -> its codes: (K, 1), or (K, 0) at the end."""
        self.left -= 1
        self.ended = True if ended else None if self.left else False
        if not ended:
            self._columns.append(column[:, None])
            self._history.append(choices[:, None])
        return column[1:, None][:, : 0 if ended else 1]


class Batch:
    """Steps its rows together. They lie side by side in the cache, so that a step copies nothing."""

    def __init__(self, runner: Runner, openings: PrefixCache | None = None) -> None:
        self.model = runner.model
        self._openings = openings
        self.rows: list[Row] = []
        self._runner = runner
        self._rows, self._length = 1, min(512, self.model.settings.max_seq_len)
        self._cache = runner.cache(self._length)

    def join(self, sampling: SamplingParams, seed: int) -> Row:
        """Add a row; `ask` it for a chunk before the next step."""
        self.rows.append(Row(sampling, seed, self.model.settings.codebooks))
        return self.rows[-1]

    @torch.inference_mode()
    def ask(self, row: Row, prompt: Columns, opening: int = 0) -> None:
        """Have a row speak the chunk that `prompt` (K + 1, T) asks for.

        The first `opening` columns are those of a voice, whose keys and values are kept for later requests.
        """
        index, width = self.rows.index(row), prompt.shape[1]
        room = self.model.settings.max_seq_len - width
        limit = min(row.sampling.max_new_tokens or room, room)
        self._reserve(len(self.rows), width + limit)
        done = _shared(row.held(), prompt[:, :-1])
        openings = self._openings if done < opening else None
        found = openings.find(prompt[:, :opening]) if openings else None
        if found:
            self._cache.write(index * self._length, *found)
            done = opening
        # The prompt's last column is left to the first step, so that every frame comes from the same code.
        for start in range(done, width - 1, _BLOCK):
            block = torch.from_numpy(prompt[:, start : min(start + _BLOCK, width - 1)].T).to(self.model.device)
            self._runner.prefill(block, self._cache, index * self._length, start)
        if openings and not found:
            openings.keep(prompt[:, :opening], *self._cache.read(index * self._length, opening))
        row.begin(prompt, limit)

    @torch.inference_mode()
    def step(self) -> list[tuple[Row, Columns]]:
        """The next frame of every row: its codes (K, 1), or (K, 0) for a row that came to its end.

        `row.ended` says afterwards how it stands; a row that has ended is asked again, or leaves.
        """
        device, codebooks = self.model.device, self.model.settings.codebooks
        rows = runners.Batch(
            columns=torch.from_numpy(np.stack([row.column for row in self.rows])).to(device),
            slots=torch.arange(len(self.rows), device=device) * self._length,
            positions=torch.tensor([row.position for row in self.rows], device=device),
            history=torch.from_numpy(np.stack([row.history(self.model.codes + 1) for row in self.rows])).to(device),
            params=SamplingTensors.stack([row.sampling for row in self.rows], device),
            uniforms=torch.stack([row.uniforms(codebooks) for row in self.rows]).to(device),
        )
        columns, choices = (t.cpu().numpy() for t in self._runner.step(self._cache, rows))
        ended = (choices[:, 0] == self.model.codes).tolist()
        return [(row, row.advance(*state)) for row, *state in zip(self.rows, columns, choices, ended, strict=True)]

    @torch.inference_mode()
    def leave(self, row: Row) -> None:
        """Remove a row; the last one takes its place in the cache."""
        index, last = self.rows.index(row), self.rows.pop()
        if last is not row:
            self._cache.copy(len(self.rows) * self._length, index * self._length, last.position)
            self.rows[index] = last

    def _reserve(self, rows: int, length: int) -> None:
        """Make room before the steps, so that no step allocates."""
        if rows > self._rows or length > self._length:
            old, cache, before = self._length, self._cache, self._rows
            self._rows, self._length = max(self._rows, rows), max(self._length, length)
            self._cache = self._runner.cache(self._rows * self._length)
            for row in range(before):
                self._cache.write(row * self._length, *cache.read(row * old, old))


def _shared(held: Columns, prompt: Columns) -> int:
    """How many columns the two have in common at their start."""
    width = min(held.shape[1], prompt.shape[1])
    same = (held[:, :width] == prompt[:, :width]).all(axis=0)
    return width if same.all() else int(same.argmin())
