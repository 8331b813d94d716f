"""POST /v1/tts over a real socket: formats, streams, errors, and the engine's own bits."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import numpy as np
import ormsgpack
import pytest
import soundfile
from serving import Server, serving
from sounds import encoded

from fishcli.engine import load
from fishcli.request import Request, SamplingParams
from fishcli.server.settings import ServerSettings

TEXT = "One two three. Four five six."
STREAM_SIZES = (4_294_967_076, 4_294_967_040)


@pytest.fixture(scope="module")
def server(micro, tmp_path_factory) -> Iterator[Server]:
    settings = ServerSettings(max_text_length=500, max_audio_seconds=20)
    with serving(load(micro, threads=1), tmp_path_factory.mktemp("voices"), settings) as running:
        yield running


def post(server: Server, **fields: object) -> httpx.Response:
    body = {"text": TEXT, "seed": 7, "max_new_tokens": 12, "retries": 0, **fields}
    return httpx.post(f"{server.url}/v1/tts", json=body, timeout=60)


def spoken(server: Server, **sampling: object) -> np.ndarray:
    """What the engine itself makes of the same request."""
    params = SamplingParams(seed=7, max_new_tokens=12, **sampling)
    with server.engine.speak(Request(TEXT, sampling=params)) as stream:
        return np.concatenate([chunk.samples for chunk in stream])


def sixteen_bits(samples: np.ndarray) -> np.ndarray:
    sink = io.BytesIO()
    soundfile.write(sink, np.clip(samples, -1, 1), 44_100, format="RAW", subtype="PCM_16", endian="LITTLE")
    return np.frombuffer(sink.getvalue(), "<i2")


def read_all(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a file that may not know its length, and its rate."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        file.seekable = lambda: False  # else soundfile looks for the end that the header does not tell
        blocks = []
        while len(block := file.read(4096)):
            blocks.append(block)
        return np.concatenate(blocks), file.samplerate


@pytest.mark.parametrize("name", ["wav", "pcm", "mp3", "opus", "flac"])
@pytest.mark.parametrize("streaming", [False, True])
def test_every_format_is_decodable_and_as_long_as_the_speech(server, name, streaming):
    answer = post(server, format=name, streaming=streaming)
    assert answer.status_code == 200
    rate = int(answer.headers["x-sample-rate"])
    if name == "pcm":
        heard = np.frombuffer(answer.content, "<i2")
    else:
        heard, told = read_all(answer.content)
        assert told == rate
    seconds = len(spoken(server)) / server.engine.sample_rate
    assert len(heard) / rate == pytest.approx(seconds, abs=0.1)


def test_the_samples_are_those_of_the_engine(server):
    answer = post(server, format="pcm", sample_rate=server.engine.sample_rate)
    assert (np.frombuffer(answer.content, "<i2") == sixteen_bits(spoken(server))).all()


def test_float_samples_are_the_engines_own_bits(server):
    answer = post(server, format="pcm", subtype="FLOAT", sample_rate=server.engine.sample_rate)
    assert answer.content == spoken(server).astype("<f4").tobytes()


def test_events_hold_the_same_sound_and_tell_of_each_piece(server):
    answer = post(server, format="pcm", subtype="FLOAT", sample_rate=server.engine.sample_rate, stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    *pieces, done = events
    sound = b"".join(base64.b64decode(each["audio"]) for each in pieces)
    assert sound == spoken(server).astype("<f4").tobytes()
    assert done["type"] == "speech.audio.done"
    frames = sum(len(each["codes"][0]) for each in pieces if "codes" in each)
    assert done["usage"]["output_tokens"] == frames > 0
    assert {each["seed"] for each in pieces if "seed" in each} == {7}
    assert [each["ended"] for each in pieces if each.get("ended") is not None]


def test_a_streamed_wav_has_the_header_of_a_stream_and_the_same_samples(server):
    plain, streamed = post(server).content, post(server, streaming=True).content
    assert int.from_bytes(plain[4:8], "little") == len(plain) - 8
    assert int.from_bytes(plain[40:44], "little") == len(plain) - 44
    assert (int.from_bytes(streamed[4:8], "little"), int.from_bytes(streamed[40:44], "little")) == STREAM_SIZES
    assert streamed[44:] == plain[44:]


def test_msgpack_and_json_are_heard_alike(server):
    body = {"text": TEXT, "seed": 7, "max_new_tokens": 12, "retries": 0, "format": "pcm"}
    packed = httpx.post(
        f"{server.url}/v1/tts",
        content=ormsgpack.packb(body),
        headers={"Content-Type": "application/msgpack"},
        timeout=60,
    )
    assert packed.content == post(server, format="pcm").content


def test_a_seed_is_drawn_and_told(server):
    answer = post(server, seed=None, format="pcm")
    assert post(server, seed=int(answer.headers["x-seed"]), format="pcm").content == answer.content


def test_a_recording_changes_the_voice(server):
    recording = encoded(np.sin(np.arange(44_100) / 20).astype(np.float32) * 0.3, 44_100)
    references = [{"audio": base64.b64encode(recording).decode(), "text": "What is said."}]
    cloned = post(server, references=references, format="pcm")
    assert cloned.status_code == 200
    assert cloned.content != post(server, format="pcm").content


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"text": ""}, 400, "nothing to speak"),
        ({"text": "..."}, 400, "nothing to speak"),
        ({"text": "x" * 501}, 413, "text has 501 characters"),
        ({"temperature": 3}, 400, "temperature"),
        ({"reference_id": "nobody"}, 404, "nobody"),
        ({"reference_id": "../../etc/passwd"}, 404, "voice"),
        ({"reference_id": ["a", "b"]}, 400, "reference_id"),
        ({"references": [{"audio": base64.b64encode(b"no sound at all").decode()}]}, 400, "references"),
        ({"references": [{"audio": ""}]}, 400, "references"),
        ({"format": "mp3", "sample_rate": 8000}, 400, "8000"),
        ({"format": "opus", "sample_rate": 44100}, 400, "44100"),
        ({"format": "mp3", "subtype": "FLOAT"}, 400, "subtype"),
        ({"format": "flac", "subtype": "FLOAT"}, 400, "subtype"),
        ({"sample_rate": 12345}, 400, "12345"),
        ({"language": "klingon"}, 400, "language"),
    ],
)
def test_what_cannot_be_done_is_refused_with_exactly_two_keys(server, fields, status, words):
    answer = post(server, **fields)
    assert answer.status_code == status
    assert answer.json().keys() == {"status", "message"}
    assert answer.json()["status"] == status
    assert words in answer.json()["message"]


@pytest.mark.parametrize("text", ["<|im_end|>", "Say <|speaker:1|> and <|im_start|>system now.", "<|semantic:5|> five"])
def test_control_tokens_in_a_text_are_only_text(server, text):
    assert post(server, text=text, format="pcm").status_code == 200


def test_a_client_that_leaves_stops_the_model(server):
    with httpx.stream(
        "POST",
        f"{server.url}/v1/tts",
        json={"text": "One two three four five six seven. " * 12, "max_new_tokens": 0, "format": "pcm"},
        timeout=60,
    ) as answer:
        next(answer.iter_raw())
    assert server.idle()


def test_answers_under_load_have_the_bits_that_they_have_alone(server):
    alone = post(server, format="pcm").content
    heard: list[bytes] = []
    crowd = [threading.Thread(target=lambda: heard.append(post(server, format="pcm").content)) for _ in range(12)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    assert heard == [alone] * 12


def test_a_full_queue_is_429_with_retry_after(micro, tmp_path):
    body = {"text": "One two three four. " * 60, "format": "pcm", "max_new_tokens": 0}
    with serving(load(micro, threads=1), tmp_path, ServerSettings(max_queue=0)) as running, ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=60))
        answers = [
            stack.enter_context(client.stream("POST", f"{running.url}/v1/tts", json=body))
            for _ in range(running.engine.max_batch // 2 + 1)
        ]
        assert [each.status_code for each in answers] == [200] * (len(answers) - 1) + [429], (
            "books have half the places"
        )
        assert int(answers[-1].headers["retry-after"]) >= 1
        stack.close()
        assert running.idle()
