"""The settings of a server: who may reach it, and how much it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fishcli.errors import SettingError

_HOST = r"(?:\*|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_ORIGIN = rf"\*|[a-z][a-z0-9+.-]*://{_HOST}(?::[0-9]{{1,5}})?/?"
MAX_DEPTH = 32  # of a body: lists in lists, maps in maps


@dataclass(frozen=True)
class ServerSettings:
    """The limits of a server, in seconds, bytes, characters and requests.

    `key` is required of every client where it is set. Beyond IP addresses, localhost and the name of this machine, the
    names in `allowed_hosts` are served; pages from `cors_origins` may send requests, and pages from elsewhere may not.
    What is read below `open_paths` needs no key: the files of pages that others have mounted on the app.
    """

    key: str | None = None
    local_key: str | None = None  # of the programs of this user on this machine, beside `key`
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    open_paths: tuple[str, ...] = ()
    max_text_length: int = 20_000  # characters of a request; 0: no limit of the server's own
    max_queue: int = 64  # requests that wait for their turn; a further one gets 429
    max_live: int = 64  # open WebSockets
    max_connections: int = 800  # of all kinds; a further one gets 503
    max_head: int = 32 * 2**10  # request line and headers
    max_message: int = 8 * 2**20  # of a WebSocket
    max_body: int = 64 * 2**20
    max_bodies: int = 512 * 2**20  # of all requests together
    max_audio_seconds: float = 300.0  # of a recording
    head_timeout: float = 10.0  # for the head of a request to arrive
    body_timeout: float = 60.0  # for its body
    send_timeout: float = 60.0  # for a client to take what was sent to it
    request_timeout: float = 1800.0  # from the request to the end of the answer
    live_idle: float = 30.0  # without an utterance in progress
    drain: float = 25.0  # for answers in progress to end after SIGTERM

    def __post_init__(self) -> None:
        for host in self.allowed_hosts:
            if not re.fullmatch(_HOST, host):
                raise SettingError(
                    f"{host!r:.80} is not the name of a host, such as speech.example.org.", field="allow_host"
                )
        for origin in self.cors_origins:
            if not re.fullmatch(_ORIGIN, origin):
                raise SettingError(
                    f"{origin!r:.80} is not the origin of a page, such as https://example.org.", field="cors"
                )
