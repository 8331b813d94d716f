"""/v1/tts/live: text that arrives over a WebSocket, sentence by sentence, and what ends a session."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import numpy as np
import ormsgpack
import pytest
from serving import Server, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fishcli.engine import load
from fishcli.request import Request, SamplingParams, TextFeed
from fishcli.server.routes.fish import order
from fishcli.server.schemas import TTSRequest
from fishcli.server.settings import ServerSettings

START = {"text": "", "format": "pcm", "seed": 7, "max_new_tokens": 12, "retries": 0}


@pytest.fixture(scope="module")
def server(micro, tmp_path_factory) -> Iterator[Server]:
    settings = ServerSettings(max_text_length=500, live_idle=0.5, max_live=2)
    with serving(load(micro, threads=1), tmp_path_factory.mktemp("voices"), settings) as running:
        yield running


@contextmanager
def session(server: Server) -> Iterator[ClientConnection]:
    url = f"{server.url.replace('http', 'ws')}/v1/tts/live"
    with connect(url, proxy=None) as socket:
        yield socket


def send(socket: ClientConnection, *events: dict) -> None:
    for event in events:
        socket.send(ormsgpack.packb(event))


def start(**fields: object) -> dict:
    return {"event": "start", "request": {**START, **fields}}


def text(piece: str) -> dict:
    return {"event": "text", "text": piece}


FLUSH, STOP = {"event": "flush"}, {"event": "stop"}


def receive(socket: ClientConnection) -> dict:
    return ormsgpack.unpackb(socket.recv(timeout=20))


def finish(socket: ClientConnection) -> tuple[bytes, dict]:
    """All the sound up to `finish`, and that event."""
    sound = b""
    while (event := receive(socket))["event"] == "audio":
        sound += event["audio"]
    return sound, event


def test_a_text_in_pieces_is_heard_and_finishes_with_stop(server):
    with session(server) as socket:
        send(socket, start(), text("One two "), text("three. Four"), {"event": "mood"}, text(" five six."), STOP)
        sound, end = finish(socket)
    assert end == {"event": "finish", "reason": "stop"}
    assert len(sound) > 1000


def test_the_sound_is_that_of_the_whole_text(server):
    rate = server.engine.sample_rate
    with session(server) as socket:
        send(socket, start(sample_rate=rate, subtype="FLOAT"))
        for letter in "One two three. Four five six.":
            send(socket, text(letter))
        send(socket, STOP)
        sound, _ = finish(socket)
    params = SamplingParams(seed=7, max_new_tokens=12)
    with TextFeed() as feed:
        feed.feed("One two three. Four five six.")
    with server.engine.speak(Request(feed, sampling=params)) as stream:
        whole = np.concatenate([chunk.samples for chunk in stream])
    assert sound == whole.astype("<f4").tobytes()


@pytest.mark.parametrize("name", ["pcm", "mp3", "opus"])
def test_a_flushed_sentence_is_heard_to_its_end_without_a_stop(server, name):
    with session(server) as socket:
        send(socket, start(format=name), text("One two three."), FLUSH)
        heard = len(receive(socket)["audio"])
        with suppress(TimeoutError):
            while (event := ormsgpack.unpackb(socket.recv(timeout=0.5)))["event"] == "audio":
                heard += len(event["audio"])
        send(socket, STOP)
        rest, end = finish(socket)
    assert end["reason"] == "stop"
    assert len(rest) <= 0.25 * heard


def test_a_socket_is_used_again(server):
    with session(server) as socket:
        send(socket, start(), text("One two three."), STOP, start(), text("One two three."), STOP)
        first, second = finish(socket), finish(socket)
    assert first == second


@pytest.mark.parametrize(
    ("events", "status", "words"),
    [
        ([text("Hello.")], 400, "start"),
        ([start(temperature=9)], 400, "temperature"),
        ([start(reference_id="nobody")], 404, "nobody"),
        ([start(), text("x" * 501)], 413, "501"),
        ([start(), {"event": "text", "text": 5}], 400, "text"),
        ([start(), start()], 400, "stop"),
        ([{"event": "start"}], 400, "request"),
        ([["a", "list"]], 400, "map"),
    ],
)
def test_a_wrong_event_finishes_with_an_error(server, events, status, words):
    with session(server) as socket:
        send(socket, *events)
        _, end = finish(socket)
    assert (end["event"], end["reason"], end["status"]) == ("finish", "error", status)
    assert words in end["message"]


@pytest.mark.parametrize("message", ["text, not binary", b"\xc1", b"\x91" * 100_000])
def test_a_message_that_is_no_msgpack_finishes_with_an_error(server, message):
    with session(server) as socket:
        socket.send(message)
        assert finish(socket)[1]["reason"] == "error"
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=20)


def test_an_idle_socket_is_closed_and_one_that_waits_for_text_is_not(server):
    with session(server) as idle, session(server) as waiting:
        send(waiting, start())
        with pytest.raises(ConnectionClosed):
            idle.recv(timeout=20)
        send(waiting, text("One two three."), STOP)
        assert finish(waiting)[1]["reason"] == "stop"


def test_a_text_that_does_not_go_on_is_ended(micro, tmp_path):
    with serving(load(micro, threads=1), tmp_path, ServerSettings(request_timeout=0.3)) as running:
        with session(running) as socket:
            send(socket, start(), text("One two three"))
            sound, end = finish(socket)
            assert len(sound) > 1000
            assert end["reason"] == "stop"
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=20)
        assert running.idle()


def test_one_socket_too_many_is_429(server):
    with session(server), session(server), pytest.raises(InvalidStatus) as refused, session(server):
        pass
    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["Retry-After"]) >= 1


def figure(server: Server, name: str) -> int:
    """A figure of the server's own."""
    text = httpx.get(f"{server.url}/metrics").text
    return int(float(re.search(rf"^{name} (\S+)$", text, re.M)[1]))


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it never came")


