"""How long each part of the work takes: the language model, the codec, and the two together."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fishcli.bench.task import REFERENCE, TRIES, Task
from fishcli.bench.timing import Spread, seconds
from fishcli.engine.vocoder import FIRST_PIECE as FIRST_PIECE
from fishcli.lm.sampling import WINDOW, SamplingTensors
from fishcli.request import Request, SamplingParams
from fishcli.runners import base as runners

_CONTEXT = 300  # positions before the frame that is timed
_BURST = 8  # frames that are timed at once
_BURSTS = 4  # of each repetition
_PUSHES = (1, 4, 16)  # frames that the codec is given at once
_SENTENCE = 100  # frames
_BLOCK = 64  # columns of a prompt that are computed at once, as the engine does


@dataclass(frozen=True)
class Prefill:
    """Reading a prompt: a reference of ten seconds and the text."""

    columns: int
    seconds: Spread
    columns_per_second: Spread


@dataclass(frozen=True)
class Frame:
    """A step of the language model for `rows` speeches at once, each with `context` positions before it."""

    rows: int
    context: int
    seconds: Spread
    frames_per_second: Spread  # of all rows


@dataclass(frozen=True)
class Decode:
    """The codec in the midst of a stream, given `frames` frames at once."""

    frames: int
    seconds_per_frame: Spread


@dataclass(frozen=True)
class Encode:
    """Audio of that length to codes."""

    audio: float  # seconds
    seconds: Spread


@dataclass(frozen=True)
class FirstAudio:
    """From the request to the first sound, in seconds: in a voice of an earlier request, and in one never heard."""

    known: Spread
    new: Spread


@dataclass(frozen=True)
class Sentence:
    """A sentence from the request to the last sound, in a voice of an earlier request or in one never heard.

    Real-time factor: seconds of work for one of sound.
    """

    known_voice: bool
    frames: int  # the median
    seconds: Spread
    real_time_factor: Spread
    tokens_per_second: Spread


def warm_up(task: Task) -> float:
    """Speak once -> the seconds that a sentence takes."""
    return _spoken(task, known=False)[1]


@torch.inference_mode()
def prefill(task: Task) -> Prefill:
    """Every time in another voice: what is measured has not been computed before."""
    columns, times, runner = 0, [], task.engine.runner
    for _ in range(task.repeat):
        prompt = torch.from_numpy(task.prompt(task.voice())[:, :-1].T.copy()).to(task.engine.device)
        columns, cache = len(prompt), runner.cache(len(prompt))  # the last column is left to the first step
        blocks = [(start, prompt[start : start + _BLOCK]) for start in range(0, columns, _BLOCK)]

        def compute() -> None:
            for start, block in blocks:  # noqa: B023 (called at once)
                runner.prefill(block, cache, 0, start)  # noqa: B023

        times.append(seconds(task.engine.device, compute))
    spread = Spread.of(times)
    return Prefill(columns, spread, spread.rate(columns))


@torch.inference_mode()
def frame(task: Task, rows: int, between: Callable[[], object] = lambda: None) -> Frame:
    """The same step again and again, whether or not it chooses to end; `between` is called after each burst."""
    runner, device = task.engine.runner, task.engine.device
    limit = runner.model.settings.max_seq_len
    context = min(_CONTEXT, limit - 1)
    length = min(512, limit)
    cache = runner.cache(rows * length)
    columns = _speech(task, context + 1).to(device)
    runner.prefill(columns[:context], cache, 0, 0)
    for row in range(1, rows):
        cache.copy(0, row * length, context)
    given = _batch(task, columns[-1], context, torch.arange(rows) * length)

    def burst() -> None:
        for _ in range(_BURST):
            runner.step(cache, given)

    burst()
    times = []
    for _ in range(_BURSTS * task.repeat):
        times.append(seconds(device, burst) / _BURST)
        between()
    spread = Spread.of(times)
    return Frame(rows, context, spread, spread.rate(rows))


def _batch(task: Task, column: Tensor, position: int, slots: Tensor) -> runners.Batch:
    """The input of a decode step: the column (K + 1,) in every slot, and some choices before it."""
    rows = len(slots)
    device, codebooks = task.engine.device, len(column) - 1
    generator = torch.Generator().manual_seed(0)
    return runners.Batch(
        columns=column.repeat(rows, 1),
        slots=slots.to(device),
        positions=torch.full((rows,), position, device=device),
        history=_codes(task, rows * codebooks * WINDOW).view(rows, codebooks, WINDOW).to(device),
        params=SamplingTensors.stack([SamplingParams()] * rows, device),
        uniforms=torch.rand(rows, codebooks, generator=generator).to(device),
    )


def _speech(task: Task, length: int) -> Tensor:
    """Columns (length, K + 1) of random speech."""
    codebooks = task.engine.lm_settings.codebooks
    codes = _codes(task, length * codebooks).view(length, codebooks)
    return torch.cat([task.engine.tokenizer.semantic + codes[:, :1], codes], dim=1)


def _codes(task: Task, count: int) -> Tensor:
    return torch.randint(task.engine.codec_settings.codes, (count,), generator=torch.Generator().manual_seed(0))


def decode(task: Task, frames: int) -> Decode:
    """Pushes of `frames` frames to one stream."""
    engine = task.engine
    codes = _codes(task, engine.codec_settings.codebooks * frames).view(-1, frames).to(engine.device)
    stream = engine.decoder.stream()
    stream.push(codes)
    stream.push(codes)
    times = [seconds(engine.device, lambda: stream.push(codes)) / frames for _ in range(_BURSTS * task.repeat)]
    return Decode(frames, Spread.of(times))


def decodes(task: Task) -> list[Decode]:
    """Pushes of a few sizes."""
    return [decode(task, frames) for frames in _PUSHES]


def encode(task: Task) -> Encode:
    """Every time another noise, since the codes of a recording are kept."""
    engine, rng = task.engine, np.random.default_rng()
    noises = (rng.uniform(-0.1, 0.1, REFERENCE * engine.sample_rate).astype(np.float32) for _ in itertools.count())
    engine.encode(next(noises))
    return Encode(
        REFERENCE, Spread.of(seconds(engine.device, lambda: engine.encode(next(noises))) for _ in range(task.repeat))
    )


def first_audio(task: Task) -> FirstAudio:
    """The two by turns. The second request has another text, so that the voice alone is known."""
    known, new = [], []
    for _ in range(task.repeat):
        voice = task.voice()
        new.append(_until_sound(task, task.request(voice, frames=FIRST_PIECE)))
        known.append(_until_sound(task, task.request(voice, frames=FIRST_PIECE, text=f"And then: {task.text}")))
    return FirstAudio(Spread.of(known), Spread.of(new))


def _until_sound(task: Task, request: Request) -> float:
    def first() -> None:
        with task.engine.speak(request) as stream:
            next(stream)

    return seconds(task.engine.device, first)


def sentence(task: Task, known: bool) -> Sentence:
    """The text, up to about 100 frames of it, each time in another voice."""
    spoken = [_spoken(task, known) for _ in range(task.repeat)]
    rate = task.engine.frame_rate
    return Sentence(
        known,
        round(Spread.of(frames for frames, _ in spoken).median),
        Spread.of(taken for _, taken in spoken),
        Spread.of(taken * rate / frames for frames, taken in spoken),
        Spread.of(frames / taken for frames, taken in spoken),
    )


def _spoken(task: Task, known: bool) -> tuple[int, float]:
    """Frames and seconds of the first of a few tries that is half as long as it may be, else of the longest."""
    tries = []
    for seed in range(TRIES):
        voice = task.voice()
        if known:
            list(task.engine.generate(task.request(voice, frames=1)))
        request, began = task.request(voice, seed=seed, frames=_SENTENCE), time.perf_counter()
        frames = sum(chunk.codes.shape[1] for chunk in task.engine.speak(request))
        tries.append((frames, time.perf_counter() - began))
        if frames >= _SENTENCE // 2:
            break
    if not max(tries)[0]:
        raise task.silent()
    return max(tries)
