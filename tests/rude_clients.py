"""Clients of a server that leave in every way they can: `await visit(url, seed)`. For the stress tests."""

import asyncio
import contextlib
import json
import random
import socket
import struct
import time
from dataclasses import dataclass

import ormsgpack
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

FORMATS = ("wav", "pcm", "mp3", "opus", "flac")
TEXT = "The train arrives at seven in the morning, and it leaves again at nine in the evening. "
_SHORT = {"max_new_tokens": 200}
_LINGER_NOT = struct.pack("ii", 1, 0)  # a close is a reset then
_PATIENCE = 20.0  # seconds that a client waits for some bytes at most


@dataclass
class Visit:
    """What one client did. `cut` is when it left amid its answer, by `time.perf_counter`; None if it stayed."""

    seed: int
    kind: str
    status: int = 0
    received: int = 0  # bytes
    cut: float | None = None


async def visit(url: str, seed: int) -> Visit:
    """Ask for speech, read a little of it or nothing, and leave in a way that the seed decides."""
    rng = random.Random(seed)
    kind = rng.choice(["http"] * 3 + ["live"])
    done = Visit(seed, kind)
    with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError, WebSocketException):
        await asyncio.wait_for((_live if kind == "live" else _http)(url, rng, done), 4 * _PATIENCE)
    return done


async def _http(url: str, rng: random.Random, done: Visit) -> None:
    host, port = url.removeprefix("http://").split(":")
    # A small buffer, so that a client that does not read is noticed.
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=plain, limit=4096)
    form = rng.choice(FORMATS)
    body = json.dumps(
        {"text": TEXT * rng.randint(1, 4), "seed": done.seed, "format": form, "streaming": rng.random() < 0.8, **_SHORT}
    ).encode()
    head = f"POST /v1/tts HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"\r\n" + body
    try:
        if rng.random() < 0.05:  # a part of a request
            writer.write(request[: rng.randrange(1, len(request))])
            return
        writer.write(request)
        if rng.random() < 0.1:  # it does not even wait for the answer
            await asyncio.sleep(rng.uniform(0, 0.3))
            return
        done.status = int((await asyncio.wait_for(reader.readline(), rng.uniform(1, _PATIENCE))).split()[1])
        if done.status != 200:
            return
        for _ in range(rng.randrange(6)):
            done.received += len(await asyncio.wait_for(reader.read(4096), _PATIENCE))
        if rng.random() < 0.2:  # it stops reading
            await asyncio.sleep(rng.uniform(0, 3))
    finally:
        _leave(writer.transport, rng, done)


async def _live(url: str, rng: random.Random, done: Visit) -> None:
    async with connect(url.replace("http", "ws") + "/v1/tts/live", max_size=None, close_timeout=1) as socket_:
        done.status = 101
        request = {"text": "", "seed": done.seed, "format": rng.choice(FORMATS), **_SHORT}
        await socket_.send(ormsgpack.packb({"event": "start", "request": request}))
        for _ in range(rng.randrange(4)):
            await socket_.send(ormsgpack.packb({"event": "text", "text": TEXT}))
        await socket_.send(ormsgpack.packb({"event": rng.choice(["flush", "stop"])}))
        for _ in range(rng.randrange(4)):
            with contextlib.suppress(asyncio.TimeoutError):
                done.received += len(await asyncio.wait_for(socket_.recv(), 2))
        if rng.random() < 0.2:  # it waits without a word, or without reading
            await asyncio.sleep(rng.uniform(0, 3))
        if rng.random() < 0.7:  # without a goodbye
            _leave(socket_.transport, rng, done)
        else:
            done.cut = time.perf_counter()


def _leave(transport: asyncio.Transport, rng: random.Random, done: Visit) -> None:
    """Close a connection, with a reset or not."""
    plain = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if rng.random() < 0.5 and plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        done.cut = time.perf_counter()
        transport.abort()
