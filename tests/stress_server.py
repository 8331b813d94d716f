"""Stress `fish serve` (Linux, offline, random weights of the micro size), and print a verdict:

    python tests/stress_server.py cuts --clients 200 --minutes 30
    python tests/stress_server.py sigterm --times 100
    python tests/stress_server.py wav --requests 1000

cuts: clients ask for speech over HTTP and WebSockets and vanish. Nothing leaks, and the model stops for them. sigterm:
the server is told to end; its clients are served or told, and it ends in time. wav: a streamed WAV is the plain one.
"""

import argparse
import asyncio
import contextlib
import functools
import io
import itertools
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import ormsgpack
import soundfile
from rude_clients import TEXT, Visit, visit
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

WAV_HEADER = 44
STREAM_SIZES = (4_294_967_076, 4_294_967_040)
_STEP = struct.Struct("d")
_HELD = ("requests_running", "queue_length", "batch_size", "sequences_waiting", "kv_positions_used", "live_sockets")
_PAUSE = 0.05  # seconds between two questions for the server's health


@dataclass(frozen=True)
class Limits:
    """What is allowed at most: seconds, and a share of memory."""

    stop: float = 0.25  # p99, from a cut to the last decode step for it
    health: float = 0.1  # p99
    memory: float = 0.05
    end: float = 30.0  # from SIGTERM to the exit
    idle: float = 1.0  # until the model is idle
    settle: float = 12.0  # after which idle worker threads have gone


@dataclass(frozen=True)
class Finding:
    """One figure, and whether it is as it should be."""

    name: str
    value: object
    ok: bool

    def __str__(self) -> str:
        return f"{'ok    ' if self.ok else 'FAILED'} {self.name}: {self.value}"


class Server:
    """A running server: `fish serve` in a process of its own."""

    def __init__(self, checkpoint: Path, *program: str) -> None:
        options = ["--listen", "127.0.0.1:0", "--checkpoint-path", str(checkpoint), "--json", "-q"]
        command = [sys.executable, *(program or ("-m", "fishcli")), "serve", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.url = json.loads(self.process.stdout.readline() or b'{"url": ""}')["url"]
        if not self.url:
            raise SystemExit("the server did not start")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def metrics(self) -> dict[str, float]:
        """The figures without labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=30, trust_env=False).text
        return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}

    def resources(self) -> dict[str, int]:
        """Memory (bytes), threads and descriptors of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        number = {name: int(value) for name, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)}
        descriptors = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        return {"memory": number["VmRSS"] << 10, "threads": number["Threads"], "descriptors": descriptors}


# A server that notes when it worked.


def serve_noting(file: str, *arguments: str) -> None:
    """Run `fish serve`, and note in a file the time of the last decode step of each seed: eight bytes at its place."""
    from fishcli.cli.main import main
    from fishcli.engine.streams import AudioStream, Channel

    notes = os.open(file, os.O_WRONLY)
    count, begin = Channel.count_step, AudioStream.__init__

    def noting(self: Channel, now: float) -> None:
        count(self, now)
        os.pwrite(notes, _STEP.pack(time.perf_counter()), _STEP.size * self.seed)

    def beginning(self: AudioStream, channel: Channel, seed: int = 0, script: object = None) -> None:
        channel.seed = seed
        begin(self, channel, seed, script)

    Channel.count_step, AudioStream.__init__ = noting, beginning
    sys.argv = ["fish", *arguments]
    main()


def ask_for_health(url: str) -> None:
    """Ask a server for its health until stdin ends, and print the seconds that each answer took."""
    import threading

    ended, took = threading.Event(), []
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    with httpx.Client(trust_env=False, timeout=30) as client:
        while not ended.wait(_PAUSE):
            began = time.perf_counter()
            client.get(f"{url}/v1/health").raise_for_status()
            took.append(time.perf_counter() - began)
    print(json.dumps(took[1:]))  # the first one made the connection


