"""`fish serve` as a process: the port, the key, the log, and its end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

pytest.importorskip("fastapi")

TEXT = "One sentence stands here, and no other."
LONG = " ".join([TEXT] * 40)


class Process:
    """A running `fish serve`, or another command that serves; a port None is its own choice."""

    def __init__(self, *arguments, env=None, port="127.0.0.1:0", command="serve"):
        listen = ["--listen", port] if port else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fishcli", command, "--json", *listen, "--no-compile", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        self.pid, self.err = self._process.pid, ""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        line = self._process.stdout.readline()
        self.url = json.loads(line).get("url", "") if line else ""
        self.said = line

    def _read(self):
        for line in self._process.stderr:
            self.err += line

    def wait_for(self, words):
        """Wait until stderr has said so."""
        end = time.monotonic() + 10
        while words not in self.err:
            assert time.monotonic() < end, self.err
            time.sleep(0.01)

    def send(self, number):
        self._process.send_signal(number)

    def end(self, seconds=40):
        """Return the exit code."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reading.join()
        self._process.stdout.close()
        self._process.stderr.close()
        return code

    def log(self):
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


@contextlib.contextmanager
def serving(*arguments, **options):
    process = Process(*arguments, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send(signal.SIGKILL)
            process.end()


@pytest.fixture(scope="module")
def server():
    with serving("--max-batch", "2", "--max-text-length", "5000") as process:
        yield process


def tts(url, text=TEXT, **fields):
    return httpx.post(f"{url}/v1/tts", json={"text": text, "seed": 1, **fields}, timeout=120)


def test_it_says_where_it_listens_and_speaks(server):
    server.wait_for(f"Listening on {server.url} (documentation at /)")
    assert httpx.get(f"{server.url}/v1/ready").status_code == 200
    answer = tts(server.url)
    assert answer.status_code == 200, answer.text
    assert answer.content[:4] == b"RIFF"
    assert answer.headers["x-request-id"]


def test_options_reach_the_server(server):
    assert tts(server.url, "word " * 1001).status_code == 413
    assert "fishcli_batch_size" in httpx.get(f"{server.url}/metrics").text


def test_errors_are_answers_in_the_dialect_of_the_route(server):
    for method, path, status in [("GET", "/nothing", 404), ("DELETE", "/v1/tts", 405), ("GET", "/model/../x", 404)]:
        answer = httpx.request(method, f"{server.url}{path}")
        assert answer.status_code == status
        assert answer.json()["status"] == status
        assert answer.json().keys() == {"status", "message"}
    answer = httpx.get(f"{server.url}/v1/audio/speech")
    assert answer.status_code == 405
    assert answer.json().keys() == {"error"}
    assert httpx.head(f"{server.url}/v1/health").status_code == 200


def test_the_log_has_a_line_for_each_request_and_no_text(server):
    answer = tts(server.url, "Something that nobody else may read.", reference_id=None)
    mine = answer.headers["x-request-id"]
    end = time.monotonic() + 10
    while not (lines := [line for line in server.log() if line.get("id") == mine]):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [(line["route"], line["status"], line["bytes"]) for line in lines] == [("/v1/tts", 200, len(answer.content))]
    assert "nobody else" not in server.err


def test_a_port_in_use_is_one_line(server):
    port = server.url.rpartition(":")[2]
    began = time.monotonic()
    other = Process("-q", port=f"127.0.0.1:{port}")
    assert other.end() == 1
    assert json.loads(other.said)["code"] == "fish_error"
    assert other.err.splitlines() == [
        f"error: 127.0.0.1:{port} is in use by another program; stop it, or listen on another port. "
        "Choose another address with --listen HOST:PORT."
    ]
    assert time.monotonic() - began < 30


def test_a_key_from_a_file_is_asked_for_and_half_open_connections_do_not_delay_the_end(tmp_path):
    file = tmp_path / "key"
    file.write_text("the-key\n")
    file.chmod(0o644)
    with serving("--api-key-file", file, "--allow-host", "a.example", "--allow-host", "b.example") as process:
        assert f"Others on this machine can read {file}" in process.err
        assert tts(process.url).status_code == 401
        for host, status in [("a.example", 200), ("b.example", 200), ("c.example", 421)]:
            headers = {"Authorization": "Bearer the-key", "Host": host}
            assert httpx.get(f"{process.url}/v1/models", headers=headers).status_code == status
        host, port = process.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half, httpx.Client(base_url=process.url) as idle:
            half.sendall(b"GET / HT")
            idle.get("/v1/health")
            began = time.monotonic()
            process.send(signal.SIGTERM)
            assert process.end() == 0
            assert time.monotonic() - began < 15
        assert "the-key" not in process.err


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_an_answer_in_progress_ends_after_a_signal(number):
    with serving() as process, httpx.Client(base_url=process.url, timeout=60) as client:
        fields = {"text": TEXT, "seed": 1, "format": "wav", "streaming": True}
        whole = client.post("/v1/tts", json=fields).content
        with client.stream("POST", "/v1/tts", json=fields) as answer:
            pieces = answer.iter_raw()
            data = next(pieces)
            process.send(number)
            data += b"".join(pieces)
        assert data == whole
        assert process.end() == 0
    assert "Traceback" not in process.err
    with pytest.raises(httpx.ConnectError):
        httpx.get(process.url)


@pytest.mark.slow
def test_a_second_signal_ends_at_once():
    with serving() as process:
        host, port = process.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            body = json.dumps({"text": LONG, "seed": 1, "streaming": True, "max_new_tokens": 0}).encode()
            head = f"POST /v1/tts HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            client.recv(100)  # and nothing more: the answer does not end by itself
            process.send(signal.SIGINT)
            time.sleep(0.5)
            process.send(signal.SIGINT)
            assert process.end(20) == 130
    assert "Traceback" not in process.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--listen", "nonsense"], 2, "--listen must be HOST:PORT, such as 127.0.0.1:8080, not 'nonsense'."),
        (["--listen", "127.0.0.1:99999"], 2, "--listen must be HOST:PORT"),
        (["--listen", "no.such.host.invalid:1"], 2, "There is no address 'no.such.host.invalid' to listen on"),
        (["--mode", "agent"], 2, "--mode agent is not supported; the only one is tts."),
        (["--max-batch", "0"], 2, "--max-batch must be a whole number from 1 to 256, not 0."),
        (["--max-queue", "x"], 2, "--max-queue must be a whole number"),
        (["--api-key-file", "absent"], 1, "absent cannot be read (No such file or directory)."),
        (["--api-key", ""], 1, "The API key must be letters, digits and signs."),
        (["--cors", "banana"], 2, "'banana' is not the origin of a page, such as https://example.org; pass --cors"),
        (["--cors", "https://x.org/path"], 2, "is not the origin of a page"),
        (["--allow-host", "http://x.org"], 2, "'http://x.org' is not the name of a host"),
        (["--port", "80"], 2, "There is no option --port; did you mean --listen?"),
    ],
)
def test_a_mistake_is_one_sentence(fish, arguments, code, said):
    ran = fish("serve", "--listen", "127.0.0.1:0", *arguments)
    assert ran.code == code
    assert said in ran.err.splitlines()[-1]


