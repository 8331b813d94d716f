"""Fish Audio's own clients, unchanged, against a real server: `fishaudio`, the legacy `fish_audio_sdk`, and npm's."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("fishaudio")

import fish_audio_sdk as legacy
import httpx_ws
from conftest import TESTS, TINY
from fishaudio import AsyncFishAudio, FishAudio, exceptions
from fishaudio.core import RequestOptions
from fishaudio.types import FlushEvent, Prosody, ReferenceAudio, TTSConfig
from serving import serving
from sounds import decoded, encoded

from fishcli import audio
from fishcli.bench import listening
from fishcli.engine import load
from fishcli.server.settings import ServerSettings

KEY = "secret"
RATE = 22_050
SPEECH = audio.read(TINY / "reference.wav", RATE)[: 2 * RATE]
WAV = encoded(SPEECH, RATE)
SAID = "The quick brown fox"
FORMATS = ["mp3", *(pytest.param(each, marks=pytest.mark.slow) for each in ("wav", "pcm", "opus"))]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The built-in voice, which ends its sentences; a long text is refused, and one request at a time is spoken."""
    settings = ServerSettings(key=KEY, max_text_length=300, max_queue=0)
    with serving(load(threads=1, max_batch=1), tmp_path_factory.mktemp("voices"), settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _at_rest(server):
    """Each test begins and ends with an engine that has nothing to do."""
    assert server.idle(60)
    yield
    assert server.idle(60)


@pytest.fixture
def sdk(server):
    with FishAudio(api_key=KEY, base_url=server.url) as client:
        yield client


@pytest.fixture
def old(server):
    with legacy.Session(KEY, base_url=server.url) as client:
        yield client


@pytest.fixture
def saved(server):
    """The id of a voice of the library."""
    voice = server.library.add([WAV], [SAID], title="Fox")
    yield voice.id
    server.library.remove(voice.id)


def heard(data: bytes, name: str = "mp3") -> tuple[np.ndarray, int]:
    """Decode an answer."""
    if name == "pcm":
        return np.frombuffer(data, "<i2") / 2**15, 44_100
    return decoded(data)


def wav(data: bytes) -> tuple[np.ndarray, int]:
    return heard(data, "wav")


def seconds(data: bytes, name: str = "mp3") -> float:
    """Return how long an answer sounds. It must not be silent."""
    samples, rate = heard(data, name)
    assert np.abs(samples).max() > 0.01
    return len(samples) / rate


@pytest.mark.parametrize("name", FORMATS)
def test_convert_gives_speech_in_every_format(sdk, name):
    assert 0.4 < seconds(sdk.tts.convert(text="Hello.", format=name), name) < 4


@pytest.mark.parametrize("latency", ["normal", pytest.param("balanced", marks=pytest.mark.slow)])
def test_streams_are_read_in_pieces_and_collected(sdk, latency):
    stream = sdk.tts.stream(text="Hello.", format="wav", latency=latency)
    assert 0.4 < seconds(b"".join(stream), "wav") < 4


def test_speed_and_volume_are_heard(sdk):
    def spoken(**prosody):
        config = TTSConfig(format="pcm", prosody=Prosody(**prosody), temperature=0.1, top_p=0.01)
        return heard(sdk.tts.convert(text="Good morning, my friend.", config=config), "pcm")[0]

    plain, fast, quiet = spoken(), spoken(speed=2.0), spoken(volume=-20)
    assert len(fast) < 0.75 * len(plain)
    assert np.abs(quiet).max() < 0.3 * np.abs(plain).max()


def test_a_voice_is_cloned_from_bytes_and_by_id(sdk, saved):
    by_bytes = sdk.tts.convert(text="Hello.", references=[ReferenceAudio(audio=WAV, text=SAID)])
    by_id = sdk.tts.convert(text="Hello.", reference_id=saved)
    assert seconds(by_bytes) > 0.4
    assert seconds(by_id) > 0.4


@pytest.mark.parametrize("name", FORMATS)
def test_a_websocket_speaks_text_that_arrives_in_pieces(sdk, name):
    sound = b"".join(sdk.tts.stream_websocket(iter(["Good ", "morning.", FlushEvent()]), format=name))
    assert 0.4 < seconds(sound, name) < 5


def test_a_websocket_speaks_before_its_text_has_ended(sdk):
    spoken_early = []

    def texts():
        yield "Good morning."
        yield FlushEvent()
        for _ in range(600):  # until sound is there; the test fails if it never comes
            if spoken_early:
                break
            time.sleep(0.1)
        yield "Bye."

    for piece in sdk.tts.stream_websocket(texts(), format="pcm"):
        spoken_early.append(piece)
    assert len(spoken_early) > 1


def test_the_async_client_does_the_same(server, saved):
    async def run():
        async def texts():
            yield "Good "
            yield "morning."

        async with AsyncFishAudio(api_key=KEY, base_url=server.url) as client:
            whole = await client.tts.convert(text="Hello.", reference_id=saved)
            sound = [piece async for piece in client.tts.stream_websocket(texts(), format="wav")]
            with pytest.raises(exceptions.NotFoundError):
                await client.tts.convert(text="Hello.", reference_id="nobody")
        return whole, b"".join(sound)

    whole, sound = asyncio.run(run())
    assert seconds(whole) > 0.4
    assert seconds(sound, "wav") > 0.4


@pytest.mark.parametrize(
    ("kind", "status", "words", "asked"),
    [
        (exceptions.NotFoundError, 404, "nobody", {"reference_id": "nobody"}),
        (exceptions.APIError, 400, "text", {"text": "   "}),
        (exceptions.APIError, 413, "300", {"text": "long " * 100}),
        (exceptions.APIError, 400, "sample_rate", {"config": TTSConfig(format="mp3", sample_rate=8_000)}),
        (exceptions.APIError, 400, "references", {"references": [ReferenceAudio(audio=b"noise", text="")]}),
        (exceptions.APIError, 400, "top_p", {"config": TTSConfig(top_p=0)}),
    ],
)
def test_errors_reach_the_caller_with_their_message(sdk, kind, status, words, asked):
    with pytest.raises(kind) as caught:
        sdk.tts.convert(**{"text": "Hello.", **asked})
    assert caught.value.status == status
    assert words in caught.value.message


def test_a_wrong_key_is_an_authentication_error(server):
    with FishAudio(api_key="wrong", base_url=server.url) as client:
        with pytest.raises(exceptions.AuthenticationError, match="key"):
            client.tts.convert(text="Hello.")
        with pytest.raises(httpx_ws.WebSocketUpgradeError):
            list(client.tts.stream_websocket(iter(["Hello."])))


def test_a_full_server_is_a_rate_limit_error(server, sdk):
    body = {"text": "One two three four five six seven eight nine ten. " * 5, "format": "pcm"}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.stream("POST", f"{server.url}/v1/tts", json=body, headers=headers, timeout=60) as busy:
        assert busy.status_code == 200
        pieces = busy.iter_bytes()  # to let go of it would end the answer
        assert next(pieces)
        with pytest.raises(exceptions.RateLimitError):
            sdk.tts.convert(text="Hello.")


def test_a_websocket_that_fails_raises(sdk):
    with pytest.raises(exceptions.WebSocketError):
        list(sdk.tts.stream_websocket(iter(["Hello."]), reference_id="nobody"))


def test_voices_are_made_used_changed_and_removed(sdk):
    made = sdk.voices.create(title="Fox", voices=[WAV], texts=[SAID], tags=["a", "b"], description="Quick.")
    assert (made.title, made.description, made.tags, made.state) == ("Fox", "Quick.", ["a", "b"], "trained")
    sdk.voices.update(made.id, title="Dog", visibility="public")
    found = sdk.voices.get(made.id)
    assert (found.title, found.visibility) == ("Dog", "public")
    assert [each.id for each in sdk.voices.list(title="dog", tags=["a"], self_only=True).items] == [made.id]
    sdk.voices.delete(made.id)
    with pytest.raises(exceptions.NotFoundError):
        sdk.voices.get(made.id)
    assert sdk.voices.list().total == 0


def test_headers_and_time_limits_of_a_request_are_taken(sdk):
    options = RequestOptions(timeout=60, additional_headers={"model": "a-model-that-nobody-knows"})
    assert seconds(sdk.tts.convert(text="Hello.", request_options=options)) > 0.4


def request(text: str = "Hello.", **fields: object) -> legacy.TTSRequest:
    return legacy.TTSRequest(text=text, **fields)


@pytest.mark.parametrize("name", ["pcm", *(pytest.param(each, marks=pytest.mark.slow) for each in ("wav", "mp3"))])
def test_the_legacy_session_hears_the_beginning_while_the_end_is_not_spoken(server, old, name):
    text = "One two three. Four five six. Seven eight nine. Ten eleven twelve."
    if name == "wav":  # is a whole file unless it is asked to stream, which this client cannot
        assert seconds(b"".join(old.tts(request("Hello.", format=name))), name) > 0.4
        return
    pieces = old.tts(request(text, format=name))
    first = next(each for each in pieces if each)
    assert server.engine.stats.running == 1  # the rest is being made
    assert seconds(first + b"".join(pieces), name) > 1


def test_a_legacy_session_that_stops_reading_stops_the_engine(server, old):
    pieces = old.tts(request("One two three. Four five six. " * 9, format="pcm"))
    next(each for each in pieces if each)
    pieces.close()
    assert server.idle(10)


def test_the_legacy_session_clones_and_changes_prosody(old, saved):
    fields = {"references": [legacy.ReferenceAudio(audio=WAV, text=SAID)], "prosody": legacy.Prosody(speed=1.5)}
    assert seconds(b"".join(old.tts(request(**fields)))) > 0.2
    assert seconds(b"".join(old.tts(request(reference_id=saved, latency="normal")))) > 0.4


def test_the_legacy_session_is_async_too(server):
    async def run():
        async with legacy.Session(KEY, base_url=server.url) as client:
            found = await client.list_models.awaitable()
            return found, [piece async for piece in client.tts.awaitable(request())]

    found, pieces = asyncio.run(run())
    assert found.total == 0
    assert seconds(b"".join(pieces)) > 0.4


def test_the_legacy_sockets_speak(server):
    with legacy.WebSocketSession(KEY, base_url=server.url) as client:
        assert seconds(b"".join(client.tts(request(""), iter(["Good ", "morning."])))) > 0.4
        with pytest.raises(legacy.WebSocketErr):
            list(client.tts(request("", reference_id="nobody"), iter(["Hello."])))

    async def run():
        async def texts():
            yield "Good morning."

        async with legacy.AsyncWebSocketSession(KEY, base_url=server.url) as client:
            return [piece async for piece in client.tts(request(""), texts())]

    assert seconds(b"".join(asyncio.run(run()))) > 0.4


def test_legacy_models_are_made_listed_changed_and_removed(old):
    made = old.create_model(title="Fox", voices=[WAV], texts=[SAID], tags=["a"])
    old.update_model(made.id, title="Dog", description="It barks.")
    assert [each.title for each in old.list_models(title="Dog", tag="a").items] == ["Dog"]
    assert old.get_model(made.id).description == "It barks."
    old.delete_model(made.id)
    with pytest.raises(legacy.HttpCodeErr) as caught:
        old.get_model(made.id)
    assert caught.value.status == 404
    assert made.id in caught.value.message


def test_errors_have_the_two_keys_that_the_legacy_session_can_take(server, old):
    answer = httpx.post(f"{server.url}/v1/tts", json={}, headers={"Authorization": f"Bearer {KEY}"})
    assert set(answer.json()) == {"status", "message"}
    with pytest.raises(legacy.HttpCodeErr) as caught:  # it shows the status alone, of a stream
        list(old.tts(request(reference_id="nobody")))
    assert caught.value.status == 404
    with pytest.raises(legacy.HttpCodeErr, match="Recording 1"):
        old.create_model(title="Noise", voices=[b"noise"])


@pytest.mark.slow
@pytest.mark.skipif(not listening.is_installed(), reason="needs the recogniser")
def test_the_clients_hear_the_words_that_they_sent(server, sdk, old):
    text = " ".join(listening.sentences()[index] for index in (4, 7))
    answers = [sdk.tts.convert(text=text, format="wav"), b"".join(old.tts(request(text, format="wav")))]
    answers.append(b"".join(sdk.tts.stream_websocket(iter([text[:9], text[9:]]), format="wav")))
    words = [listening.transcribe(samples.astype(np.float32), rate) for samples, rate in map(wav, answers)]
    assert listening.word_error_rate((text, each) for each in words) < 0.3, words


def test_the_npm_package(server, tmp_path):
    """`FISHCLI_TEST_NODE_MODULES` names a folder with `npm install fish-audio`."""
    modules = Path(os.environ.get("FISHCLI_TEST_NODE_MODULES", "node_modules"))
    if not shutil.which("node") or not (modules / "fish-audio").is_dir():
        assert not os.environ.get("CI"), "CI needs Node, and FISHCLI_TEST_NODE_MODULES with fish-audio"
        pytest.skip("needs Node, and fish-audio in FISHCLI_TEST_NODE_MODULES")
    script = tmp_path / "fish.mjs"
    script.write_bytes((TESTS / "interop" / "fish.mjs").read_bytes())
    (tmp_path / "node_modules").symlink_to(modules.resolve())
    (tmp_path / "voice.wav").write_bytes(WAV)
    command = ["node", str(script), server.url, KEY, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["events"] == ["open", "close"]
    assert told["pieces"] > 0
    assert seconds((tmp_path / "whole.mp3").read_bytes()) > 0.4
    assert seconds((tmp_path / "cloned.mp3").read_bytes()) > 0.4
    assert seconds((tmp_path / "live.mp3").read_bytes()) > 0.4
    assert (told["status"], set(told["body"])) == (404, {"status", "message"})
    assert "nobody" in told["body"]["message"]
    assert (told["liveError"], told["title"], told["total"], told["left"]) == (told["body"]["message"], "Dog", 1, 0)
