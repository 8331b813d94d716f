"""OpenAI's client, sync and async, and the calls of Open WebUI, against a real server."""

import asyncio
import base64
import json

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

import openai
from conftest import TINY
from serving import serving
from sounds import decoded, encoded

from fishcli import audio
from fishcli.bench import listening
from fishcli.engine import load
from fishcli.server.settings import ServerSettings

KEY = "secret"
RATE = 22_050
WAV = encoded(audio.read(TINY / "reference.wav", RATE)[: 2 * RATE], RATE)
FORMATS = ["wav", *(pytest.param(each, marks=pytest.mark.slow) for each in ("mp3", "opus", "flac", "pcm"))]
LONG = "One two three four five six seven eight nine ten. " * 6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The built-in voice, which ends its sentences; one request at a time is spoken, and none waits."""
    settings = ServerSettings(key=KEY, max_queue=0)
    with serving(load(threads=1, max_batch=1), tmp_path_factory.mktemp("voices"), settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _at_rest(server):
    """Each test begins and ends with an engine that has nothing to do."""
    assert server.idle(60)
    yield
    assert server.idle(60)


@pytest.fixture
def client(server):
    with openai.OpenAI(api_key=KEY, base_url=f"{server.url}/v1", max_retries=0) as opened:
        yield opened


@pytest.fixture
def fox(server):
    """A voice of the library."""
    voice = server.library.add([WAV], ["The quick brown fox"], title="Fox")
    yield voice
    server.library.remove(voice.id)


def samples(data: bytes, name: str = "mp3") -> tuple[np.ndarray, int]:
    """Decode an answer; pcm is 24 kHz."""
    if name == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 2**15, 24_000
    return decoded(data)


def seconds(data: bytes, name: str = "mp3") -> float:
    """Return how long an answer sounds. It must not be silent."""
    heard, rate = samples(data, name)
    assert np.abs(heard).max() > 0.01
    return len(heard) / rate


def ask(client, text: str = "Hello.", **fields: object) -> bytes:
    return client.audio.speech.create(**{"input": text, "model": "tts-1", "voice": "alloy", **fields}).content


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_the_speech(client, name):
    answer = client.audio.speech.create(model="tts-1", voice="alloy", input="Hello.", response_format=name)
    assert 0.4 < seconds(answer.content, name) < 4


def test_mp3_is_the_default_and_instructions_are_taken(client):
    data = ask(client, model="gpt-4o-mini-tts", instructions="Whisper.")
    assert samples(data)[1] == 44_100
    assert seconds(data) > 0.4


def test_speed_keeps_the_words_and_changes_their_time(client):
    def lasting(speed):
        return seconds(ask(client, response_format="pcm", speed=speed, extra_body={"seed": 3}), "pcm")

    plain, fast, slow = lasting(1.0), lasting(4.0), lasting(0.25)
    assert fast < 0.5 * plain
    assert slow > 2 * plain


def test_voices_are_named_by_id_by_title_and_in_the_longer_form(client, fox):
    sounds = [ask(client, voice=each, extra_body={"seed": 5}) for each in (fox.id, "Fox", {"id": fox.id})]
    assert sounds[0] == sounds[1] == sounds[2]
    assert ask(client, voice="nova", extra_body={"seed": 5}) != sounds[0]


def test_the_beginning_is_heard_while_the_end_is_not_spoken(server, client):
    options = {"model": "tts-1", "voice": "alloy", "input": LONG, "response_format": "pcm"}
    with client.audio.speech.with_streaming_response.create(**options) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces)
        assert server.engine.stats.running == 1  # the rest is being made
    assert server.idle(10)  # the client has left


def test_events_hold_the_sound(client):
    options = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "wav", "stream_format": "sse"}
    with client.audio.speech.with_streaming_response.create(**options) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert [each["type"] for each in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
    assert events[-1]["type"] == "speech.audio.done"
    usage = events[-1]["usage"]
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]
    assert seconds(b"".join(base64.b64decode(each["audio"]) for each in events[:-1]), "wav") > 0.4


@pytest.mark.parametrize(
    ("param", "words", "fields"),
    [
        ("voice", "nobody", {"voice": "nobody"}),
        ("response_format", "mp3", {"response_format": "aac"}),
        ("input", "4096", {"input": "a" * 4097}),
        ("input", "", {"input": " "}),
        ("speed", "4", {"speed": 5}),
        ("speed", "number", {"speed": "fast"}),
    ],
)
def test_a_wrong_field_is_a_bad_request_that_names_it(client, param, words, fields):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **fields)
    assert caught.value.param == param
    assert words in caught.value.message
    assert caught.value.type == "invalid_request_error"


def test_a_wrong_key_is_an_authentication_error(server):
    with openai.OpenAI(api_key="wrong", base_url=f"{server.url}/v1", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            ask(client)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_a_full_server_is_tried_again_after_the_time_that_it_names(server, client):
    """The first try finds it full, and the client waits for as long as the answer says."""
    answers = []
    busy = client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input=LONG, response_format="pcm"
    )

    def seen(response: httpx.Response) -> None:
        answers.append(response)
        if response.status_code == 429:
            busy.__exit__(None, None, None)
            assert server.idle(10)

    with openai.OpenAI(
        api_key=KEY,
        base_url=f"{server.url}/v1",
        max_retries=2,
        http_client=httpx.Client(event_hooks={"response": [seen]}),
    ) as patient:
        pieces = busy.__enter__().iter_bytes()
        assert next(pieces)
        assert seconds(ask(patient)) > 0.4
    assert [each.status_code for each in answers] == [429, 200]
    assert int(answers[0].headers["retry-after"]) >= 1


def test_a_full_server_is_a_rate_limit_error_in_the_end(client):
    options = {"model": "tts-1", "voice": "alloy", "input": LONG, "response_format": "pcm"}
    with client.audio.speech.with_streaming_response.create(**options) as busy:
        pieces = busy.iter_bytes()
        assert next(pieces)
        with pytest.raises(openai.RateLimitError, match="later"):
            ask(client)


def test_the_one_model_is_listed(client):
    (model,) = client.models.list().data
    assert (model.object, model.owned_by) == ("model", "fishcli")
    assert model.id


def test_the_async_client_does_the_same(server, fox):
    async def run():
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{server.url}/v1", max_retries=0) as client:
            options = {"model": "tts-1", "voice": fox.id, "input": "Hello.", "response_format": "pcm"}
            async with client.audio.speech.with_streaming_response.create(**options) as answer:
                data = b"".join([piece async for piece in answer.iter_bytes()])
            with pytest.raises(openai.BadRequestError):
                await client.audio.speech.create(**{**options, "voice": "nobody"})
            return data, [each.id async for each in client.models.list()]

    data, models = asyncio.run(run())
    assert seconds(data, "pcm") > 0.4
    assert len(models) == 1


def test_open_webui_finds_voices_and_models_and_speaks(server, fox):
    """Its calls: the lists for its settings, then each sentence as an mp3."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"{server.url}/v1", headers=headers, timeout=60) as web:
        voices = web.get("/audio/voices").raise_for_status().json()["voices"]
        assert {(each["id"], each["name"]) for each in voices} >= {(fox.id, "Fox"), ("default", "default")}
        models = web.get("/models").raise_for_status().json()["data"]
        assert web.get("/audio/models").raise_for_status().json()["models"]
        for voice in ("alloy", "default", fox.id):
            body = {"model": models[0]["id"], "input": "Hello.", "voice": voice, "response_format": "mp3"}
            answer = web.post("/audio/speech", json=body).raise_for_status()
            assert answer.headers["content-type"] == "audio/mpeg"
            assert seconds(answer.content) > 0.4


@pytest.mark.slow
@pytest.mark.skipif(not listening.is_installed(), reason="needs the recogniser")
def test_the_client_hears_the_words_that_it_sent(client):
    text = " ".join(listening.sentences()[index] for index in (4, 7))
    words = [listening.transcribe(*samples(ask(client, text, response_format=each), each)) for each in ("wav", "pcm")]
    assert listening.word_error_rate((text, each) for each in words) < 0.3, words
