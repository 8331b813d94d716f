"""Runs the language model for sequences: their slots of the KV cache, their prefills, the decode steps of a batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence as List

import numpy as np
import torch

from fishcli.engine.kv_pool import KVPool
from fishcli.engine.prefix_cache import PrefixCache
from fishcli.engine.sequence import Sequence, common_prefix
from fishcli.lm.sampling import SamplingTensors
from fishcli.request import Frame
from fishcli.runners.base import Batch, Runner

log = logging.getLogger(__name__)

Result = list[Frame] | Exception


class Executor:
    """Owns a KV cache of `positions`, allocated once. Only the model thread calls it."""

    def __init__(self, runner: Runner, positions: int, prefixes: PrefixCache | None = None) -> None:
        self.runner, self.model = runner, runner.model
        self.cache = runner.cache(positions)
        self.pool = KVPool(positions)
        self.running: list[Sequence] = []  # those that have a slot
        self._prefixes = prefixes

    def join(self, sequence: Sequence, positions: int) -> bool:
        """Reserve the slot of a sequence; False where it has to wait for others to leave."""
        sequence.slot = self.pool.reserve(positions)
        if sequence.slot:
            self.running.append(sequence)
        return sequence.slot is not None

    def leave(self, sequence: Sequence) -> None:
        """Give back the slot of a sequence."""
        if sequence.slot:
            self.running.remove(sequence)
            self.pool.release(sequence.slot)
            sequence.slot = None

    @torch.inference_mode()
    def prefill(self, sequence: Sequence, most: int) -> int:
        """Compute at most `most` columns of a prompt, of which what is cached is taken over; return how many."""
        if sequence.begin_chunk():
            self._reuse(sequence)
            log.debug("sample %d: prompt of %d, %d cached", sequence.sample, sequence.length, sequence.computed)
        start, end = sequence.computed, min(sequence.computed + most, sequence.length - 1)
        if start < end:
            columns = torch.from_numpy(sequence.columns[:, start:end].T.copy()).to(self.model.device)
            self.runner.prefill(columns, self.cache, sequence.start, start)
            sequence.computed = end
        self._keep(sequence, start)
        return end - start

    @torch.inference_mode()
    def step(self, sequences: List[Sequence]) -> list[tuple[Sequence, Result]]:
        """Generate the next frame of every sequence. One that fails has its exception instead, the others their
        frames that are final now."""
        try:
            columns, choices = (each.numpy() for each in self.runner.step(self.cache, _batch(sequences)))
        except Exception as error:
            if len(sequences) == 1:
                return [(sequences[0], error)]
            # A step that failed changed nothing: each alone shows which one cannot be computed.
            return [result for sequence in sequences for result in self.step([sequence])]
        ended = (choices[:, 0] == self.model.codes).tolist()
        rows = zip(sequences, columns, choices, ended, strict=True)
        return [(sequence, _accepted(sequence, *row)) for sequence, *row in rows]

    def _reuse(self, sequence: Sequence) -> None:
        """Copy the keys and values that a prompt shares with another sequence, or with the prefix cache."""
        prompt = sequence.columns[:, : sequence.length - 1]
        others = [other for other in self.running if other is not sequence]
        shared = [common_prefix(other.columns[:, : other.computed], prompt) for other in others]
        longest = max(shared, default=0)
        prefix = sequence.prepared.prefix
        if longest < prefix.shape[1] and sequence.computed < prefix.shape[1] and (found := self._find(sequence)):
            self.cache.write(sequence.start, *found)
            sequence.computed = prefix.shape[1]
        elif longest > sequence.computed:
            self.cache.copy(others[shared.index(longest)].start, sequence.start, longest)
            sequence.computed = longest

    def _find(self, sequence: Sequence) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return what is cached of a prefix: from disk if the request found it there, else from memory."""
        prepared = sequence.prepared
        if self._prefixes is None or not prepared.request.references:
            return None
        return prepared.cached or self._prefixes.find(prepared.prefix, in_memory=True)

    def _keep(self, sequence: Sequence, start: int) -> None:
        """Cache the prefix of a voice once it is computed; `start`: what was computed before this prefill."""
        prepared = sequence.prepared
        width = prepared.prefix.shape[1]
        if self._prefixes and prepared.request.references and start < width <= sequence.computed:
            self._prefixes.keep(prepared.prefix, *self.cache.read(sequence.start, width))


def _batch(sequences: List[Sequence]) -> Batch:
    return Batch(
        columns=torch.from_numpy(np.stack([s.columns[:, s.length - 1] for s in sequences])),
        slots=torch.tensor([s.start for s in sequences]),
        positions=torch.tensor([s.length - 1 for s in sequences]),
        history=torch.from_numpy(np.stack([s.history for s in sequences])),
        params=SamplingTensors.stack([s.params for s in sequences]),
        uniforms=torch.stack([s.uniforms() for s in sequences]),
    )


def _accepted(sequence: Sequence, column: np.ndarray, choices: np.ndarray, ended: bool) -> Result:
    try:
        return sequence.accept(column, choices, ended)
    except Exception as error:
        return error
