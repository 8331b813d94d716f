"""The cost of quantization: logits compared with full precision, and the word error rate of a speech recogniser."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fishcli.bench import listening
from fishcli.bench.task import During, Task
from fishcli.engine import Engine
from fishcli.errors import FishError, SettingError
from fishcli.request import Codes, Reference, Request, SamplingParams

log = logging.getLogger(__name__)

KINDS = ("none", "int8", "int4")
_POSITIONS = 200  # frames compared
_TRIES = 50  # seeds, until that many frames are sampled


@dataclass(frozen=True)
class Fidelity:
    """Logits of the slow transformer against those of full precision, over `positions` of one sequence.

    The cosine similarity of the two, and the share of positions with the same most likely code.
    """

    kind: str
    positions: int
    cosine_mean: float
    cosine_minimum: float
    same_argmax: float


@dataclass(frozen=True)
class Heard:
    """The word error rate of the recogniser on the card's sentences."""

    kind: str
    utterances: int
    word_error_rate: float


@dataclass(frozen=True)
class Quality:
    """`heard` is None if no recogniser ran; `unheard` then gives the reason."""

    fidelity: list[Fidelity]
    heard: list[Heard] | None
    unheard: str | None


def measure(task: Task, utterances: int, during: During = contextlib.nullcontext) -> Quality:
    """Compare every quantization that the device can run, in the dtype of the task's engine."""
    with during("comparing"):
        engines = _engines(task)
        fidelity = compare(task, engines)
    if reason := _why_unheard(task):
        return Quality(fidelity, None, reason)
    heard = []
    for kind, engine in engines.items():
        with during(f"listening to {kind}"):
            heard.append(Heard(kind, utterances, _word_error_rate(engine, utterances)))
    return Quality(fidelity, heard, None)


def compare(task: Task, engines: Mapping[str, Engine]) -> list[Fidelity]:
    """Compare each engine with `none`, both on the frames that `none` sampled."""
    full = engines["none"]
    reference = Reference(_sampled(full, task), task.text)
    columns = torch.from_numpy(task.prompt(reference).T)
    semantic = full.lm.semantic
    speech = (columns[:, 0] >= semantic) & (columns[:, 0] < semantic + full.lm.codes)
    places = speech.nonzero()[:, 0] - 1  # a position predicts the frame after it
    expected = _logits(full, full, columns)[places]
    return [
        _fidelity(kind, _logits(engine, full, columns)[places], expected)
        for kind, engine in engines.items()
        if kind != "none"
    ]


def _fidelity(kind: str, got: Tensor, expected: Tensor) -> Fidelity:
    """Both (positions, codes + 1)."""
    cosines = F.cosine_similarity(got, expected, dim=-1)
    same = (got.argmax(-1) == expected.argmax(-1)).float().mean()
    return Fidelity(kind, len(cosines), float(cosines.mean()), float(cosines.min()), float(same))


@torch.inference_mode()
def _logits(engine: Engine, full: Engine, columns: Tensor) -> Tensor:
    """Return logits (T, codes + 1) float32 for columns (T, K + 1): from `engine`, by the output layer of `full`."""
    cache = engine.runner.cache(len(columns))
    hidden = engine.runner.hidden(columns.to(engine.device), cache, 0, 0)
    norm, output = (copy.deepcopy(module).float() for module in (full.lm.norm, full.lm.output))
    return output(norm(hidden.float()))


def _sampled(engine: Engine, task: Task) -> Codes:
    """Return codes (K, positions) of the text, spoken with one seed after another until there are enough."""
    codes: list[Codes] = []
    for seed in range(_TRIES):
        missing = _POSITIONS - sum(piece.shape[1] for piece in codes)
        if not missing:
            return np.concatenate(codes, axis=1)
        request = task.request(seed=seed, frames=missing)
        codes.append(np.concatenate([frame.codes for frame in engine.generate(request)], axis=1)[:, :missing])
    raise FishError("The model generates too few frames for this text; give another text.")


def _engines(task: Task) -> dict[str, Engine]:
    """Return the engine of each quantization that this device can run; log a warning for the others."""
    # On a CPU only the native runner supports quantized weights.
    compiled = task.engine.plan.compile or task.engine.device.type == "cpu"
    engines = {}
    for kind in KINDS:
        try:
            engines[kind] = task.load(quantize=kind, compile=compiled)
        except SettingError as error:
            log.warning("%s is not compared: %s", kind, error)
    return engines


def _why_unheard(task: Task) -> str | None:
    if not task.engine.model.built_in:
        return "The word error rate is measured for the built-in voice only."
    if not listening.is_installed():
        return "The word error rate is not measured without the recogniser; run `pip install 'fishcli[listen]'`."
    return None


def _word_error_rate(engine: Engine, utterances: int) -> float:
    pairs = [
        (sentence, listening.transcribe(sound, engine.sample_rate))
        for sentence, seeds in _shares(utterances)
        for sound in _sounds(engine, sentence, seeds)
    ]
    return listening.word_error_rate(pairs)


def _shares(utterances: int) -> Iterator[tuple[str, int]]:
    """Yield each of the card's sentences with its number of seeds."""
    for place, sentence in enumerate(listening.sentences()):
        seeds = -(-(utterances - place) // len(listening.sentences()))
        if seeds > 0:
            yield sentence, seeds


def _sounds(engine: Engine, sentence: str, seeds: int) -> Iterator[np.ndarray]:
    """Yield the samples (N,) of the sentence for each seed from 0 on."""
    pieces: list[list[np.ndarray]] = [[] for _ in range(seeds)]
    for chunk in engine.speak(Request(sentence, sampling=SamplingParams(seed=0), num_samples=seeds)):
        pieces[chunk.sample].append(chunk.samples)
    return map(np.concatenate, pieces)