@contextlib.contextmanager
def health(url: str) -> Iterator[list[float]]:
    """Yield a list that holds the latencies of the server's health at the end of the block."""
    took: list[float] = []
    command = [sys.executable, __file__, "health", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        yield took
        took += json.loads(child.communicate()[0])


# Cuts.


def cuts(checkpoint: Path, clients: int, seconds: float, limits: Limits = Limits()) -> list[Finding]:
    """Have many clients come and vanish for some time; the first tenth of it is to warm up."""
    with tempfile.NamedTemporaryFile() as notes:
        with Server(checkpoint, __file__, "noting", notes.name) as server:
            seeds = itertools.count(1)
            asyncio.run(_come_and_go(server.url, clients, seconds / 10, seeds))
            _settle(server, limits)
            before = server.resources()
            with health(server.url) as took:
                visits = asyncio.run(_come_and_go(server.url, clients, seconds, seeds))
            found = _idle(server, limits)
            _settle(server, limits)
            after = server.resources()
        steps = np.fromfile(notes.name, "d")
    return [*_visited(visits, steps, took, limits), *found, *_leaks(before, after, limits)]


async def _come_and_go(url: str, clients: int, seconds: float, seeds: Iterator[int]) -> list[Visit]:
    """Have clients come, vanish, and come again."""
    visits: list[Visit] = []
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            visits.append(await visit(url, next(seeds)))
            if visits[-1].status not in (101, 200):
                await asyncio.sleep(random.uniform(0.1, 1.0))

    await asyncio.gather(*(client() for _ in range(clients)))
    return visits


def _settle(server: Server, limits: Limits) -> None:
    """Wait until threads that have nothing to do have gone, which happens when the next one is needed."""
    time.sleep(limits.settle)
    for _ in range(2):
        _asked(server.url, {"text": "One.", "seed": 0, "max_new_tokens": 4})


def _idle(server: Server, limits: Limits) -> list[Finding]:
    """Whether the model is idle soon after the last client has gone."""
    began, held = time.monotonic(), {"": 1}
    while any(held.values()) and time.monotonic() < began + limits.idle:
        now = server.metrics()
        held = {name: int(now[f"fishcli_{name}"]) for name in _HELD}
        time.sleep(0.02)
    seconds = time.monotonic() - began
    time.sleep(0.5)
    frames = server.metrics()["fishcli_frames_total"] - now["fishcli_frames_total"]
    return [
        Finding(f"held {seconds:.2f} s after the last client", held, not any(held.values())),
        Finding("frames generated for nobody", int(frames), not frames),
    ]


def _visited(visits: list[Visit], steps: np.ndarray, took: list[float], limits: Limits) -> list[Finding]:
    """What became of the clients, how fast the model stopped for them, and the server's health meanwhile."""
    statuses = Counter(each.status for each in visits)
    last = {each.seed: steps[each.seed] if each.seed < len(steps) else 0.0 for each in visits}
    late = [max(0.0, last[each.seed] - each.cut) for each in visits if each.cut and last[each.seed]]
    stop, slow = _p99(late), _p99(took)
    return [
        Finding("clients by status (0: they left before it)", dict(statuses), statuses.keys() <= {0, 101, 200, 429}),
        Finding("cut amid speech", len(late), len(late) > 0),
        Finding("p99 from the cut to the last decode step", f"{1e3 * stop:.0f} ms", stop <= limits.stop),
        Finding("longest", f"{1e3 * max(late, default=0):.0f} ms", True),
        Finding(f"p99 of the health of {len(took)}", f"{1e3 * slow:.0f} ms", slow <= limits.health),
    ]


def _p99(values: list[float]) -> float:
    return float(np.percentile(values, 99)) if values else 0.0


def _leaks(before: dict[str, int], after: dict[str, int], limits: Limits) -> list[Finding]:
    grown = after["memory"] / before["memory"] - 1
    return [
        Finding("memory", f"{before['memory'] / 1e6:.0f} to {after['memory'] / 1e6:.0f} MB", grown <= limits.memory),
        *(
            Finding(name, f"{before[name]} to {after[name]}", after[name] <= before[name] + 2)
            for name in ("threads", "descriptors")
        ),
    ]


# SIGTERM.


def sigterm(checkpoint: Path, times: int, limits: Limits = Limits()) -> list[Finding]:
    """End servers with clients attached."""
    ended = []
    for number in range(times):
        with Server(checkpoint) as server:
            ended.append(asyncio.run(_end(server, number)))
    codes = Counter(code for code, _, _ in ended)
    slowest = max(seconds for _, seconds, _ in ended)
    outcomes: Counter[str] = sum((each for _, _, each in ended), Counter())
    told = not {"left alone"} & outcomes.keys()
    return [
        Finding("exit codes", dict(codes), codes.keys() == {0}),
        Finding("slowest end", f"{slowest:.1f} s", slowest <= limits.end),
        Finding("clients", dict(outcomes), told),
    ]


async def _end(server: Server, number: int) -> tuple[int, float, Counter[str]]:
    """End a server amid its work -> its exit code, the seconds that it took, and what its clients saw."""
    rng = random.Random(number)
    clients = [asyncio.create_task(_stays(server.url, index, rng.randint(1, 3))) for index in range(12)]
    clients += [asyncio.create_task(_waits(server.url, spoken)) for spoken in (True, False, False)]
    await asyncio.sleep(rng.uniform(0.3, 1.0))
    server.process.send_signal(signal.SIGTERM)
    began = time.perf_counter()
    code = await asyncio.to_thread(server.process.wait, 60)
    seconds = time.perf_counter() - began
    return code, seconds, Counter(await asyncio.wait_for(asyncio.gather(*clients), 30))


async def _stays(url: str, seed: int, sentences: int) -> str:
    """Listen to the end, or to what the server says instead."""
    body = {"text": TEXT * sentences, "seed": seed, "format": "pcm", "max_new_tokens": 60}
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.post(f"{url}/v1/tts", json=body)
    except httpx.TimeoutException:
        return "left alone"
    except httpx.HTTPError:
        return "cut, and seen to be"
    return "served" if answer.status_code == 200 else str(answer.status_code)


async def _waits(url: str, spoken: bool) -> str:
    """Hold a WebSocket open that says no more."""
    try:
        async with connect(url.replace("http", "ws") + "/v1/tts/live") as websocket:
            request = {"text": TEXT if spoken else "", "format": "pcm", "max_new_tokens": 60}
            await websocket.send(ormsgpack.packb({"event": "start", "request": request}))
            while True:
                event = ormsgpack.unpackb(await asyncio.wait_for(websocket.recv(), 60))
                if event["event"] == "finish":
                    return f"live: {event['reason']}"
    except asyncio.TimeoutError:
        return "left alone"
    except ConnectionClosed as closed:
        return f"live: closed with {closed.rcvd.code if closed.rcvd else 'nothing'}"
    except (InvalidHandshake, InvalidMessage, OSError):  # the signal was faster
        return "live: not opened"


# WAV.


def wav(url: str, requests: int) -> list[Finding]:
    """Compare streamed and plain answers of the same seeds, eight at once."""
    with ThreadPoolExecutor(8) as pool:
        wrong = [each for each in pool.map(functools.partial(_wrong, url), range(requests)) if each]
    return [Finding(f"wrong ones of {requests}", wrong[:5] or 0, not wrong)]


def _wrong(url: str, seed: int) -> str:
    """Return what is wrong with the WAV of a seed; empty if nothing is."""
    rng = random.Random(seed)
    body = {"text": f"Request {seed}: {TEXT}", "seed": seed, "retries": 0, "max_new_tokens": rng.randint(1, 30)}
    body["prosody"] = {"volume": rng.choice([0, 20])}  # which is far too loud
    plain, streamed, exact = (
        _asked(url, {**body, **other})
        for other in ({}, {"streaming": True}, {"streaming": True, "subtype": "FLOAT", "sample_rate": 44_100})
    )
    if struct.unpack("<4xI32xI", streamed[:WAV_HEADER]) != STREAM_SIZES:
        return f"{seed}: the header of the stream"
    if struct.unpack("<4xI32xI", plain[:WAV_HEADER]) != (len(plain) - 8, len(plain) - WAV_HEADER):
        return f"{seed}: the header of the file"
    if plain[WAV_HEADER:] != streamed[WAV_HEADER:]:
        return f"{seed}: the stream is not the file"
    samples, rate = soundfile.read(io.BytesIO(plain), dtype="int16")
    floats = np.frombuffer(exact[WAV_HEADER:], "<f4")
    if rate != 44_100 or not len(samples) or len(samples) != len(floats):
        return f"{seed}: {len(samples)} samples at {rate} Hz, not {len(floats)}"
    if not np.isfinite(floats).all():
        return f"{seed}: not finite"
    if np.abs(samples - np.clip(floats.astype(np.float64), -1, 1) * 32_767.5).max() > 2:
        return f"{seed}: not clipped"
    return ""


def _asked(url: str, body: dict) -> bytes:
    answer = httpx.post(f"{url}/v1/tts", json=body, timeout=120, trust_env=False)
    answer.raise_for_status()
    return answer.content


def main() -> int:
    """Run one of them, print what was found, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cuts", "sigterm", "wav"])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--requests", type=int, default=1000)
    asked = parser.parse_args()
    from fishcli.testing.checkpoint import cached

    micro = cached("micro")
    if asked.what == "cuts":
        found = cuts(micro, asked.clients, 60 * asked.minutes)
    elif asked.what == "sigterm":
        found = sigterm(micro, asked.times)
    else:
        with Server(micro) as server:
            found = wav(server.url, asked.requests)
    print(*found, sep="\n")
    return 0 if all(each.ok for each in found) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["noting"]:
        serve_noting(*sys.argv[2:])
    elif sys.argv[1:2] == ["health"]:
        ask_for_health(sys.argv[2])
    else:
        raise SystemExit(main())
