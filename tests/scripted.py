"""A server that answers as a script says, byte by byte: what a client must expect from strangers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answer = bytes | Callable[["Asked", socket.socket], None]


@dataclass
class Asked:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Scripted:
    """Answers each request with the next answer, the last one again and again. An answer without a length closes."""

    url: str
    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)  # a client has left before the end of its answer

    def serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (asked := _read(connection)) is not None:
                self.asked.append(asked)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    try:
                        answer(asked, connection)
                    except OSError:
                        self.gone.set()
                    return
                connection.sendall(answer)
                if b"Content-Length:" not in answer.partition(b"\r\n\r\n")[0]:
                    return


def _read(connection: socket.socket) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (block := connection.recv(65_536)):
            return None
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        if not (block := connection.recv(65_536)):
            return None
        body += block
    return Asked(line, headers, body)


@contextlib.contextmanager
def scripted(*answers: Answer) -> Iterator[Scripted]:
    """Run a server on a free port of loopback, in threads."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Scripted(f"http://127.0.0.1:{listening.getsockname()[1]}", list(answers))

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer(
    body: bytes = b"", status: str = "200 OK", kind: str = "audio/wav", length: int | None = None, **headers: str
) -> bytes:
    """Return an answer with a length, which may be a lie."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(*blocks: bytes, kind: str = "audio/wav", complete: bool = True, **headers: str) -> bytes:
    """Return an answer in chunks; one that is not complete ends without the last chunk."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    body = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks)
    return "\r\n".join([*lines, "", ""]).encode() + body + (b"0\r\n\r\n" if complete else b"")
