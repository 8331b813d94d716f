"""A hundredth of tests/stress_server.py, with limits that only a fault exceeds; a tenth with `-m slow`."""

import asyncio
import gc
import itertools
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import stress_server
from rude_clients import TEXT, visit
from serving import serving
from stress_server import Limits

from fishcli.engine import load
from fishcli.request import Request, SamplingParams
from fishcli.server.settings import ServerSettings

LOOSE = Limits(stop=10, health=10, memory=0.25, idle=10, settle=0)


def assert_ok(found):
    assert all(each.ok for each in found), "\n".join(map(str, found))


def test_cuts(micro):
    found = stress_server.cuts(micro, clients=20, seconds=2, limits=LOOSE)
    # Worker threads that idle are not counted here: they go after ten seconds.
    assert_ok([each for each in found if each.name != "threads"])


def test_sigterm(micro):
    assert_ok(stress_server.sigterm(micro, times=1))


@pytest.mark.slow
def test_a_tenth(micro):
    assert_ok(stress_server.cuts(micro, clients=200, seconds=180, limits=Limits(stop=1, health=1)))
    assert_ok(stress_server.sigterm(micro, times=10))
    with stress_server.Server(micro) as server:
        assert_ok(stress_server.wav(server.url, requests=100))


@pytest.fixture(scope="module")
def server(micro, tmp_path_factory):
    with serving(load(micro, threads=1), tmp_path_factory.mktemp("voices"), ServerSettings(max_queue=200)) as running:
        yield running


def test_wav(server):
    assert_ok(stress_server.wav(server.url, requests=10))


def until(condition):
    """Wait until a condition holds; fail where it never does."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it never came")


def ask(server, seed, **fields):
    body = {"text": TEXT, "seed": seed, "format": "pcm", "max_new_tokens": 12, "retries": 0, **fields}
    return httpx.post(f"{server.url}/v1/tts", json=body, timeout=60).content


def stuck(server, seed):
    """Send a request for a long speech over a connection that takes nothing of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    host, port = server.url.removeprefix("http://").split(":")
    connection.connect((host, int(port)))
    body = json.dumps({"text": TEXT * 20, "seed": seed, "format": "wav", "streaming": True, "check": "off"}).encode()
    head = f"POST /v1/tts HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(head.encode() + b"\r\n" + body)
    return connection


@pytest.mark.parametrize("places", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_readers_that_stop_hold_up_nobody(micro, tmp_path, places):
    with serving(load(micro, threads=1, max_batch=places), tmp_path) as server:
        hold_up_nobody(server)


def hold_up_nobody(server):
    engine = server.engine
    connections = [stuck(server, seed) for seed in range(engine.max_batch)]
    try:
        until(lambda: engine.stats.frames and engine.stats.running + engine.stats.waiting >= engine.max_batch)
        answers = [ask(server, 100 + seed) for seed in range(2)]
        assert all(answers)
        assert engine.stats.running + engine.stats.waiting >= engine.max_batch  # they are still there
    finally:
        for connection in connections:
            connection.close()
    until(lambda: engine.stats[:3] == (0, 0, 0))


def test_eight_streams_have_the_bits_that_each_has_alone(server):
    def alone(seed):
        params = SamplingParams(seed=seed, max_new_tokens=12)
        with server.engine.speak(Request(TEXT, sampling=params)) as stream:
            return b"".join(chunk.samples.tobytes() for chunk in stream)

    expected = [alone(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda seed: ask(server, seed, subtype="FLOAT"), range(8))) == expected
    assert len(set(expected)) == 8


def test_clients_that_vanish_leave_nothing(server, caplog):
    ask(server, 0)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    seeds = itertools.count(1000)

    async def crowd():
        return await asyncio.gather(*(asyncio.wait_for(visit(server.url, next(seeds)), 30) for _ in range(200)))

    visits = asyncio.run(crowd())
    assert sum(each.cut is not None for each in visits) > 100
    until(lambda: server.engine.stats[:3] == (0, 0, 0))
    until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 2)
    assert ask(server, 0)
    gc.collect()  # of tasks whose errors nobody has seen
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []
