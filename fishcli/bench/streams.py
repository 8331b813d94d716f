"""A load generator: many streams at once from one engine, each heard by a simulated player."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from fishcli.bench.player import AUDIBLE, Percentiles, Player, poisson_arrivals
from fishcli.bench.start import peak_memory
from fishcli.bench.task import REFERENCE, TRANSCRIPT, During, Task, cache_aside
from fishcli.bench.timing import StepTimer
from fishcli.request import Reference, Request, Samples

References = Literal["codes", "audio", "cached"]

_FRAMES = 100  # the most that a request may generate


@dataclass(frozen=True)
class Load:
    """`requests` requests, of which at most `streams` run at once; the others wait for one to end.

    They arrive at random, `arrivals` a second on average. No two prompts are the same. References last ten seconds: new
    `codes` for each request, new `audio` (its encoding counts), or `cached` voices, as many as streams.
    """

    streams: int
    requests: int
    arrivals: float = 1.0
    references: References = "codes"
    seed: int = 0


@dataclass(frozen=True)
class Streams:
    """The result of a load as its listeners heard it. Times are in seconds.

    Time to first audio counts from the moment that the request is made. A gap is a silence within a stream.
    """

    streams: int
    requests: int
    arrivals: float
    references: References
    time_to_first_audio: Percentiles
    gaps: int
    gaps_over_100_ms: int
    streams_with_gaps_over_100_ms: int
    longest_gap: float
    frames_per_second: float  # of all streams, from the first request to the last audio
    real_time_streams: float  # the streams that this speed feeds in real time
    step_frames_per_second: float  # of all streams, counting only the time inside decode steps
    step_batch: float  # sequences of a decode step on average
    peak_memory: int | None  # bytes of the process; None if the system does not tell


def measure(task: Task, load: Load, during: During = contextlib.nullcontext) -> Streams:
    """Run a load on the task's engine. Raises the error of the first request that fails."""
    with cache_aside():
        with during("warming up"):
            list(task.engine.speak(task.request(frames=4)))
            arrivals = queue.SimpleQueue[_Arrival]()
            for arrival in _plan(task, load):
                arrivals.put(arrival)
        with during(f"listening to {load.requests} requests"), StepTimer(task.engine.runner) as timer:
            run = _listened(task, load, arrivals)
    return _summary(task, load, run, timer)


def _listened(task: Task, load: Load, arrivals: queue.SimpleQueue[_Arrival]) -> _Run:
    """Hear every request, in a thread for each stream."""
    run = _Run(task, arrivals)
    with ThreadPoolExecutor(load.streams, "listener") as pool:
        listeners = [pool.submit(run.listen) for _ in range(load.streams)]
        try:
            for listener in as_completed(listeners):
                listener.result()
        finally:
            run.stopped.set()
    return run


class _Arrival(NamedTuple):
    """A request: when it arrives, its text and seed, and its reference, or the recording to encode for it."""

    at: float
    text: str
    seed: int
    reference: Reference | Samples


class _Heard(NamedTuple):
    """A stream that has ended: its player, its frames of codes and the time of its end."""

    player: Player
    frames: int
    ended: float


@dataclass
class _Run:
    """The state that the listeners' threads share."""

    task: Task
    arrivals: queue.SimpleQueue[_Arrival]
    stopped: threading.Event = field(default_factory=threading.Event)
    heard: list[_Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.perf_counter()

    def listen(self) -> None:
        """Make one request after another, each no earlier than it arrives, until none is left."""
        with contextlib.suppress(queue.Empty):
            arrival = self.arrivals.get_nowait()
            while not self.stopped.wait(max(0.0, self.began + arrival.at - time.perf_counter())):
                self._hear(arrival)
                arrival = self.arrivals.get_nowait()

    def _hear(self, arrival: _Arrival) -> None:
        engine, player, frames = self.task.engine, Player(time.perf_counter()), 0
        with engine.speak(self._request(arrival)) as stream:
            for chunk in stream:
                player.receive(time.perf_counter(), len(chunk.samples) / engine.sample_rate)
                frames += chunk.codes.shape[1]
                if self.stopped.is_set():
                    break
        self.heard.append(_Heard(player, frames, time.perf_counter()))

    def _request(self, arrival: _Arrival) -> Request:
        reference = arrival.reference
        if isinstance(reference, np.ndarray):
            reference = Reference(self.task.engine.encode(reference), TRANSCRIPT)
        return self.task.request(reference, seed=arrival.seed, frames=_FRAMES, text=arrival.text)


def _plan(task: Task, load: Load) -> Iterator[_Arrival]:
    """Yield the requests of a load in the order of their arrival; cached voices are in the prefix cache afterwards."""
    voices = [task.voice() for _ in range(load.streams)] if load.references == "cached" else []
    for voice in voices:
        list(task.engine.speak(task.request(voice, frames=1)))
    rng = np.random.default_rng(load.seed)
    for i, at in enumerate(poisson_arrivals(load.requests, load.arrivals, load.seed)):
        reference: Reference | Samples
        if load.references == "audio":
            reference = rng.uniform(-0.1, 0.1, REFERENCE * task.engine.sample_rate).astype(np.float32)
        else:
            reference = voices[i % len(voices)] if voices else task.voice()
        yield _Arrival(at, f"Request {i + 1}: {task.text}", load.seed + i, reference)


def _summary(task: Task, load: Load, run: _Run, timer: StepTimer) -> Streams:
    players = [heard.player for heard in run.heard]
    waits = [player.time_to_first_audio for player in players if player.time_to_first_audio is not None]
    if not waits:
        raise task.silent()
    gaps = [gap for player in players for gap in player.gaps]
    rate = sum(heard.frames for heard in run.heard) / (max(heard.ended for heard in run.heard) - run.began)
    return Streams(
        streams=load.streams,
        requests=load.requests,
        arrivals=load.arrivals,
        references=load.references,
        time_to_first_audio=Percentiles.of(waits),
        gaps=len(gaps),
        gaps_over_100_ms=sum(gap > AUDIBLE for gap in gaps),
        streams_with_gaps_over_100_ms=sum(max(player.gaps, default=0) > AUDIBLE for player in players),
        longest_gap=max(gaps, default=0.0),
        frames_per_second=rate,
        real_time_streams=rate / task.engine.frame_rate,
        step_frames_per_second=timer.frames / timer.seconds,
        step_batch=timer.frames / timer.steps,
        peak_memory=peak_memory(),
    )
