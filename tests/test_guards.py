"""The guards before the routes: who may send what, and what every answer has."""

import contextlib
import json
import socket
from dataclasses import replace

import httpx
import pytest

pytest.importorskip("fastapi")

from tiny_app import running, wait
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from fishcli.server.settings import ServerSettings

KEY = "a-key-of-fish"
BEARER = {"Authorization": f"Bearer {KEY}"}
GUARDED = ServerSettings(
    key=KEY,
    local_key="local",
    allowed_hosts=("speech.example.org",),
    cors_origins=("https://page.example",),
    max_body=100_000,
)


@pytest.fixture(scope="module")
def server():
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def guarded():
    with running(GUARDED) as made:
        yield made


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url) as made:
        yield made


def raw(server, data: bytes) -> bytes:
    """Send bytes and return all that comes back before the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            return answer + b"(reset)"
        return answer


def is_error(answer, status):
    """Whether an answer is an error of the dialect of Fish Speech, with exactly two keys."""
    body = answer.json()
    assert answer.status_code == status, body
    assert body.keys() == {"status", "message"}
    return body["status"] == status


def test_an_answer_has_an_id_and_the_headers_of_safety(client):
    answer = client.post("/v1/tts", json={"text": "x"}, headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    for strange in ["a b", "x" * 65, "é", "a;b"]:
        other = client.get("/", headers={"X-Request-Id": strange.encode()}).headers["x-request-id"]
        assert len(other) == 16
        assert other != strange


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "[::1]:80", "localhost", "LOCALHOST:1", "10.1.2.3"])
def test_hosts_that_are_served(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_this_machine_has_a_name(client, guarded):
    assert client.get("/", headers={"Host": socket.gethostname()}).status_code == 200
    assert httpx.get(guarded.url, headers={"Host": "speech.example.org:8080"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "speech.example.org.evil.example", "localhost.evil.example", "1.1.1"])
def test_other_hosts_are_misdirected(client, guarded, host):
    assert is_error(client.get("/", headers={"Host": host}), 421)
    assert is_error(httpx.get(guarded.url, headers={"Host": host}), 421)
    body = client.post("/v1/audio/speech", headers={"Host": host}, json={}).json()
    assert body["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("head", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a b\r\n", b"Host: \r\n", b"Host: a@b\r\n"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_one_valid_host_is_needed(server, head, version):
    answer = raw(server, b"GET / HTTP/" + version + b"\r\n" + head + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400


FOREIGN = [
    "https://evil.example",
    "null",
    "http://127.0.0.1",
    "http://localhost:1",
    "https://127.0.0.1",
    "x",
    "http://",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_pages_from_elsewhere_are_refused(server, client, origin):
    assert is_error(client.post("/v1/tts", json={}, headers={"Origin": origin}), 403)
    assert is_error(client.get("/", headers={"Origin": origin}), 403)
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://127.0.0.1:{server.port}/live", origin=origin):
        pass
    assert json.loads(refused.value.response.body)["status"] == refused.value.response.status_code == 403


def test_our_own_page_may_send_requests(server, client):
    assert client.post("/v1/tts", json={}, headers={"Origin": server.url}).status_code == 200
    with connect(f"ws://127.0.0.1:{server.port}/live", origin=server.url) as live:
        live.send("hello")
        assert live.recv(timeout=10) == "hello"


def test_an_allowed_page_may_ask_send_and_read(guarded):
    page = {"Origin": "https://page.example"}
    asked = httpx.options(f"{guarded.url}/v1/tts", headers=page | {"Access-Control-Request-Method": "POST"})
    assert asked.status_code == 204
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    answers = [asked, httpx.post(f"{guarded.url}/v1/tts", json={}, headers=page | BEARER)]
    answers.append(httpx.post(f"{guarded.url}/v1/tts", json={}, headers=page))  # an error can be read as well
    assert [each.status_code for each in answers] == [204, 200, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
    own = page | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-stainless-os",
    }
    asked = httpx.options(f"{guarded.url}/v1/tts", headers=own)
    assert asked.headers["Access-Control-Allow-Headers"] == "content-type,x-stainless-os"
    other = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    refused = httpx.options(f"{guarded.url}/v1/tts", headers=other)
    assert is_error(refused, 403)
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        KEY,
        f"Basic {KEY}",
        "Bearer",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer \xff",
    ],
)
def test_a_wrong_key_is_refused(guarded, given):
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    for path in ["/v1/tts", "/v1/models", "/nothing", "/v1/health/", "/openapi.json/x", "/staticx", "//"]:
        answer = httpx.get(f"{guarded.url}{path}", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{guarded.port}/live", additional_headers=headers)
    assert refused.value.response.status_code == 401


def test_the_right_key_is_taken_and_some_routes_need_none(guarded):
    for key in [f"Bearer {KEY}", f"bearer {KEY}", "Bearer local"]:
        assert httpx.post(f"{guarded.url}/v1/tts", json={}, headers={"Authorization": key}).status_code == 200
    for path in ["/", "/openapi.json", "/v1/health", "/v1/ready"]:
        assert httpx.get(f"{guarded.url}{path}").status_code == 200
    assert httpx.get(f"{guarded.url}/static/nothing").status_code == 404
    with connect(f"ws://127.0.0.1:{guarded.port}/live", additional_headers=BEARER) as live:
        live.send("hello")
        assert live.recv(timeout=10) == "hello"


def test_a_server_proves_that_it_is_the_one_of_this_user(guarded, client):
    import hmac

    nonce = "0123456789abcdef"
    answer = httpx.get(f"{guarded.url}/v1/health?nonce={nonce}")
    assert answer.headers["x-fish-proof"] == hmac.new(b"local", nonce.encode(), "sha256").hexdigest()
    for query in ["", "?nonce=", "?nonce=short", f"?nonce={'x' * 500}"]:
        assert "x-fish-proof" not in httpx.get(f"{guarded.url}/v1/health{query}").headers
    assert "x-fish-proof" not in client.get(f"/v1/health?nonce={nonce}").headers


@pytest.mark.parametrize(
    ("path", "method", "kind", "status"),
    [
        ("/v1/tts", "POST", "application/json", 200),
        ("/v1/tts", "POST", "application/json; charset=utf-8", 200),
        ("/v1/tts", "POST", "Application/MsgPack", 200),
        ("/v1/tts", "POST", "application/x-msgpack", 200),
        ("/v1/tts", "POST", None, 415),
        ("/v1/tts", "POST", "text/plain", 415),
        ("/v1/tts", "POST", "application/x-www-form-urlencoded", 415),
        ("/v1/tts", "POST", "multipart/form-data; boundary=x", 415),
        ("/model", "POST", "multipart/form-data; boundary=x", 200),
        ("/model", "POST", "application/x-www-form-urlencoded", 200),  # httpx sends it where no file is
        ("/model", "PATCH", "application/x-www-form-urlencoded", 200),
        ("/v1/audio/speech", "POST", "text/plain", 415),
    ],
)
def test_content_types(client, path, method, kind, status):
    headers = {} if kind is None else {"Content-Type": kind}
    for content in (b"{}", iter([b"{", b"}"])):
        assert client.request(method, path, content=content, headers=headers).status_code == status


def test_no_body_needs_no_content_type(client):
    assert client.post("/v1/tts").status_code == 200


def test_a_large_body_is_refused_before_it_is_sent_and_while_it_arrives(guarded):
    head = f"POST /v1/tts HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\n"
    answer = raw(guarded, f"{head}Content-Length: 100001\r\n\r\n".encode())  # and nothing follows
    assert answer.startswith(b"HTTP/1.1 413 ")
    pieces = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = raw(guarded, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces * 2)
    assert answer.startswith(b"HTTP/1.1 413 ")
    ok = httpx.post(
        f"{guarded.url}/v1/tts", content=b"x" * 100_000, headers=BEARER | {"Content-Type": "application/json"}
    )
    assert ok.status_code == 200
    for content in (b"x" * 1_000_000, iter([b"x" * 100_000] * 20)):
        refused = httpx.post(
            f"{guarded.url}/careless", content=content, headers=BEARER | {"Content-Type": "application/json"}
        )
        assert is_error(refused, 413)


def test_all_bodies_together_have_a_limit():
    head = "POST /v1/tts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "Content-Length: 60000\r\nConnection: close\r\n\r\n"
    with running(replace(GUARDED, key=None, max_bodies=100_000)) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(head.encode() + b"x" * 59_999)
            answers = []
            for _ in range(100):  # until the server has read what the slow one has sent
                answers.append(raw(server, head.encode() + b"x" * 60_000))
                if not answers[-1].startswith(b"HTTP/1.1 200 "):
                    break
            assert answers[-1].startswith(b"HTTP/1.1 503 ")
            assert b"retry-after" in answers[-1].lower()
            slow.sendall(b"x")
            assert slow.recv(100).startswith(b"HTTP/1.1 200 ")
        assert raw(server, head.encode() + b"x" * 60_000).startswith(b"HTTP/1.1 200 ")


def test_a_slow_body_is_not_waited_for():
    head = f"POST /careless HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n12345"
    with running(replace(GUARDED, body_timeout=0.5)) as server:
        answer = raw(server, head.encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 408


def test_large_headers_are_refused(client):
    assert is_error(client.get("/", headers={"X-Large": "x" * 40_000}), 431)


def test_an_exception_is_an_internal_error_without_its_reason(client, server):
    before = server.count("fishcli_requests_total", route="/broken", status="500")
    answer = client.get("/broken")
    assert is_error(answer, 500)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    wait(lambda: server.count("fishcli_requests_total", route="/broken", status="500") == before + 1)


def test_an_answer_that_breaks_off_is_never_complete(server, client):
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/breaks")
    answer = raw(server, b"GET /breaks HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"one piece" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    # HTTP/1.0 has no other end than that of the connection.
    assert raw(server, b"GET /breaks HTTP/1.0\r\nHost: localhost\r\n\r\n").endswith(b"(reset)")
    assert not raw(server, b"GET /slow?seconds=0 HTTP/1.0\r\nHost: localhost\r\n\r\n").endswith(b"(reset)")


def test_head_is_a_get_without_the_body(client, server):
    for path in ["/", "/v1/health"]:
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
    assert client.head("/v1/tts").status_code == 405


def test_sockets_that_a_route_refuses_or_nobody_has(server):
    for path, status in [("/nothing", 404), ("/refuses", 403)]:
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{server.port}{path}")
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["status"] == status


def test_open_sockets_are_counted(server):
    wait(lambda: server.count("fishcli_live_sockets") == 0)
    with connect(f"ws://127.0.0.1:{server.port}/live") as live:
        live.send("x")
        live.recv(timeout=10)
        assert server.count("fishcli_live_sockets") == 1
    wait(lambda: server.count("fishcli_live_sockets") == 0)


def test_a_message_of_a_socket_has_a_limit(guarded):
    with connect(f"ws://127.0.0.1:{guarded.port}/live", additional_headers=BEARER) as live:
        with contextlib.suppress(ConnectionClosed):
            live.send("x" * (GUARDED.max_message + 1))
        with pytest.raises(ConnectionClosed) as closed:
            live.recv(timeout=10)
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009  # it may be lost, since more is being sent
