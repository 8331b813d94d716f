"""A load on a server over HTTP: many clients at once, and what each of them received when. It needs no torch."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from fishcli.bench.player import TEXT, poisson_arrivals
from fishcli.client.http import is_loopback
from fishcli.errors import SettingError

Format = Literal["pcm", "wav"]

_FISH, _OPENAI = "/v1/tts", "/v1/audio/speech"
FRAMES = 100  # the most that a request may generate, where the route can say so
_RATES = {_FISH: 44_100, _OPENAI: 24_000}  # Hz of PCM, unless the answer tells another
_OTHERS = re.compile("json|text|html|mpeg|ogg|opus|flac|aac")  # in the types of answers that are neither PCM nor WAV
_PAUSE = 0.05  # seconds between two questions for the server's health
_SILENCE = 10.0  # seconds without an answer to such a question
_MEMORY = re.compile(rb"^process_resident_memory_bytes (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """A server: the URL of its route /v1/tts or OpenAI's /v1/audio/speech, or its address, which means the former."""

    url: str
    key: str | None = None
    format: Format = "pcm"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingError(f"{self.url!r} is no URL of a server, such as http://127.0.0.1:8080.")

    @property
    def base(self) -> str:
        """The address of the server, without a route."""
        return self.url.removesuffix("/").removesuffix(_FISH).removesuffix(_OPENAI).removesuffix("/")

    @property
    def route(self) -> str:
        """The path of the route."""
        return _OPENAI if self.url.removesuffix("/").endswith(_OPENAI) else _FISH

    def body(self, order: Order) -> dict[str, Any]:
        """Return the JSON of a request."""
        if self.route == _OPENAI:
            return {"model": "tts-1", "input": order.text, "voice": "alloy", "response_format": self.format}
        limits = {"max_new_tokens": FRAMES, "retries": 0}
        return {"text": order.text, "seed": order.seed, "format": self.format, "streaming": True, **limits}

    def client(self) -> httpx.AsyncClient:
        """Return a client of as many connections as are wanted."""
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        remote = not is_loopback(urlsplit(self.url).hostname or "")
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.base, headers=headers, timeout=None, limits=limits, trust_env=remote)


@dataclass(frozen=True)
class Load:
    """`requests` requests of `streams` clients: each sends its next request when its last has ended (a closed loop).

    With `arrivals`, they arrive at random instead, so many a second on average, whatever the server does (an open
    loop). No two prompts are the same. A request that takes more than `timeout` seconds is given up.
    """

    streams: int
    requests: int
    arrivals: float | None = None
    seed: int = 0
    timeout: float = 120.0


@dataclass(frozen=True)
class Order:
    """A request: when it is due, in seconds from the start; 0 in a closed loop."""

    due: float
    text: str
    seed: int


@dataclass
class Received:
    """A request, and what came of it. Times are in seconds from the start of the load, None where it did not come.

    `pieces` are the arrival of some audio and its length in seconds, each.
    """

    text: str
    seed: int
    requested: float  # when it was due, or was sent in a closed loop: waiting for the server counts
    sent: float
    status: int | None = None
    first_byte: float | None = None
    pieces: list[tuple[float, float]] = field(default_factory=list)
    ended: float | None = None
    error: str | None = None  # what went wrong, in a word


@dataclass
class Run:
    """All that was measured. `health` are the times of questions for the server's health, and seconds to the answer."""

    received: list[Received] = field(default_factory=list)
    health: list[tuple[float, float]] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)  # bytes that the server had
    seconds: float = 0.0
    client_cpu: float = 0.0  # seconds of processor time of this process


def plan(load: Load) -> list[Order]:
    """Return the requests of a load."""
    count = load.requests
    due = [0.0] * count if load.arrivals is None else poisson_arrivals(count, load.arrivals, load.seed)
    return [Order(at, f"Request {load.seed + i + 1}: {TEXT}", load.seed + i) for i, at in enumerate(due)]


def run(target: Target, load: Load) -> Run:
    """Put a load on a server and return what its clients received."""
    return asyncio.run(_run(target, load))


async def _run(target: Target, load: Load) -> Run:
    result = Run()
    began, worked = time.perf_counter(), time.process_time()
    async with _watched(target, result, began), target.client() as client:
        clients = _Clients(client, target, load, began, result.received)
        await (clients.closed_loop() if load.arrivals is None else clients.open_loop())
    result.seconds, result.client_cpu = time.perf_counter() - began, time.process_time() - worked
    return result


