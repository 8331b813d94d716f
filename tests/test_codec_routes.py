"""POST /v1/vqgan/encode and decode: the engine's own codes and samples, in JSON and msgpack."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import ormsgpack
import pytest
from serving import Server, serving
from sounds import encoded

from fishcli.engine import load
from fishcli.server.settings import ServerSettings

RATE = 44_100
RECORDING = encoded((0.3 * np.sin(np.arange(RATE) / 20)).astype(np.float32), RATE, "WAV", "FLOAT")
MSGPACK = {"Content-Type": "application/msgpack"}


@pytest.fixture(scope="module")
def server(micro, tmp_path_factory) -> Iterator[Server]:
    settings = ServerSettings(max_audio_seconds=5)
    with serving(load(micro, threads=1), tmp_path_factory.mktemp("voices"), settings) as running:
        yield running


def post(server: Server, route: str, body: object) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/vqgan/{route}", json=body, timeout=60)


def post_packed(server: Server, route: str, body: object) -> httpx.Response:
    url = f"{server.url}/v1/vqgan/{route}"
    return httpx.post(url, content=ormsgpack.packb(body), headers=MSGPACK, timeout=60)


def test_recordings_become_the_engines_codes(server):
    packed = ormsgpack.unpackb(post_packed(server, "encode", {"audios": [RECORDING, RECORDING]}).content)
    text = base64.b64encode(RECORDING).decode()
    assert post(server, "encode", {"audios": [text, text]}).json() == packed
    codes = server.engine.encode((0.3 * np.sin(np.arange(RATE) / 20)).astype(np.float32))
    assert packed["tokens"] == [codes.tolist()] * 2


def test_codes_become_the_engines_samples(server):
    codes = server.engine.encode((0.3 * np.sin(np.arange(RATE) / 20)).astype(np.float32))
    samples = np.concatenate(list(server.engine.decode(codes))).astype("<f2").tobytes()
    answer = post_packed(server, "decode", {"tokens": [codes.tolist()]})
    assert answer.headers["content-type"] == "application/msgpack"
    assert ormsgpack.unpackb(answer.content) == {"audios": [samples]}
    text = post(server, "decode", {"tokens": [codes.tolist()]}).json()["audios"][0]
    assert base64.b64decode(text) == samples


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("encode", {}, "audios"),
        ("encode", {"audios": []}, "audios"),
        ("encode", {"audios": ["?"]}, "audios"),
        ("encode", {"audios": [base64.b64encode(b"no sound").decode()]}, "audios"),
        ("encode", {"audios": [base64.b64encode(encoded(np.zeros(6 * RATE), RATE)).decode()]}, "audios"),
        ("decode", {"tokens": []}, "tokens"),
        ("decode", {"tokens": [[]]}, "tokens"),
        ("decode", {"tokens": [[[]] * 8]}, "tokens"),
        ("decode", {"tokens": [[[1, 2]] * 7]}, "tokens"),
        ("decode", {"tokens": [[[1, 2]] * 7 + [[1]]]}, "tokens"),
        ("decode", {"tokens": [[[1000]] * 8]}, "tokens"),
        ("decode", {"tokens": [[[-1]] * 8]}, "tokens"),
        ("decode", {"tokens": [[[2**70]] * 8]}, "tokens"),
        ("decode", {"tokens": [[[0.5]] * 8]}, "tokens"),
        ("decode", {"tokens": [[[1] * 30_001] * 8]}, "tokens"),
        ("decode", {"tokens": "codes"}, "tokens"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(server, route, body, field):
    answer = post(server, route, body)
    assert answer.status_code == 400
    assert answer.json().keys() == {"status", "message"}
    assert answer.json()["message"].startswith(field)


def test_work_that_takes_too_long_is_ended(micro, tmp_path):
    recording = encoded(np.random.default_rng(0).uniform(-0.5, 0.5, 20 * RATE).astype(np.float32), RATE)
    body = {"audios": [base64.b64encode(recording).decode()] * 8}
    with serving(load(micro, threads=1), tmp_path, ServerSettings(request_timeout=0.01)) as running:
        answer = post(running, "encode", body)
        assert answer.status_code == 503
        assert "0.01 seconds" in answer.json()["message"]
        assert running.app.state.service.admission.running == 0
        assert running.idle()


def test_out_of_memory_is_503_and_the_next_request_is_served(server, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes.")

    body = {"audios": [base64.b64encode(RECORDING).decode()]}
    with monkeypatch.context() as full:
        full.setattr(server.engine, "encode", fail)
        answer = post(server, "encode", body)
    assert (answer.status_code, answer.json()["message"][:28]) == (503, "The server is out of memory;")
    assert int(answer.headers["retry-after"]) >= 1
    assert post(server, "encode", body).status_code == 200


def test_what_an_engine_has_died_of_is_not_told(micro, tmp_path):
    def die(*_: object) -> None:
        raise SystemExit("secret detail")

    with serving(load(micro, threads=1), tmp_path) as running:
        running.engine._worker.scheduler.next = die
        bodies = {
            "vqgan/decode": {"tokens": [[[1]] * 8]},
            "tts": {"text": "Hi."},
            "audio/speech": {"model": "x", "input": "Hi.", "voice": "default"},
        }
        for route, body in bodies.items():
            answer = httpx.post(f"{running.url}/v1/{route}", json=body, timeout=60)
            assert answer.status_code == 503
            assert "ngine has stopped" in answer.text
            assert "secret" not in answer.text
        assert isinstance(running.engine.fault, SystemExit)
        assert httpx.get(f"{running.url}/v1/ready").status_code == 503
