"""The speed of each part: prefill and decode steps of the language model, the codec, and all of them together."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fishcli.bench.task import REFERENCE, TRIES, Task
from fishcli.bench.timing import Spread, seconds
from fishcli.engine.vocoder import FIRST_PIECE
from fishcli.lm.sampling import WINDOW, SamplingTensors
from fishcli.request import FISH_SPEECH, Request
from fishcli.runners.base import Batch

_CONTEXT = 300  # positions before the decode step that is timed
_BURST = 8  # decode steps timed as one
_BURSTS = 4  # of each repetition
_PIECES = (1, 4, 16)  # frames that the codec decodes at once
_SENTENCE = 100  # frames


@dataclass(frozen=True)
class Prefill:
    """The prefill of a prompt: a reference of ten seconds and the text."""

    positions: int
    seconds: Spread
    positions_per_second: Spread


@dataclass(frozen=True)
class DecodeStep:
    """A decode step of the language model for a batch of sequences, each after `context` positions."""

    batch: int
    context: int
    seconds: Spread
    frames_per_second: Spread  # of the whole batch


@dataclass(frozen=True)
class CodecDecode:
    """The streaming decoder of the codec, given pieces of `frames` frames."""

    frames: int
    seconds_per_frame: Spread


@dataclass(frozen=True)
class CodecEncode:
    """The encoder of the codec, given a recording of `audio_seconds`."""

    audio_seconds: float
    seconds: Spread


@dataclass(frozen=True)
class FirstAudio:
    """Time to first audio, in seconds, with the voice in the prefix cache and with a new voice."""

    cached: Spread
    new: Spread


@dataclass(frozen=True)
class Sentence:
    """A sentence from the request to its last audio, with the voice in the prefix cache or with a new voice.

    Real-time factor: seconds of work for a second of audio.
    """

    cached_voice: bool
    frames: int  # the median
    seconds: Spread
    real_time_factor: Spread
    tokens_per_second: Spread


def warm_up(task: Task) -> float:
    """Speak one sentence and return the seconds it took."""
    return _spoken(task, cached=False)[1]


@torch.inference_mode()
def prefill(task: Task) -> Prefill:
    """Measure the prefill, every time with a new voice."""
    positions, times, runner = 0, [], task.engine.runner
    for _ in range(task.repeat):
        # The last position belongs to the first decode step.
        prompt = torch.from_numpy(task.prompt(task.voice())[:, :-1].T.copy()).to(task.engine.device)
        positions, cache = len(prompt), runner.cache(len(prompt))
        blocks = [(start, prompt[start : start + runner.block]) for start in range(0, positions, runner.block)]

        def compute() -> None:
            for start, block in blocks:  # noqa: B023 (called at once)
                runner.prefill(block, cache, 0, start)  # noqa: B023

        times.append(seconds(task.engine.device, compute))
    spread = Spread.of(times)
    return Prefill(positions, spread, spread.rate(positions))


@torch.inference_mode()
def decode_step(task: Task, batch: int, between: Callable[[], object] = lambda: None) -> DecodeStep:
    """Measure one decode step again and again, even if it samples the end; `between` is called after each burst."""
    runner, device = task.engine.runner, task.engine.device
    limit = runner.model.settings.max_seq_len
    context = min(_CONTEXT, limit - 1)
    length = min(512, limit)
    cache = runner.cache(batch * length)
    columns = _random_frames(task, context + 1)
    runner.prefill(columns[:context].to(device), cache, 0, 0)
    for slot in range(1, batch):
        cache.copy(0, slot * length, context)
    given = _batch(task, columns[-1], context, torch.arange(batch) * length)

    def burst() -> None:
        for _ in range(_BURST):
            runner.step(cache, given)

    burst()
    times = []
    for _ in range(_BURSTS * task.repeat):
        times.append(seconds(device, burst) / _BURST)
        between()
    spread = Spread.of(times)
    return DecodeStep(batch, context, spread, spread.rate(batch))


def saturation(steps: Sequence[DecodeStep]) -> int:
    """Return the smallest batch at which the frames/s are within a tenth of the most: more sequences gain no more."""
    most = max(step.frames_per_second.median for step in steps)
    return min(step.batch for step in steps if step.frames_per_second.median >= 0.9 * most)


def _batch(task: Task, column: Tensor, position: int, slots: Tensor) -> Batch:
    """Return the input of a decode step: the column (K + 1,) for every sequence, after a random history."""
    codebooks, batch = len(column) - 1, len(slots)
    generator = torch.Generator().manual_seed(0)
    return Batch(
        columns=column.repeat(batch, 1),
        slots=slots,
        positions=torch.full((batch,), position),
        history=_codes(task, batch * codebooks * WINDOW).view(batch, codebooks, WINDOW),
        params=SamplingTensors.stack([FISH_SPEECH] * batch),
        uniforms=torch.rand(batch, codebooks, generator=generator),
    )


def _random_frames(task: Task, length: int) -> Tensor:
    """Return columns (length, K + 1) of random frames."""
    codebooks = task.engine.lm_settings.codebooks
    codes = _codes(task, length * codebooks).view(length, codebooks)
    return torch.cat([task.engine.tokenizer.semantic + codes[:, :1], codes], dim=1)


def _codes(task: Task, count: int) -> Tensor:
    return torch.randint(task.engine.codec_settings.codes, (count,), generator=torch.Generator().manual_seed(0))


def codec_decode(task: Task, frames: int) -> CodecDecode:
    """Measure one streaming decoder, given pieces of `frames` frames."""
    engine = task.engine
    codes = _codes(task, engine.codec_settings.codebooks * frames).view(-1, frames)
    stream = engine.decoder.stream()
    stream.push(codes)
    stream.push(codes)
    times = [seconds(engine.device, lambda: stream.push(codes)) / frames for _ in range(_BURSTS * task.repeat)]
    return CodecDecode(frames, Spread.of(times))


def codec_decodes(task: Task) -> list[CodecDecode]:
    """Measure the streaming decoder with pieces of a few sizes."""
    return [codec_decode(task, frames) for frames in _PIECES]


def codec_encode(task: Task) -> CodecEncode:
    """Measure the encoder, every time with other noise, since the codes of a recording are cached."""
    engine, rng = task.engine, np.random.default_rng()
    noises = (rng.uniform(-0.1, 0.1, REFERENCE * engine.sample_rate).astype(np.float32) for _ in itertools.count())
    engine.encode(next(noises))
    return CodecEncode(
        REFERENCE, Spread.of(seconds(engine.device, lambda: engine.encode(next(noises))) for _ in range(task.repeat))
    )


def first_audio(task: Task) -> FirstAudio:
    """Measure both by turns. The second request has another text, so that only the voice is in the cache."""
    cached, new = [], []
    for _ in range(task.repeat):
        voice = task.voice()
        new.append(_time_to_first_audio(task, task.request(voice, frames=FIRST_PIECE)))
        other = task.request(voice, frames=FIRST_PIECE, text=f"And then: {task.text}")
        cached.append(_time_to_first_audio(task, other))
    return FirstAudio(Spread.of(cached), Spread.of(new))


def _time_to_first_audio(task: Task, request: Request) -> float:
    def first() -> None:
        with task.engine.speak(request) as stream:
            next(stream)

    return seconds(task.engine.device, first)


def sentence(task: Task, cached: bool) -> Sentence:
    """Measure up to 100 frames of the text, each time with another voice."""
    spoken = [_spoken(task, cached) for _ in range(task.repeat)]
    rate = task.engine.frame_rate
    return Sentence(
        cached,
        round(Spread.of(frames for frames, _ in spoken).median),
        Spread.of(taken for _, taken in spoken),
        Spread.of(taken * rate / frames for frames, taken in spoken),
        Spread.of(frames / taken for frames, taken in spoken),
    )


def _spoken(task: Task, cached: bool) -> tuple[int, float]:
    """Return frames and seconds of the first of a few seeds that gives 50 frames or more, else of the longest."""
    tries = []
    for seed in range(TRIES):
        voice = task.voice()
        if cached:
            list(task.engine.generate(task.request(voice, frames=1)))
        request, began = task.request(voice, seed=seed, frames=_SENTENCE), time.perf_counter()
        frames = sum(chunk.codes.shape[1] for chunk in task.engine.speak(request))
        tries.append((frames, time.perf_counter() - began))
        if frames >= _SENTENCE // 2:
            break
    if not max(tries)[0]:
        raise task.silent()
    return max(tries)
