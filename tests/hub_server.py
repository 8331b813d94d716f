"""A local hub: the part of the protocol that a download uses, with injected faults.

    with Hub() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.pth": b"..."})
        hub.fault("model.pth", "cut", times=2)
        ...  # HF_ENDPOINT=hub.url

Like the real one it keeps `.pth` files in LFS: they have a SHA-256 and are sent from another origin, which
must never see the token.
"""

import contextlib
import dataclasses
import hashlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

BLOCK = 16384  # bytes sent at once


@dataclasses.dataclass
class Fault:
    """A fault of a file (or of `api`), injected `times` times.

    cut: the connection closes half way. truncate: half the file, declared as all of it. corrupt: right size,
    wrong bytes. longer: a byte too many. whole: the Range is ignored. slow: 20 ms before each block. trickle: a byte
    each 2 ms.
    A number is a status, with `headers`.
    """

    kind: str | int
    times: float
    headers: dict[str, str]


class Hub:
    """The server. `requests` are (path, headers in lower case); `sent` counts the bytes of each file."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}  # repository -> commit -> name -> bytes
        self.faults: dict[str, Fault] = {}
        self.sizes: dict[str, int] = {}  # declared instead of the true ones
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent: Counter[str] = Counter()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Hub":
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit to the main branch of a repository, and return its id."""
        commits = self.commits.setdefault(repo, {})
        commit = hashlib.sha1(f"{repo} {len(commits)}".encode()).hexdigest()
        commits[commit] = dict(files)
        return commit

    def fault(self, name: str, kind: str | int, times: float = float("inf"), **headers: str) -> None:
        """Inject a fault for `name` (a file, or `api`); `Retry_After="1"` is a header."""
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        self.faults[name] = Fault(kind, times, fields)

    def take_fault(self, name: str) -> Fault:
        """Return the fault of this request."""
        fault = self.faults.get(name)
        if fault is None or fault.times <= 0:
            return Fault("none", 0, {})
        fault.times -= 1
        return fault

    def commit(self, repo: str, revision: str) -> str | None:
        """Return the commit of a revision: itself, or the newest for `main`."""
        commits = self.commits[repo]
        return list(commits)[-1] if revision == "main" else revision if revision in commits else None


def sibling(name: str, content: bytes, size: int) -> dict:
    """Return the entry of a file in the API."""
    entry = {"rfilename": name, "size": size, "blobId": hashlib.sha1(b"blob %d\0" % size + content).hexdigest()}
    if name.endswith(".pth"):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
    return entry


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client was killed
            super().handle()

    def do_GET(self) -> None:
        self.hub.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.info("/".join(parts[2:4]), parts[5] if parts[4:5] == ["revision"] else "main")
        elif parts[0] == "cdn":
            self.content(parts[1] + "/" + parts[2], parts[3], parts[4])
        else:
            self.resolve("/".join(parts[:2]), parts[3], parts[4])

    def info(self, repo: str, revision: str) -> None:
        fault = self.hub.take_fault("api")
        if isinstance(fault.kind, int):
            return self.answer(fault.kind, **fault.headers)
        if fault.kind == "portal":
            return self.answer(200, b"<html>Please log in to this network</html>")
        if (commit := self.known(repo, revision)) is None:
            return None
        files = self.hub.commits[repo][commit].items()
        siblings = [sibling(name, data, self.hub.sizes.get(name, len(data))) for name, data in files]
        return self.answer(200, json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode())

    def resolve(self, repo: str, revision: str, name: str) -> None:
        if (commit := self.known(repo, revision)) is None:
            return None
        if name not in self.hub.commits[repo][commit]:
            return self.answer(404, **{"X-Error-Code": "EntryNotFound"})
        if name.endswith(".pth"):
            origin = f"http://localhost:{self.hub.port}"
            return self.answer(302, Location=f"{origin}/cdn/{repo}/{commit}/{name}")
        return self.content(repo, commit, name)

    def known(self, repo: str, revision: str) -> str | None:
        """Return the commit, or None after an error response like the hub's."""
        if repo not in self.hub.commits:
            self.answer(401, **{"X-Error-Code": "RepoNotFound"})
            return None
        commit = self.hub.commit(repo, revision)
        if commit is None:
            self.answer(404, **{"X-Error-Code": "RevisionNotFound"})
        return commit

    def content(self, repo: str, commit: str, name: str) -> None:
        data = self.hub.commits[repo][commit][name]
        fault = self.hub.take_fault(name)
        if isinstance(fault.kind, int):
            return self.answer(fault.kind, **fault.headers)
        data = {
            "truncate": data[: len(data) // 2],
            "corrupt": bytes(byte ^ 1 for byte in data),
            "longer": data + b"!",
        }.get(fault.kind, data)
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].rstrip("-"))
        if start and start >= len(data):
            return self.answer(416)
        ranged = "Range" in self.headers and fault.kind != "whole"
        body = data[start:] if ranged else data
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return self.send(name, body[: len(body) // 2] if fault.kind == "cut" else body, fault)

    def send(self, name: str, body: bytes, fault: Fault) -> None:
        block = 1 if fault.kind == "trickle" else BLOCK
        for at in range(0, len(body), block):
            if fault.kind in ("slow", "trickle"):
                time.sleep(0.02 if fault.kind == "slow" else 0.002)
            self.wfile.write(body[at : at + block])
            self.hub.sent[name] += len(body[at : at + block])
        self.close_connection = fault.kind == "cut"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""
