"""uvicorn's protocols with the deadlines and limits that they lack, for connections that send or take too slowly.

One sweep goes over all connections. A connection on which no request is in progress is closed after the time for a
head, whether it is idle, sends a head byte by byte or a body that nobody wants; one whose client takes nothing of what
was sent to it is closed after the time for that.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from fishcli.server.guards import RESET
from fishcli.server.settings import ServerSettings

_TICKS = 8  # sweeps in the shortest deadline
_UNREAD = 2**20  # bytes of pongs and sound in our hands, of which sound is 96 KiB at most
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def protocols(settings: ServerSettings) -> tuple[type[H11Protocol], type[WebSocketsSansIOProtocol]]:
    """Return the protocol classes for HTTP and for WebSockets under `settings`."""
    limits = {"settings": settings}
    return type("LimitedHTTP", (HTTP,), limits), type("LimitedWebSocket", (WebSocket,), limits)


async def sweep(state: ServerState, settings: ServerSettings) -> None:
    """Close connections that are overdue, until it is cancelled."""
    loop = asyncio.get_running_loop()
    tick = min(1.0, min(settings.head_timeout, settings.send_timeout) / _TICKS)
    while True:
        await asyncio.sleep(tick)
        now = loop.time()
        for connection in list(state.connections):
            if isinstance(connection, HTTP | WebSocket):
                connection.check(now)


class _Unsent:
    """The bytes that were sent on a connection and that its client has not taken yet."""

    def __init__(self, transport: asyncio.Transport, now: float, timeout: float) -> None:
        self._transport, self._timeout = transport, timeout
        self._size, self._since = 0, now

    def is_stuck(self, now: float) -> bool:
        """Return whether the client has taken nothing for too long."""
        size = self._transport.get_write_buffer_size()
        if size == 0 or size < self._size:
            self._since = now
        self._size = size
        return now - self._since > self._timeout


class HTTP(H11Protocol):
    """A connection of plain HTTP with deadlines, and with errors of its own in JSON."""

    settings: ServerSettings

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        app = self.app

        async def resettable(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {RESET: self._reset}
            await app(scope, receive, send)

        self.app = resettable

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        now = self.loop.time()
        self._unsent = _Unsent(transport, now, self.settings.send_timeout)
        self._waits_since, self._last_cycle = now, self.cycle
        self._refused = False
        if len(self.connections) > self.settings.max_connections:
            self._refuse(503, "There are too many connections.")
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends; after a refusal it is thrown away."""
        if not self._refused:
            super().data_received(data)

    def check(self, now: float) -> None:
        """Close the connection if it is overdue."""
        if self._unsent.is_stuck(now):
            self.transport.abort()
        elif self.cycle is not self._last_cycle or (self.cycle is not None and not self.cycle.response_complete):
            self._waits_since, self._last_cycle = now, self.cycle
        elif now - self._waits_since > self.settings.head_timeout:
            if self._refused:
                self.transport.close()
            elif self.cycle is None or self.conn.trailing_data[0]:
                self._refuse(408, f"The request did not arrive within {self.settings.head_timeout:g} seconds.")
            else:
                self.transport.close()

    def shutdown(self) -> None:
        """End with the server: now, or after the answer in progress."""
        try:
            super().shutdown()
        except h11.LocalProtocolError:  # it has failed already
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has too large a head. uvicorn calls it where h11 has raised an error."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        said = "The headers are too large." if status == 431 else "The request is not valid HTTP."
        self._refuse(status, said)

    def _refuse(self, status: int, message: str) -> None:
        """Answer by the connection itself, and end it: there is no request that the app could answer.

        The client may still be sending. It is heard until the next deadline, since a system that closes a connection
        with bytes unread resets it, and the client would lose the answer.
        """
        if self.transport.is_closing() or self._refused:
            return
        self._refused, self._waits_since = True, self.loop.time()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"status": status, "message": message}).encode()
            head = [
                f"HTTP/1.1 {status} {STATUS_PHRASES[status].decode()}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                "connection: close",
            ]
            self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.write_eof()

    def _reset(self) -> None:
        """End the connection with an error that the client sees."""
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


class WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose client has to take what is sent to it. At the end of the server its route says goodbye."""

    settings: ServerSettings

    def connection_made(self, transport: Any) -> None:
        """Take over the connection."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self._unsent = _Unsent(transport, self._began, self.settings.send_timeout)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends. One that asks for pongs without reading them is cut off: they pile up here."""
        super().data_received(data)
        if self.transport.get_write_buffer_size() > _UNREAD:
            self.transport.abort()

    async def send(self, message: Any) -> None:
        """Send a message of the app. One that refuses the socket in words is all that uvicorn may wait for."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # else it logs an error for each

    def check(self, now: float) -> None:
        """Close the connection if it is overdue: also one whose handshake does not come to its end."""
        is_late = not self.handshake_complete and now - self._began > self.settings.head_timeout
        if is_late or self._unsent.is_stuck(now):
            self.transport.abort()

    def shutdown(self) -> None:
        """Leave an open socket to its route, which sees the server's end coming and tells the client."""
        if not self.handshake_complete:
            super().shutdown()
