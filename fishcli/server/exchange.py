"""One request and its answer, as far as the guards, the log and the metrics look at it."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from starlette.types import Message, Scope

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Exchange:
    """A request, an HTTP one or a WebSocket, and what was sent so far. The app may set `state["audio_seconds"]`."""

    def __init__(self, scope: Scope) -> None:
        self.path: str = scope["path"]
        self.live = scope["type"] == "websocket"
        self.method: str = "WS" if self.live else scope["method"]
        # A HEAD is answered as a GET is; the server leaves the body out. The app writes its route into the scope.
        self.scope: Scope = {**scope, "state": dict(scope.get("state") or {})}
        # That of the client, where it is a sane one.
        self.id = next(filter(_SANE_ID.fullmatch, self.header(b"x-request-id")), None) or secrets.token_hex(8)
        if self.method == "HEAD":
            self.scope["method"] = "GET"
        self.status = 0  # until an answer has begun
        self.first_byte: float | None = None  # seconds from the request to the first byte of its body
        self.sent = 0  # bytes of the body
        self.complete = False
        self.gone = False  # the client left before the end
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self._began

    @property
    def route(self) -> str:
        """The template of the route, such as /model/{id}; never what a client wrote."""
        path = getattr(self.scope.get("route"), "path", None)
        if path is None and self.scope.get("endpoint") is not None:
            path = self.scope.get("root_path") or "/"  # a folder of files, which is mounted
        return path or "unknown"

    @property
    def audio_seconds(self) -> float | None:
        """The seconds of audio of the answer, if the app has told."""
        seconds: Any = self.scope["state"].get("audio_seconds")
        return None if seconds is None else round(float(seconds), 3)

    def header(self, name: bytes) -> list[str]:
        """Return the values of a header of the request."""
        return [value.decode("latin-1") for key, value in self.scope["headers"] if key.lower() == name]

    def saw(self, message: Message) -> None:
        """Take note of a message that is sent to the client."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self._count(len(message.get("body", b"")))
            self.complete = not message.get("more_body", False)
        elif kind == "websocket.send":
            self._count(len(message.get("bytes") or message.get("text") or b""))
        elif kind == "websocket.close":
            self.status = self.status or 403
            self.complete = True

    def _count(self, size: int) -> None:
        if size and self.first_byte is None:
            self.first_byte = self.seconds
        self.sent += size
