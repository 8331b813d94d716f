"""The life of a server in this process: the socket, and an end that everyone sees coming."""

import dataclasses
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

pytest.importorskip("fastapi")

from tiny_app import PATIENT, QUICK, running, wait
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fishcli.errors import FishError, SettingError
from fishcli.server.run import bind, is_local, url


def stop(server):
    """Have a server end as SIGTERM does."""
    server.server.should_exit = True
    wait(lambda: server.drain.started)


def test_an_end_lets_answers_end_and_tells_sockets_and_takes_nothing_new():
    with running() as server, ThreadPoolExecutor() as pool, httpx.Client(base_url=server.url) as idle:
        idle.get("/v1/health")
        with connect(f"ws://127.0.0.1:{server.port}/live") as live:
            slow = pool.submit(httpx.get, f"{server.url}/slow?seconds=1")
            wait(lambda: server.connections == 3)
            stop(server)
            assert live.recv(timeout=10) == "the server ends"
            with pytest.raises(ConnectionClosed) as closed:
                live.recv(timeout=10)
            assert closed.value.rcvd.code == 1000
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)
        assert slow.result(10).content == b"piece" * 20


def test_a_server_ends_with_its_engine(caplog):
    with running() as server, ThreadPoolExecutor() as pool:
        slow = pool.submit(httpx.get, f"{server.url}/slow?seconds=1")
        wait(lambda: server.connections == 1)
        server.fault = RuntimeError("the device is lost")
        assert slow.result(10).content == b"piece" * 20
        wait(lambda: server.connections == 0)
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)
        assert server.server.code == 1
    assert [each.exc_info[1] for each in caplog.records if each.levelname == "CRITICAL"] == [server.fault]


def test_an_end_has_an_end():
    with running(dataclasses.replace(PATIENT, drain=0.5)) as server, ThreadPoolExecutor() as pool:
        slow = pool.submit(httpx.get, f"{server.url}/slow?seconds=100", timeout=30)
        hangs = pool.submit(httpx.get, f"{server.url}/hangs", timeout=30)
        wait(lambda: server.connections == 2)
        stop(server)
        with pytest.raises(httpx.RemoteProtocolError):  # cut, not ended
            slow.result(20)
        answer = hangs.result(20)  # told
    assert answer.status_code == 503
    assert answer.json() == {"status": 503, "message": "The server is shutting down."}
    assert answer.headers["retry-after"] == "5"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_no_thread_or_descriptor_remains():
    def once():
        with running(dataclasses.replace(QUICK, drain=0.2)) as server:
            half = socket.create_connection(("127.0.0.1", server.port))
            stuck = socket.create_connection(("127.0.0.1", server.port))
            stuck.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            stuck.recv(10)
            stop(server)
        half.close()
        stuck.close()

    once()  # what libraries keep for good
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    once()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_addresses():
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert url(bound) == f"http://127.0.0.1:{port}"
        bound.listen()
        with pytest.raises(FishError, match=rf"127.0.0.1:{port} is in use by another program"):
            bind("127.0.0.1", port)
        assert is_local(bound)
    with bind("0.0.0.0", 0) as bound:
        assert not is_local(bound)
        assert url(bound).startswith("http://127.0.0.1:")
    for host in ["no.such.host.invalid", "é\udc80", "1.2.3.4.5", "a" * 300]:
        with pytest.raises(SettingError, match="There is no address"):
            bind(host, 0)
    with pytest.raises(FishError, match="cannot be listened on"):
        bind("192.0.2.1", 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
def test_ipv6():
    with bind("::1", 0) as bound:
        assert url(bound) == f"http://[::1]:{bound.getsockname()[1]}"
        assert is_local(bound)
    with bind("::", 0) as bound:
        assert not is_local(bound)
