"""The log of a server: one line a request, nothing that a user said."""

import io
import json
import logging

import httpx
import pytest

pytest.importorskip("fastapi")

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser
from tiny_app import running, wait
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fishcli.server.logs import logging_to
from fishcli.server.settings import ServerSettings

SECRET = "my secret text"
KEY = "my-secret-key"


def lines_of(requests, as_json=True, count=1, **options):
    """Return the lines that some requests to a server leave."""
    stream = io.StringIO()
    with logging_to(stream, as_json, **options), running(ServerSettings(key=KEY)) as server:
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            requests(client)
        wait(lambda: stream.getvalue().count("\n") >= count)
    return stream.getvalue().splitlines()


def speak(client):
    headers = {"X-Request-Id": "abc-1"}
    client.post(f"/v1/tts?text={SECRET}", json={"text": SECRET}, headers=headers)


def test_a_request_is_one_line_of_json_without_its_text_key_or_query():
    (line,) = lines_of(speak)
    assert "secret" not in line
    fields = json.loads(line)
    assert fields.pop("time").endswith("Z")
    assert 0 < fields.pop("first_byte") <= fields.pop("seconds") < 60
    assert fields == {
        "level": "info",
        "event": "request",
        "id": "abc-1",
        "method": "POST",
        "route": "/v1/tts",
        "status": 200,
        "bytes": len(json.dumps({"text": SECRET}, separators=(",", ":"))),
        "audio_seconds": 1.25,
        "client_gone": False,
    }


def test_a_request_is_one_line_for_a_reader():
    (line,) = lines_of(speak, as_json=False)
    assert "secret" not in line
    assert "200 POST /v1/tts 0." in line
    assert "1.2 s of audio" in line
    assert line.endswith("[abc-1]")


def test_a_path_may_say_something_and_is_not_logged():
    for path, route in [(f"/item/{SECRET}", "/item/{name}"), (f"/{SECRET}", "unknown")]:
        (line,) = lines_of(lambda client, path=path: client.get(path))
        assert "secret" not in line
        assert json.loads(line)["route"] == route


@pytest.mark.parametrize("as_json", [True, False])
def test_an_exception_is_one_line_without_a_traceback(as_json):
    lines = lines_of(lambda client: client.get("/broken"), as_json, count=2)
    assert len(lines) == 2
    assert "ValueError" in lines[0]
    assert all("Traceback" not in line and "secret" not in line for line in lines)
    if as_json:
        ids = {json.loads(line)["id"] for line in lines}
        assert len(ids) == 1
        assert [json.loads(line)["level"] for line in lines] == ["error", "warning"]


def test_debug_shows_tracebacks_and_paths_with_control_characters_escaped():
    log = "\n".join(lines_of(lambda client: client.get("/broken"), as_json=False, count=5, debug=True))
    assert "Traceback" in log
    log = "\n".join(lines_of(lambda client: client.get("/item/a%1b%0ab"), as_json=False, debug=True))
    assert "/item/a\\x1b\\nb" in log
    assert "\x1b" not in log


def test_quiet_shows_failures_only():
    def both(client):
        client.get("/v1/health")
        client.get("/broken")

    lines = lines_of(both, count=2, quiet=True)
    assert [json.loads(line)["event"] for line in lines] == ["internal error", "request"]


def test_a_client_that_leaves_is_told():
    def leave(client):
        with client.stream("GET", "/endless") as answer:
            next(answer.iter_raw())

    fields = json.loads(lines_of(leave)[0])
    assert fields["client_gone"]
    assert fields["bytes"] > 0


def test_nonsense_leaves_no_line_and_logging_is_left_as_it_was():
    names = ("fishcli", "uvicorn", "uvicorn.error", "asyncio", "python_multipart")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]

    def nonsense(client):
        import socket

        with socket.create_connection((client.base_url.host, client.base_url.port)) as strange:
            strange.sendall(b"nonsense\r\n\r\n")
            strange.recv(1000)
        client.get("/v1/health")

    assert len(lines_of(nonsense)) == 1
    assert [(each.handlers, each.level, each.propagate) for each in loggers] == before


def test_a_refused_websocket_is_one_line():
    def refused(client):
        with pytest.raises(InvalidStatus), connect(f"ws://{client.base_url.netloc.decode()}/live"):
            pass

    (line,) = map(json.loads, lines_of(refused))
    assert (line["method"], line["status"]) == ("WS", 401)


def test_a_broken_form_leaves_no_line(caplog):
    stream = io.StringIO()
    with logging_to(stream, as_json=False), pytest.raises(MultipartParseError):
        MultipartParser(b"b").write(b"--c")
    assert stream.getvalue() == "" == caplog.text
