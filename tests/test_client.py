"""The HTTP client, against servers that do what they should, and against hostile ones."""

import base64
import hashlib
import hmac
import json
import struct
import sys
import threading

import numpy as np
import ormsgpack
import pytest
from scripted import answer, chunked, scripted

from fishcli.client import http
from fishcli.client.events import events
from fishcli.client.http import FishClient
from fishcli.client.request import Recording, SpeechRequest
from fishcli.client.sound import UNKNOWN, Layout, Pcm, Wav
from fishcli.errors import AuthError, FishError, InputError, NetworkError, SettingError

HI = SpeechRequest("Hi.")


def heard(url: str, request: SpeechRequest = HI, **settings) -> bytes:
    """Return the whole answer of a server."""
    with FishClient(url, **settings) as client, client.speak(request) as sound:
        return sound.read()


def failure(url: str, request: SpeechRequest = HI, **settings) -> FishError:
    with pytest.raises(FishError) as caught:
        heard(url, request, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 500
    return caught.value


JSON, TEXT, PAGE = "application/json", "text/plain", "text/html"

# Requests


def test_a_request_has_the_fields_that_were_given_and_the_key():
    with scripted(answer(b"sound", X_Seed="7")) as server:
        request = SpeechRequest("Hi.", voice="anna", seed=7, temperature=0.5, streaming=True)
        with FishClient(f"{server.url}/v1/tts", "secret") as client, client.speak(request) as sound:
            assert (sound.read(), sound.headers["X-Seed"]) == (b"sound", "7")
    [asked] = server.asked
    assert asked.line == "POST /v1/tts HTTP/1.1"
    assert (asked.headers["authorization"], asked.headers["accept-encoding"]) == ("Bearer secret", "identity")
    expected = {"text": "Hi.", "format": "wav", "reference_id": "anna", "seed": 7, "temperature": 0.5}
    assert json.loads(asked.body) == {**expected, "streaming": True}


def test_recordings_are_sent_in_msgpack_and_without_it_in_json(monkeypatch):
    request = SpeechRequest("Hi.", references=(Recording(b"\0\xff", "What is said."),))
    with scripted(answer(b"sound")) as server:
        heard(server.url, request)
        monkeypatch.setitem(sys.modules, "ormsgpack", None)
        heard(server.url, request)
    packed, plain = server.asked
    assert packed.headers["content-type"] == "application/msgpack"
    assert ormsgpack.unpackb(packed.body)["references"] == [{"audio": b"\0\xff", "text": "What is said."}]
    assert plain.headers["content-type"] == "application/json"
    audio = base64.b64encode(b"\0\xff").decode()
    assert json.loads(plain.body)["references"] == [{"audio": audio, "text": "What is said."}]


def test_voices_and_health():
    items = [{"_id": "anna", "title": "Anna"}, "rubbish"]
    listed = answer(json.dumps({"total": 1, "items": items}).encode(), kind=JSON)
    with scripted(listed) as server, FishClient(server.url, "secret") as client:
        assert client.voices() == items[:1]
        assert client.health()["Content-Type"] == JSON
    assert "authorization" not in server.asked[1].headers
    with scripted(answer(b"[]", kind=JSON)) as server, FishClient(server.url) as client, pytest.raises(NetworkError):
        client.voices()


@pytest.mark.parametrize(
    "url", ["ftp://x", "x", "", "http://", "http://a:b@c", "http://x?y", "http://[", "http://x:0x"]
)
def test_an_address_that_cannot_be_one(url):
    with pytest.raises(SettingError) as caught:
        FishClient(url)
    assert caught.value.field == "url"


@pytest.mark.parametrize("key", ["two words", "line\nline", "kéy"])
def test_a_key_that_cannot_be_one(key):
    with pytest.raises(SettingError) as caught:
        FishClient("http://127.0.0.1:1", key)
    assert caught.value.field == "api_key"


# Refusals

REFUSALS = {
    "ours": ("404 X", JSON, b'{"status": 404, "message": "No such voice."}', InputError, ": No such voice."),
    "ours, a key": ("401 X", JSON, b'{"status": 401, "message": "Wrong key"}', AuthError, ": Wrong key."),
    "forbidden": ("403 X", TEXT, b"", AuthError, " answered 403 Forbidden; check the API key."),
    "OpenAI": ("400 X", JSON, b'{"error": {"message": "No input.", "code": null}}', InputError, ": No input."),
    "a word": ("500 X", JSON, b'{"error": "Broken"}', NetworkError, ": Broken."),
    "FastAPI": ("404 X", JSON, b'{"detail": "Not Found"}', InputError, ": Not Found."),
    "FastAPI, fields": ("422 X", JSON, b'{"detail": [{"loc": ["text"], "msg": "Missing"}]}', InputError, ": Missing."),
    "plain text": ("413 X", TEXT, b"Too\nlarge", InputError, ": Too large."),
    "a page": ("502 X", PAGE, b"<html><b>Bad Gateway</b></html>", NetworkError, " answered 502 Bad Gateway."),
    "nothing": ("400 X", TEXT, b"", InputError, " answered 400 Bad Request."),
    "no known status": ("599 X", TEXT, b"", NetworkError, " answered 599."),
    "control characters": ("400 X", TEXT, b"\x1b]0;owned\x07\x1b[2J", InputError, r": \x1b]0;owned\x07\x1b[2J."),
    "no UTF-8": ("400 X", TEXT, b"\xff\xfe", InputError, ": ��."),
    "deep JSON": ("400 X", JSON, b"[" * 100_000, InputError, None),
    "long": ("400 X", TEXT, b"x" * 100_000, InputError, None),
    "a wrong length": ("400 X", TEXT, b"Wrong.", InputError, ": Wrong."),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_clear_sentence(name):
    status, kind, body, error, said = REFUSALS[name]
    length = 10**6 if name == "a wrong length" else None
    whole = answer(body, status, kind, length=length)
    with scripted(lambda asked, connection: connection.sendall(whole)) as server:
        found = failure(server.url)
    assert type(found) is error
    if said is not None:
        assert str(found) == f"{server.url}{said}"


@pytest.mark.parametrize("status", ["301 X", "302 X", "307 X", "308 X"])
def test_a_redirect_is_not_followed(status):
    with scripted(answer(b"sound")) as other, scripted() as server:
        server.answers = [answer(b"", status, Location=f"{other.url}/v1/tts")]
        assert "a redirect, which is not followed" in str(failure(server.url, key="secret"))
    assert not other.asked


def test_a_busy_server_is_asked_again_a_few_times(monkeypatch):
    busy = answer(b'{"status": 429, "message": "Busy."}', "429 X", JSON, Retry_After="0")
    with scripted(busy, answer(b"", "503 X", Retry_After="0"), answer(b"sound")) as server:
        assert heard(server.url) == b"sound"
    assert len(server.asked) == 3
    with scripted(busy) as server:
        assert str(failure(server.url)) == f"{server.url}: Busy."
    assert len(server.asked) == 4
    with scripted(busy) as server:
        failure(server.url, retries=0)
    assert len(server.asked) == 1
    with scripted(answer(b"", "503 X", Retry_After="86400")) as server:
        assert type(failure(server.url)) is NetworkError
    assert len(server.asked) == 1


# Answers that are none


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (chunked(b"sound", complete=False), "is cut off or is not HTTP"),
        (answer(b"sound", Content_Encoding="gzip"), "sends a compressed answer"),
        (answer(b"{}", kind=JSON), f"answered with {JSON}, not with audio"),
        (answer(b"<p>", kind=f"{PAGE}; charset=utf-8"), f"answered with {PAGE}, not with audio"),
        (answer(b"", kind="\x1b[2J"), "not"),
        (b"SSH-2.0-OpenSSH\r\n", "is cut off or is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "is cut off or is not HTTP"),
        (b"", "is cut off or is not HTTP"),
    ],
)
def test_an_answer_that_is_not_one(data, said):
    with scripted(lambda asked, connection: connection.sendall(data)) as server:
        found = failure(server.url)
    assert type(found) is NetworkError
    assert said in str(found)


def test_an_answer_that_is_shorter_than_its_length():
    with scripted(lambda asked, connection: connection.sendall(answer(b"sound", length=99))) as server:
        assert "is cut off" in str(failure(server.url))


def test_an_endless_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(http, "_LEAST", 2**20)

    def endless(asked, connection):
        connection.sendall(chunked(complete=False))
        while True:
            connection.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")

    with scripted(endless) as server:
        assert "sends more than any answer" in str(failure(server.url))
        assert server.gone.wait(10)


def test_silence_is_given_up(monkeypatch):
    monkeypatch.setattr(http, "_SILENCE", 0.2)
    released = threading.Event()
    with scripted(lambda asked, connection: released.wait(10)) as server:
        assert "has sent nothing for too long" in str(failure(server.url, SpeechRequest("Hi.", streaming=True)))
        released.set()


def test_no_server():
    with scripted(answer()) as server:
        pass
    assert "cannot be reached" in str(failure(server.url))


def test_a_proxy_is_not_asked_for_loopback(monkeypatch):
    with scripted(answer(b"", "502 X")) as proxy, scripted(answer(b"sound")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert heard(server.url) == b"sound"
        assert not proxy.asked
        failure("http://server.invalid")
        assert proxy.asked


def test_closing_the_answer_lets_the_server_stop():
    def slow(asked, connection):
        connection.sendall(chunked(b"first", complete=False))
        while True:
            connection.sendall(b"1\r\nx\r\n")

    with scripted(slow) as server, FishClient(server.url) as client:
        with client.speak(HI) as sound:
            assert next(sound).startswith(b"first")
        assert server.gone.wait(10)


# The proof of a local server


def proof(asked) -> str:
    nonce = asked.line.split("nonce=")[1].split()[0]
    return hmac.new(b"secret", nonce.encode(), hashlib.sha256).hexdigest()


def test_a_server_proves_that_it_knows_the_key_before_it_gets_a_recording():
    def proves(asked, connection):
        connection.sendall(answer(b"{}", kind=JSON, X_Fish_Proof=proof(asked)))
        server.serve(connection)  # the same connection

    with scripted(proves, answer(b"sound")) as server, FishClient(server.url, "secret") as client:
        client.prove("secret")
        with client.speak(HI) as sound:
            assert sound.read() == b"sound"
    assert [asked.headers.get("authorization") for asked in server.asked] == [None, "Bearer secret"]


@pytest.mark.parametrize("given", [{}, {"X_Fish_Proof": "0" * 64}, {"X_Fish_Proof": "é"}])
def test_a_server_without_the_key_gets_nothing(given):
    with scripted(answer(b"{}", kind=JSON, **given)) as server, FishClient(server.url, "secret") as client:
        refuses = pytest.raises(NetworkError, match="is not the server that it should be")
        with refuses:
            client.prove("secret")
    assert len(server.asked) == 1


def test_nobody_else_gets_the_recording_when_the_server_ends_after_its_proof():
    def proves(asked, connection):
        connection.sendall(answer(b"{}", kind=JSON, X_Fish_Proof=proof(asked)))

    with scripted(proves, answer(b"sound")) as server, FishClient(server.url, "secret") as client:
        client.prove("secret")
        with pytest.raises(NetworkError, match=r"has closed the connection|cut off|failed"):
            client.speak(HI)
    assert len(server.asked) == 1


# Sound


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def wav(form: bytes, sound: bytes, size: int = UNKNOWN, before: bytes = b"") -> bytes:
    head = b"RIFF" + struct.pack("<I", UNKNOWN + 36) + b"WAVE" + before + b"fmt " + struct.pack("<I", len(form)) + form
    return head + b"data" + struct.pack("<I", size) + sound


def form(tag: int = 1, channels: int = 1, rate: int = 22_050, bits: int = 16) -> bytes:
    width = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "head", [form(), form(rate=96_000), form(channels=2), form(3, bits=32), form(3, 2, bits=32), form() + b"\0\0"]
)
def test_a_streamed_wav_is_read_however_it_is_cut(head, size):
    layout = Layout(*struct.unpack("<HHI", head[:8])[::-1][:2], floats=head[0] == 3)
    values = np.linspace(-0.5, 0.5, 60, dtype=np.float32)
    sound = values.astype("<f4").tobytes() if layout.floats else (values * 32768).astype("<i2").tobytes()
    reader = Wav()
    listed = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    found = b"".join(map(reader.feed, cut(wav(head, sound, before=listed), size)))
    reader.end()
    assert (found, reader.layout) == (sound, layout)
    mixed = values.reshape(-1, layout.channels).mean(axis=1)
    np.testing.assert_allclose(layout.samples(found), mixed, atol=1 / 32768)
    again = Wav()
    assert again.feed(layout.header(len(sound)) + sound) == sound
    assert again.layout == layout


def test_a_size_in_the_header_that_lies():
    reader = Wav()
    assert reader.feed(wav(form(), b"1234" + b"LIST", size=4)) == b"1234"
    reader.end()
    reader = Wav()
    assert reader.feed(wav(form(), b"1234", size=400)) == b"1234"
    with pytest.raises(NetworkError, match="cut off"):
        reader.end()


@pytest.mark.parametrize(
    "data",
    [
        b"<html>",
        b"RIFF\0\0\0\0AVI ",
        wav(form(tag=2), b""),
        wav(form(tag=1, bits=24), b""),
        wav(form(channels=0), b""),
        wav(form(channels=8), b""),
        wav(form(rate=0), b""),
        wav(form(rate=2**30), b""),
        wav(b"", b""),
        wav(form(), b"", before=b"LIST\xff\xff\xff\xff"),
        wav(form(), b"", before=(b"LIST" + struct.pack("<I", 60_000) + bytes(60_000)) * 2),
    ],
)
def test_a_wav_that_is_not_read(data):
    with pytest.raises(NetworkError):
        Wav().feed(data)


@pytest.mark.parametrize("data", [b"", b"RIFF", wav(form(), b"123")])
def test_a_wav_that_is_cut_off(data):
    reader = Wav()
    reader.feed(data)
    with pytest.raises(NetworkError):
        reader.end()


def test_samples_without_a_header():
    reader = Pcm(Layout(8000, 2))
    assert [reader.feed(each) for each in (b"123", b"4567", b"8")] == [b"", b"1234", b"5678"]
    reader.end()
    reader.feed(b"1")
    with pytest.raises(NetworkError):
        reader.end()


# Events


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_events_are_read_however_they_are_cut(size, end):
    lines = [": a comment", 'data: {"a": 1}', "", "event: x", 'data:{"b":', 'data: "é"}', "", "", 'data: {"c"']
    data = end.join(lines).encode()
    assert list(events(cut(data, size))) == [{"a": 1}, {"b": "é"}]


@pytest.mark.parametrize(
    "data", [b"data: {\n\n", b"data: []\n\n", b"data: \xff\n\n", b"data: " + b"[" * 10**5 + b"\n\n"]
)
def test_events_that_are_none(data):
    with pytest.raises(NetworkError):
        list(events([data]))


def test_an_event_without_an_end(monkeypatch):
    monkeypatch.setattr("fishcli.client.events._LONGEST", 1000)
    with pytest.raises(NetworkError, match="without an end"):
        list(events(b"data: x" for _ in range(1000)))


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "foo://127.0.0.1:1", "proxy"),
        ("SSL_CERT_FILE", "/no/such/file", "certificates"),
    ],
)
def test_a_wrong_environment_is_one_sentence(monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    assert words in str(failure("https://example.invalid"))


def test_a_socks_proxy_needs_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    assert "pip install 'httpx[socks]'" in str(failure("http://example.invalid"))


def test_a_server_that_does_not_prove_itself_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(http, "_PROVING", 0.2)
    with scripted(lambda asked, connection: server.gone.wait(30)) as server, FishClient(server.url) as client:
        with pytest.raises(NetworkError, match="sent nothing for too long"):
            client.prove("secret")
        server.gone.set()
