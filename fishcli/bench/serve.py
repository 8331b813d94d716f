"""Measure a server: many clients at once, beside one client alone. It needs no torch."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from fishcli.bench import http_load
from fishcli.bench.http_load import Load, Received, Run, Target
from fishcli.bench.player import AUDIBLE, Percentiles, Player
from fishcli.errors import NetworkError

_APART = 100_000  # between the seeds, and texts, of two loads


@dataclass(frozen=True)
class Served:
    """A load as its listeners heard it. Times are in seconds.

    Time to first audio counts from the moment that a request was sent, or in an open loop was due. A stream with a gap
    over 100 ms, or with an error, was not continuous. `real_time_streams` is computed: the audio made in a second.
    """

    streams: int
    requests: int
    arrivals: float | None  # requests a second; None in a closed loop
    errors: dict[str, int]  # by status or kind
    time_to_first_audio: Percentiles | None  # None where nothing was heard
    continuous: int  # requests
    gaps_over_100_ms: int
    longest_gap: float
    seconds: float
    audio_seconds_per_second: float
    real_time_streams: float
    health: Percentiles | None  # seconds to the answer of /v1/health meanwhile; None where there is none
    memory: int | None  # bytes of the server at most, None where it does not tell
    client_cpu: float  # share of a processor that these clients used themselves


@dataclass(frozen=True)
class Serving:
    """A server under load, and the same requests of one client alone."""

    load: Served
    alone: Served | None  # None where the load is one client alone
    raw: dict[str, Any]  # all times


def measure(
    target: Target, load: Load, repeat: int, during: Callable[[str], AbstractContextManager[object]] | None = None
) -> Serving:
    """Measure a server with one client alone, `repeat` times, and under a load. Raises NetworkError."""
    show = during or contextlib.nullcontext
    with show("warming up"):
        _warm_up(target, load)
    alone = None
    if load.streams > 1 or load.arrivals is not None:
        single = Load(1, repeat, seed=load.seed + _APART, timeout=load.timeout)
        with show("listening alone"):
            first = http_load.run(target, single)
        alone = summary(single, first)
    with show(f"listening to {load.requests} requests"):
        run = http_load.run(target, load)
    raw = {"load": asdict(run), **({"alone": asdict(first)} if alone else {})}
    return Serving(summary(load, run), alone, raw)


def _warm_up(target: Target, load: Load) -> None:
    """Have the server speak once. Raises NetworkError where it does not."""
    (heard,) = http_load.run(target, Load(1, 1, seed=load.seed + 2 * _APART, timeout=load.timeout)).received
    if heard.error is not None:
        raise NetworkError(f"{target.base}{target.route} did not speak: {heard.error}.")


def summary(load: Load, run: Run) -> Served:
    """Return what the listeners of a load heard."""
    players = [_player(each) for each in run.received]
    waits = [each.time_to_first_audio for each in players if each.time_to_first_audio is not None]
    gaps = [gap for player in players for gap in player.gaps]
    heard = list(zip(run.received, players, strict=True))
    rate = sum(seconds for each in run.received for _, seconds in each.pieces) / run.seconds
    return Served(
        streams=load.streams,
        requests=load.requests,
        arrivals=load.arrivals,
        errors=dict(Counter(each.error for each in run.received if each.error is not None)),
        time_to_first_audio=Percentiles.of(waits) if waits else None,
        continuous=sum(each.error is None and max(player.gaps, default=0.0) <= AUDIBLE for each, player in heard),
        gaps_over_100_ms=sum(gap > AUDIBLE for gap in gaps),
        longest_gap=max(gaps, default=0.0),
        seconds=run.seconds,
        audio_seconds_per_second=rate,
        real_time_streams=rate,
        health=Percentiles.of(seconds for _, seconds in run.health) if run.health else None,
        memory=max(run.memory, default=None),
        client_cpu=run.client_cpu / run.seconds,
    )


def _player(received: Received) -> Player:
    """Return a player that has heard an answer."""
    player = Player(received.requested)
    for at, seconds in received.pieces:
        player.receive(at, seconds)
    return player
