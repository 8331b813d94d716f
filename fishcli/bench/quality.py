"""What quantization costs: the choices against those of full precision, and the words that a recogniser misses."""

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
_POSITIONS = 200
_TRIES = 50  # seeds, until that many frames are drawn


@dataclass(frozen=True)
class Fidelity:
    """Logits of the slow transformer against those of full precision, over `positions` of one speech.

    Cosines of the two, and the share of positions at which both have the same likeliest choice.
    """

    kind: str
    positions: int
    cosine_mean: float
    cosine_minimum: float
    same_choice: float


@dataclass(frozen=True)
class Heard:
    """What the recogniser hears of the card's sentences: word errors over all words."""

    kind: str
    utterances: int
    word_error_rate: float


@dataclass(frozen=True)
class Quality:
    """`heard` is None where nothing listened, and `unheard` then says why."""

    fidelity: list[Fidelity]
    heard: list[Heard] | None
    unheard: str | None


def measure(task: Task, utterances: int, during: During = contextlib.nullcontext) -> Quality:
    """Compare every kind of quantization that the device can run, in the dtype of the task's engine."""
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
    """Each engine but `none` against that one, both given the frames that it drew."""
    full = engines["none"]
    voice = Reference(_drawn(full, task), task.text)
    columns = torch.from_numpy(task.prompt(voice).T)
    semantic = full.lm.semantic
    speech = (columns[:, 0] >= semantic) & (columns[:, 0] < semantic + full.lm.codes)
    places = speech.nonzero()[:, 0] - 1  # those that choose a frame
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
    """Columns (T, K + 1) -> logits (T, codes + 1) float32: the engine's hidden states through the end of `full`."""
    cache = engine.runner.cache(len(columns))
    hidden = engine.runner.hidden(columns.to(engine.device), cache, 0, 0)
    norm, output = (copy.deepcopy(module).float() for module in (full.lm.norm, full.lm.output))
    return output(norm(hidden.float()))


def _drawn(engine: Engine, task: Task) -> Codes:
    """Codes (K, positions) of the text, which is spoken on one seed after the other until they are enough."""
    codes: list[Codes] = []
    for seed in range(_TRIES):
        missing = _POSITIONS - sum(piece.shape[1] for piece in codes)
        if not missing:
            return np.concatenate(codes, axis=1)
        request = task.request(seed=seed, frames=missing)
        codes.append(np.concatenate([frame.codes for frame in engine.generate(request)], axis=1)[:, :missing])
    raise FishError("The model ends every sentence before it has begun; use another text.")


def _engines(task: Task) -> dict[str, Engine]:
    """The model in each kind of quantization; what this device cannot run is told and left out."""
    # On a CPU only what is compiled runs quantized weights.
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
        return "The word error rate is measured of the built-in voice alone."
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
    """Each of the card's sentences with the number of seeds that it is spoken on."""
    for place, sentence in enumerate(listening.sentences()):
        seeds = -(-(utterances - place) // len(listening.sentences()))
        if seeds > 0:
            yield sentence, seeds


def _sounds(engine: Engine, sentence: str, seeds: int) -> Iterator[np.ndarray]:
    """The sentence on seeds from 0 on, each (N,)."""
    pieces: list[list[np.ndarray]] = [[] for _ in range(seeds)]
    for chunk in engine.speak(Request(sentence, sampling=SamplingParams(seed=0), num_samples=seeds)):
        pieces[chunk.sample].append(chunk.samples)
    return map(np.concatenate, pieces)
