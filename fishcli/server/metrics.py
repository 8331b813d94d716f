"""The figures of a server, in the format of Prometheus."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from fishcli.engine import EngineStats

End = Literal["done", "error", "refused", "disconnect", "timeout", "shutdown"]

_CANCELLED: tuple[End, ...] = ("disconnect", "timeout", "shutdown")
_FIRST_AUDIO = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)  # seconds
_TOTAL = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 1800)
_LATE = 0.1  # seconds that a listener does not notice


class Metrics:
    """The figures of one server, in a registry of its own. Any thread may call it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # resident memory, open files, CPU time
        self._requests = Counter(
            "fishcli_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "fishcli_request_seconds",
            "From a request to the end of its answer.",
            ["route"],
            registry=registry,
            buckets=_TOTAL,
        )
        self._queue = Gauge("fishcli_queue_length", "Requests that wait for their turn.", registry=registry)
        self._running = Gauge("fishcli_requests_running", "Requests whose speech is being made.", registry=registry)
        self._live = Gauge("fishcli_live_sockets", "Open WebSockets.", registry=registry)
        self.speeches = _Speeches(registry)

    def watch(self, stats: Callable[[], EngineStats]) -> None:
        """Report the load of an engine, which is asked at each `render`."""
        self.registry.register(_EngineCollector(stats))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended. `route` is a template such as /model/{id}, never a path."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def queue(self, length: Callable[[], int], running: Callable[[], int]) -> None:
        """Report how many requests wait, and how many are being spoken, each time the figures are read."""
        self._queue.set_function(length)
        self._running.set_function(running)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Count an open WebSocket."""
        with self._live.track_inprogress():
            yield

    def speech(self, route: str) -> SpeechTimer:
        """Start to measure one speech: call it when the request has arrived."""
        return SpeechTimer(self.speeches, route, self._clock)

    def render(self) -> tuple[bytes, str]:
        """Return all figures as text, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _Speeches:
    """The figures of all speeches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.first = Histogram(
            "fishcli_first_audio_seconds", "From a request to its first audio.", ["route"], registry=registry,
            buckets=_FIRST_AUDIO,
        )  # fmt: skip
        self.total = Histogram(
            "fishcli_speech_seconds",
            "From a request to the end of its speech.",
            ["route"],
            registry=registry,
            buckets=_TOTAL,
        )
        self.audio = Counter("fishcli_audio_seconds", "Seconds of audio made.", ["route"], registry=registry)
        self.underruns = Counter(
            "fishcli_underruns", "Times a player of a stream would have fallen silent.", ["route"], registry=registry
        )
        self.cancelled = Counter(
            "fishcli_cancellations", "Speeches not finished, by reason.", ["reason"], registry=registry
        )
        self.failed = Counter("fishcli_speech_errors", "Speeches that the server failed to make.", registry=registry)
        for reason in _CANCELLED:
            self.cancelled.labels(reason)


class SpeechTimer:
    """Measures one speech, with a simulated player that starts at the first audio."""

    def __init__(self, speeches: _Speeches, route: str, clock: Callable[[], float]) -> None:
        self._speeches, self._route, self._clock = speeches, route, clock
        self._began = clock()
        self._silent_at: float | None = None  # when the player has played all that it has
        self.seconds = 0.0  # of audio so far
        self._ended = False

    def audio(self, seconds: float) -> None:
        """Take a piece of audio that leaves for the client now."""
        now = self._clock()
        if self._silent_at is None:
            self._speeches.first.labels(self._route).observe(now - self._began)
        elif now > self._silent_at + _LATE:
            self._speeches.underruns.labels(self._route).inc()
        due = now if self._silent_at in (None, math.inf) else self._silent_at
        self._silent_at = max(now, due) + seconds
        self._speeches.audio.labels(self._route).inc(seconds)
        self.seconds += seconds

    def failed(self, error: BaseException) -> None:
        """Take the error that ended the speech: the server's, or one of a request that cannot be served."""
        self.end("error" if getattr(error, "status", 500) >= 500 else "refused")

    def pause(self) -> None:
        """Nothing needs to follow the audio so far at once: the client may have sent no more text."""
        self._silent_at = math.inf

    def end(self, reason: End) -> None:
        """Take the end of the speech, and why; further calls have no effect, so a `finally` may call it."""
        if self._ended:
            return
        self._ended = True
        if reason in _CANCELLED:
            self._speeches.cancelled.labels(reason).inc()
        elif reason == "error":
            self._speeches.failed.inc()
        elif reason == "done":
            self._speeches.total.labels(self._route).observe(self._clock() - self._began)


class _EngineCollector(Collector):
    """Asks an engine for its load whenever the figures are read."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        now = self._stats()
        yield GaugeMetricFamily("fishcli_batch_size", "Sequences that are being generated.", now.running)
        yield GaugeMetricFamily("fishcli_sequences_waiting", "Sequences that wait for a slot.", now.waiting)
        yield GaugeMetricFamily("fishcli_kv_positions_used", "Positions of the KV cache reserved.", now.kv_used)
        yield GaugeMetricFamily("fishcli_kv_positions", "Positions of the KV cache.", now.kv_positions)
        yield CounterMetricFamily("fishcli_frames", "Frames generated; its rate is frames/s.", now.frames)

    def describe(self) -> list[Metric]:
        """Return nothing: the registry would otherwise ask the engine at once for the names."""
        return []