class _Clients:
    """The clients of a server, which share nothing but a pool of connections."""

    def __init__(
        self, client: httpx.AsyncClient, target: Target, load: Load, began: float, received: list[Received]
    ) -> None:
        self._client, self._target, self._load = client, target, load
        self._began, self._received = began, received

    def _now(self) -> float:
        return time.perf_counter() - self._began

    async def closed_loop(self) -> None:
        """Have each client send its next request when its last has ended."""
        orders = iter(plan(self._load))

        async def listen() -> None:
            for order in orders:
                await self._hear(order, self._now())

        await asyncio.gather(*(listen() for _ in range(self._load.streams)))

    async def open_loop(self) -> None:
        """Send each request when it is due."""

        async def listen(order: Order) -> None:
            await asyncio.sleep(order.due - self._now())
            await self._hear(order, order.due)

        await asyncio.gather(*map(listen, plan(self._load)))

    async def _hear(self, order: Order, requested: float) -> None:
        received = Received(order.text, order.seed, requested, self._now())
        self._received.append(received)
        try:
            await asyncio.wait_for(self._receive(order, received), self._load.timeout)
        except asyncio.TimeoutError:
            received.error = "timeout"
        except httpx.ConnectError:
            received.error = "refused"
        except httpx.HTTPError:  # among them the end of a connection amid an answer
            received.error = "cut"
        received.ended = self._now()

    async def _receive(self, order: Order, received: Received) -> None:
        target = self._target
        async with self._client.stream("POST", target.route, json=target.body(order)) as response:
            received.status = response.status_code
            if response.status_code != 200:
                received.error = str(response.status_code)
                return
            kind = response.headers.get("Content-Type", "")
            if _OTHERS.search(kind):
                received.error = "no PCM or WAV"
                return
            rate = response.headers.get("X-Sample-Rate", "")
            sound = Sound(int(rate) if rate.isdecimal() else _RATES[target.route])
            async for data in response.aiter_raw():
                now = self._now()
                received.first_byte = received.first_byte or now
                if seconds := sound.seconds(data):
                    received.pieces.append((now, seconds))
            if not received.pieces:
                received.error = "no audio"


class Sound:
    """Tells the seconds of mono PCM in the bytes of an answer; of a WAV, its header tells how many bytes they take."""

    def __init__(self, sample_rate: int) -> None:
        self._bytes_per_second = 2 * max(1, sample_rate)
        self._head: bytes | None = b""  # None when the sound has begun

    def seconds(self, data: bytes) -> float:
        """Return the seconds of audio in the next bytes."""
        if self._head is not None:
            data = self._after_header(self._head + data)
        return len(data) / self._bytes_per_second

    def _after_header(self, head: bytes) -> bytes:
        """Return the audio at the start of a stream, or nothing until its header is complete."""
        if len(head) >= 4 and not head.startswith(b"RIFF"):
            self._head = None
            return head
        start = head.find(b"data", 12) + 8
        if len(head) < 36 or start < 8 or len(head) < start:
            self._head = head
            return b""
        self._head = None
        self._bytes_per_second = max(1, int.from_bytes(head[28:32], "little"))
        return head[start:]


@contextlib.asynccontextmanager
async def _watched(target: Target, result: Run, began: float) -> AsyncIterator[None]:
    """Ask the server for its health and its memory meanwhile, over connections of their own."""
    async with target.client() as health, target.client() as metrics:
        watching = [
            asyncio.create_task(_ask_for_health(health, result, began)),
            asyncio.create_task(_ask_for_memory(metrics, result)),
        ]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)


async def _ask_for_health(client: httpx.AsyncClient, result: Run, began: float) -> None:
    """Measure how long the server takes to answer for its health. One that does not counts as the longest wait."""
    for number in itertools.count():
        asked = time.perf_counter()
        try:
            answer = await client.get("/v1/health", timeout=_SILENCE)
            seconds = time.perf_counter() - asked
            if answer.status_code != 200:
                return  # the server has no such route
        except httpx.HTTPError:
            seconds = _SILENCE
        if number:  # the first one made the connection
            result.health.append((asked - began, seconds))
        await asyncio.sleep(_PAUSE)


async def _ask_for_memory(client: httpx.AsyncClient, result: Run) -> None:
    """Read the resident memory of the server, where it tells."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            result.memory += memory((await client.get("/metrics", timeout=_SILENCE)).content)
        await asyncio.sleep(1.0)


def memory(metrics: bytes) -> list[int]:
    """Return the resident memory in the metrics of a server, in bytes, if it is there."""
    return [int(float(value)) for value in _MEMORY.findall(metrics)]
