"""How fast a model is on this machine, and what its quantization costs. Times are in seconds, sizes in bytes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fishcli.bench import limit, speed, start
from fishcli.bench.limit import Limit
from fishcli.bench.speed import Decode, Encode, FirstAudio, Frame, Prefill, Sentence
from fishcli.bench.start import Start
from fishcli.bench.task import TEXT, During, Task, cache_aside
from fishcli.bench.timing import Spread
from fishcli.engine import Engine
from fishcli.runners.plan import physical_cores

__all__ = ["TEXT", "Machine", "Speed", "Spread", "Task", "machine", "measure"]

log = logging.getLogger(__name__)

_WORTH_TELLING = 5.0  # seconds; what takes longer is announced
_SENTENCES = 7  # what a repetition of everything takes, in sentences


@dataclass(frozen=True)
class Speed:
    """Everything that `measure` measures."""

    prefill: Prefill
    frame: list[Frame]
    decode: list[Decode]
    encode: Encode
    first_audio: FirstAudio
    sentence: list[Sentence]
    start: Start
    limit: Limit


@dataclass(frozen=True)
class Machine:
    """What runs the model, and how. `load`: how many processes wanted a processor, where the system tells."""

    cores: int
    load: float | None
    threads: int
    torch: str
    device: str
    dtype: str
    quantize: str
    runner: str


def measure(task: Task, rows: Sequence[int] = (1, 8), during: During = contextlib.nullcontext) -> Speed:
    """Measure the parts and the whole. `during(doing)` gives a context for each, in which a person may be told."""
    with during("loading"):
        list(task.engine.speak(task.request(frames=4)))
    with cache_aside():
        with during("warming up"):
            _announce(task.repeat * _SENTENCES * speed.warm_up(task))
        with during("reading prompts"):
            prefill = speed.prefill(task)
        with during("making frames"):
            single, bound = limit.measure(task)
            frames = [single if count == 1 else speed.frame(task, count) for count in rows]
        with during("decoding"):
            decode = speed.decodes(task)
        with during("encoding"):
            encode = speed.encode(task)
        with during("beginning to speak"):
            first_audio = speed.first_audio(task)
        with during("speaking"):
            sentence = [speed.sentence(task, known) for known in (True, False)]
    with during("starting"):
        started = start.measure(task)
    return Speed(prefill, frames, decode, encode, first_audio, sentence, started, bound)


def machine(engine: Engine) -> Machine:
    """What runs an engine; the processor's name is `fishcli.doctor`'s to tell."""
    plan, device = engine.plan, engine.device.type
    name = f"cuda, {torch.cuda.get_device_name(engine.device)}" if device == "cuda" else device
    dtype = str(plan.dtype).removeprefix("torch.")
    runner = type(engine.runner).__name__.lower()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return Machine(physical_cores(), load, plan.threads, torch.__version__, name, dtype, plan.quantize, runner)


def _announce(expected: float) -> None:
    if expected > _WORTH_TELLING:
        log.info("Expected to take about %.0f s.", expected)
