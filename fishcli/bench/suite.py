"""The speed of a model on this machine, and the cost of its quantization. Times are in seconds, sizes in bytes."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fishcli.bench import roofline, speed, start
from fishcli.bench.roofline import Roofline
from fishcli.bench.speed import CodecDecode, CodecEncode, DecodeStep, FirstAudio, Prefill, Sentence
from fishcli.bench.start import Start
from fishcli.bench.task import During, Task, cache_aside
from fishcli.bench.timing import device_memory
from fishcli.engine import Engine
from fishcli.runners.plan import physical_cores

log = logging.getLogger(__name__)

_WORTH_TELLING = 5.0  # seconds; a longer measurement is announced
_SENTENCES = 7  # the time of one repetition of everything, in sentences


@dataclass(frozen=True)
class Speed:
    """All measurements of `measure`."""

    prefill: Prefill
    decode_step: list[DecodeStep]
    codec_decode: list[CodecDecode]
    codec_encode: CodecEncode
    first_audio: FirstAudio
    sentence: list[Sentence]
    saturation: int  # the smallest of the batches at which the frames/s are within a tenth of the most
    start: Start
    roofline: Roofline
    device_memory: int | None  # bytes of a GPU's memory that tensors took at most; None: there is none


@dataclass(frozen=True)
class Machine:
    """The machine and the plan. `load` is the load average of the last minute, None if the system does not tell."""

    cores: int
    load: float | None
    threads: int
    torch: str
    device: str
    dtype: str
    quantize: str
    runner: str


def measure(task: Task, batches: Sequence[int] = (1, 8), during: During = contextlib.nullcontext) -> Speed:
    """Measure the parts and the whole. `during(doing)` returns a context for each, to show its progress in."""
    if task.engine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(task.engine.device)
    with during("loading"):
        list(task.engine.speak(task.request(frames=4)))
    with cache_aside():
        with during("warming up"):
            _announce(task.repeat * _SENTENCES * speed.warm_up(task))
        with during("measuring the prefill"):
            prefill = speed.prefill(task)
        with during("measuring decode steps"):
            single, bound = roofline.measure(task)
            steps = [single if batch == 1 else speed.decode_step(task, batch) for batch in batches]
        # Before the decoder runs on this thread too: its OpenMP threads would slow down those of the model thread.
        with during("measuring the codec's encoder"):
            encode = speed.codec_encode(task)
        with during("measuring the codec's decoder"):
            decode = speed.codec_decodes(task)
        with during("measuring the time to first audio"):
            first_audio = speed.first_audio(task)
        with during("speaking"):
            sentence = [speed.sentence(task, cached) for cached in (True, False)]
    with during("starting a process"):
        started = start.measure(task)
    parts = prefill, steps, decode, encode, first_audio, sentence, speed.saturation(steps)
    return Speed(*parts, started, bound, device_memory(task.engine.device))


def machine(engine: Engine) -> Machine:
    """Return the machine and the plan of an engine, without the name of the processor."""
    plan, device = engine.plan, engine.device.type
    name = f"cuda, {torch.cuda.get_device_name(engine.device)}" if device == "cuda" else device
    dtype = str(plan.dtype).removeprefix("torch.")
    runner = type(engine.runner).__name__.lower()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return Machine(physical_cores(), load, plan.threads, torch.__version__, name, dtype, plan.quantize, runner)


def _announce(expected: float) -> None:
    if expected > _WORTH_TELLING:
        log.info("Expected to take about %.0f s.", expected)
