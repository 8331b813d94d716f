"""Sequences over given prompts, without a text, and the frames that a runner generates for them."""

import dataclasses

import numpy as np

from fishcli.engine.executor import Executor
from fishcli.engine.sequence import Sequence
from fishcli.request import FISH_SPEECH, Request, Span

ROOM = 1024  # positions of a slot


class FixedPrompts:
    """Stands in for `Prepared`: one prompt (K + 1, T) after the other, whatever the text."""

    cached, earlier = None, ()

    def __init__(self, prompts, sampling, seed, context, codebooks, codes):
        self.codebooks, self.codes, self.frame_rate = codebooks, codes, 21.5
        self.request = Request("Any text.", sampling=dataclasses.replace(sampling, seed=seed).over(FISH_SPEECH))
        self.prefix = prompts[0][:, :0]
        self.prompts, self.context = list(prompts), context

    def prompt(self, span, earlier):
        return self.prompts.pop(0), []

    def turn(self, span, codes):
        return codes

    def limit(self, width):
        return min(self.request.sampling.max_new_tokens or self.context, self.context - width)


def sequence_of(model, prompts, sampling, seed=0, place=0):
    """A sequence that answers these prompts, from the place-th chunk of a text on."""
    s = model.settings
    made = Sequence(FixedPrompts(prompts, sampling, seed, s.max_seq_len, s.codebooks, model.codes), 0, place)
    made.chunks.extend(Span(str(i), 0, 0) for i in range(len(prompts)))
    return made


def advance(executor, sequences, block=64):
    """One decode step of those that are not finished, prefilled before where they must be -> {sequence: Frame}."""
    live = [sequence for sequence in sequences if not sequence.finished]
    for sequence in live:
        if sequence.slot is None:
            assert executor.join(sequence, ROOM)
        while not sequence.prefilled:
            executor.prefill(sequence, block)
    results = dict(executor.step(live)) if live else {}
    for sequence in live:
        if sequence.finished:
            executor.leave(sequence)
    return {sequence: result[0] if isinstance(result, list) else result for sequence, result in results.items()}


def generated(runner, prompt, sampling, seed=0, block=64):
    """The codes (K, T) of one sequence alone."""
    executor, alone = Executor(runner, ROOM), sequence_of(runner.model, [prompt], sampling, seed)
    frames = []
    while not alone.finished:
        frames.append(advance(executor, [alone], block)[alone].codes)
    return np.concatenate(frames, axis=1)


def in_company(runner, requests, joins, block=64):
    """The codes of sequences that join a batch at these steps; requests: (prompt, params, seed) of each."""
    executor = Executor(runner, ROOM * len(requests))
    made = [sequence_of(runner.model, [prompt], params, seed) for prompt, params, seed in requests]
    frames = {sequence: [] for sequence in made}
    for turn in range(10_000):
        present = [sequence for sequence, joined in zip(made, joins, strict=True) if joined <= turn]
        for sequence, frame in advance(executor, present, block).items():
            frames[sequence].append(frame.codes)
        if all(sequence.finished for sequence in made):
            break
    assert executor.pool.free == executor.pool.positions
    return [np.concatenate(codes, axis=1) for codes in frames.values()]
