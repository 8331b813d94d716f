"""Connections that send or take too slowly, on real sockets."""

import contextlib
import dataclasses
import json
import socket
import time

import httpx
import pytest

pytest.importorskip("fastapi")

from tiny_app import PATIENT, QUICK, running, wait
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server():
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def quick():
    with running(QUICK) as made:
        yield made


def opened(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def rest(connection: socket.socket) -> bytes:
    """All that comes before the connection ends."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def status(answer: bytes) -> int:
    """The status of an answer of the connection itself, whose body is that of every other error."""
    head, _, body = answer.partition(b"\r\n\r\n")
    number = int(head.split()[1])
    assert json.loads(body).keys() == {"status", "message"}
    assert json.loads(body)["status"] == number
    return number


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_half_open_connections_delay_nobody_and_are_closed(quick, count):
    with contextlib.ExitStack() as stack:
        half = [stack.enter_context(opened(quick)) for _ in range(count)]
        for number, each in enumerate(half):
            each.sendall(HEAD[: number % len(HEAD)])
        wait(lambda: quick.connections >= count)
        began = time.monotonic()
        assert httpx.get(f"{quick.url}/v1/health").status_code == 200
        assert time.monotonic() - began < 5
        assert {status(rest(each)) for each in half} == {408}
    wait(lambda: quick.connections == 0)


def test_a_head_that_trickles_is_not_waited_for(quick):
    with opened(quick) as slow:
        answer = b""
        with contextlib.suppress(ConnectionError):
            for byte in HEAD + b"X: " + b"y" * 10_000:
                slow.sendall(bytes([byte]))
                slow.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not (piece := slow.recv(1000)):
                        break
                    answer += piece
        assert status(answer) == 408


def test_an_idle_connection_is_closed_without_a_word(quick):
    with opened(quick) as idle:
        idle.sendall(HEAD + b"\r\n")
        answer = rest(idle)
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_second_head_that_trickles_is_not_waited_for(quick):
    with opened(quick) as slow:
        slow.sendall(HEAD + b"\r\n")
        while b"}" not in slow.recv(1000):
            pass
        slow.sendall(HEAD)
        assert status(rest(slow)) == 408


def test_a_body_that_nobody_wants_does_not_keep_a_connection(quick):
    with opened(quick) as slow:
        slow.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n")
        slow.sendall(b"Content-Type: application/json\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(300):
                slow.sendall(b"x")
                time.sleep(0.01)
        answer = rest(slow)
    assert answer.startswith(b"HTTP/1.1 404 ") or not answer  # lost where the client still sends
    wait(lambda: quick.connections == 0)


@pytest.mark.parametrize("path", ["/endless", "/slow?seconds=0"])
def test_a_reader_that_stops_is_cut_and_its_work_ends(quick, path):
    quick.seen.clear()
    with opened(quick) as stopped:
        stopped.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stopped.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        if path == "/endless":
            wait(lambda: quick.seen == ["endless stopped"])
        assert httpx.get(f"{quick.url}/v1/health").status_code == 200
        wait(lambda: quick.connections <= 1)


def test_a_slow_reader_that_goes_on_reading_gets_all():
    settings = dataclasses.replace(PATIENT, send_timeout=0.3)
    body = b"x" * 3_000_000
    with running(settings) as server, opened(server) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        head = "POST /v1/tts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while piece := slow.recv(65536):
            answer += piece
            time.sleep(0.01)
    assert answer.endswith(body)


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /" + b"x" * 100_000, 431),
        (HEAD + b"X-Large: " + b"x" * 100_000, 431),
        (HEAD + b"X: y\r\n" * 20_000, 431),
    ],
)
def test_what_is_no_http_gets_an_error_and_no_traceback(server, sent, number):
    with opened(server) as strange:
        with contextlib.suppress(ConnectionError):
            strange.sendall(sent)
        assert status(rest(strange)) == number


def test_connections_have_a_limit():
    with (
        running(dataclasses.replace(PATIENT, max_connections=3)) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(3):
            stack.enter_context(opened(server))
        wait(lambda: server.connections == 3)
        assert status(rest(stack.enter_context(opened(server)))) == 503


def test_clients_that_vanish_leave_nothing(server):
    server.seen.clear()
    for _ in range(20):
        with opened(server) as gone:
            gone.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            gone.recv(1000)
    wait(lambda: len(server.seen) == 20)
    wait(lambda: server.connections == 0)


def test_a_refused_websocket_is_no_error_of_the_server(server, caplog):
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{server.url.replace('http', 'ws')}/v1/tts/live", origin="http://evil.example", proxy=None)
    assert refused.value.response.status_code == 403
    wait(lambda: server.connections == 0)
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == []


def test_a_client_that_asks_for_pongs_and_reads_none_is_cut_off():
    ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    with running() as server, opened(server) as greedy:
        greedy.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"x" * 22 + b"==\r\n\r\n")
        assert b" 101 " in greedy.recv(4096)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            greedy.sendall(ping * 200_000)  # 26 MB
        wait(lambda: server.connections == 0)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("body", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_websocket_whose_handshake_has_a_body_is_closed(quick, method, body):
    head = HEAD.removeprefix(b"GET / ") + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    with opened(quick) as connection:
        connection.sendall(method + b" /live " + head + body)
        assert b" 101 " not in rest(connection)
    wait(lambda: quick.connections == 0)


def test_a_body_of_two_lengths_is_refused_and_what_follows_is_not_read(server):
    lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
    with opened(server) as connection:
        connection.sendall(b"POST /v1/tts HTTP/1.1\r\nHost: localhost\r\n" + lengths + b"0\r\n\r\n" + HEAD + b"\r\n")
        answers = rest(connection)
    assert status(answers) == 400
    assert answers.count(b"HTTP/1.1 ") == 1