def test_a_missing_extra_is_one_sentence(fish, monkeypatch):
    from fishcli.cli import serve

    monkeypatch.setattr(serve, "_EXTRA", ("json", "a_package_that_is_not_there"))
    ran = fish("serve")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: The server needs further packages; run `pip install 'fishcli[server]'`.\n"


def test_a_folder_does_not_open_the_server_to_the_network(fish, tmp_path):
    (tmp_path / "fishcli.toml").write_text('[serve]\nlisten = "0.0.0.0:8080"\n')
    ran = fish("serve")
    assert ran.code == 2
    assert "serve.listen cannot be set for a folder, which may be somebody else's" in ran.err


def test_the_command_line_of_the_documentation(tmp_path, make_checkpoint):
    folder = make_checkpoint("--size", "micro")
    codec = folder / "firefly-gan-vq-fsq-8x1024-21hz-generator.pth"
    with serving(
        "--llama-checkpoint-path", folder, "--decoder-checkpoint-path", codec,
        "--decoder-config-name", "firefly_gan_vq", "--mode", "tts", "--api-key", "the-key", "--workers", "2",
        port="0.0.0.0:0",
    ) as process:  # fmt: skip
        assert process.url.startswith("http://127.0.0.1:")
        assert "use --api-key-file" in process.err
        assert "--workers has no effect" in process.err
        assert httpx.get(f"{process.url}/v1/models").status_code == 401
        assert httpx.get(f"{process.url}/v1/models", headers={"Authorization": "Bearer the-key"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("0.0.0.0", True),
        pytest.param("[::1]", False, marks=pytest.mark.slow),
        pytest.param("", False, marks=pytest.mark.slow),
    ],
)
def test_a_wide_server_without_a_key_is_warned_of(host, warned):
    if host == "[::1]" and not socket.has_ipv6:
        pytest.skip("there is no IPv6")
    with serving(port=f"{host}:0") as process:
        assert ("may use this server" in process.err) == warned
        assert httpx.get(f"{process.url}/v1/health").status_code == 200