def test_an_utterance_has_a_place_while_there_is_text_to_speak(server):
    with session(server) as socket:
        send(socket, start())
        assert figure(server, "fishcli_requests_running") == 0
        for _ in range(2):
            send(socket, text("One two three four five six seven eight nine ten. "), FLUSH)
            assert receive(socket)["event"] == "audio"
            until(lambda: figure(server, "fishcli_requests_running") == 0)


def test_utterances_wait_for_their_turn_as_requests_do(micro, tmp_path):
    settings, long = ServerSettings(max_queue=1), text("One two three four five six seven. " * 20)
    with serving(load(micro, threads=1, max_batch=1), tmp_path, settings) as server, session(server) as first:
        send(first, start(max_new_tokens=0), long, FLUSH)
        assert receive(first)["event"] == "audio"
        with session(server) as second:
            send(second, start(), text("One two three."), STOP)
            until(lambda: figure(server, "fishcli_queue_length") == 1)
            with session(server) as third:
                send(third, start(), text("One two three."), STOP)
                assert "waiting" in finish(third)[1]["message"]
            first.close()
            assert finish(second)[1]["reason"] == "stop"
        assert server.idle()


def test_a_client_that_leaves_while_it_waits_leaves_the_queue(micro, tmp_path):
    long = text("One two three four five six seven. " * 20)
    with serving(load(micro, threads=1, max_batch=1), tmp_path) as server, session(server) as first:
        send(first, start(max_new_tokens=0), long, FLUSH)
        assert receive(first)["event"] == "audio"
        with session(server) as second:
            send(second, start(), text("One two three."))
            until(lambda: figure(server, "fishcli_queue_length") == 1)
        until(lambda: figure(server, "fishcli_queue_length") == 0)


def test_a_client_that_leaves_stops_the_model(server):
    with session(server) as socket:
        send(socket, start(max_new_tokens=0), text("One two three four five six seven. " * 12), FLUSH)
        assert receive(socket)["event"] == "audio"
    assert server.idle()


def test_a_failure_that_nobody_expected_finishes_with_an_error_and_the_socket_goes_on(server, monkeypatch, caplog):
    def fail(request: Request) -> None:
        raise RuntimeError("secret detail")

    with session(server) as socket:
        with monkeypatch.context() as broken:
            broken.setattr(server.engine, "speak", fail)
            send(socket, start())
            _, end = finish(socket)
        assert (end["reason"], end["status"]) == ("error", 500)
        assert "secret" not in end["message"]
        send(socket, start(), text("One two three."), STOP)
        assert finish(socket)[1]["reason"] == "stop"
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == ["internal error"]


def test_the_sound_of_a_live_wav_does_not_wait_for_a_retry(server):
    service = server.app.state.service
    asked = TTSRequest(text="", format="wav")
    assert order(service, asked).request.retries == 2
    assert order(service, asked, TextFeed()).request.retries == 0
