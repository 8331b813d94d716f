"""Everything between the network and the routes: access, limits, deadlines, errors, headers, log and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fishcli.errors import FishError
from fishcli.server import logs
from fishcli.server.access import Access, too_large
from fishcli.server.errors import Refused, refusal, said
from fishcli.server.exchange import Exchange
from fishcli.server.metrics import Metrics
from fishcli.server.settings import ServerSettings

RESET = "fishcli.reset"  # an extension: a function that resets the connection
_DENIAL = "websocket.http.response"  # the extension with which a WebSocket can be refused in words


def guard(app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> ASGIApp:
    """Return an app that lets through to `app` what `settings` allow, and answers everything else itself."""
    access, bodies = Access(settings), _Bodies(settings.max_bodies)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        exchange = Exchange(scope)
        token = logs.request_id.set(exchange.id)
        try:
            with bodies.held() as body, contextlib.ExitStack() as live:
                counted = _counted(send, metrics, live)
                await _Connection(exchange, access, settings, body, receive, counted).run(app)
        finally:
            logs.write(exchange)
            metrics.request(exchange.route, exchange.status, exchange.seconds)
            logs.request_id.reset(token)

    return guarded


class _Bodies:
    """The bytes of all bodies together: as many clients as there are connections may send large ones at once."""

    def __init__(self, limit: int) -> None:
        self.limit, self.total = limit, 0

    @contextlib.contextmanager
    def held(self) -> Iterator[_Body]:
        """Yield the body of a request, whose bytes count until the block ends."""
        body = _Body(self)
        try:
            yield body
        finally:
            self.total -= body.size


class _Body:
    """The body of one request as it arrives."""

    def __init__(self, all_bodies: _Bodies) -> None:
        self.size = 0
        self._all = all_bodies

    def add(self, size: int, limit: int) -> None:
        """Count a piece. Raises Refused where this body, or all together, are too large."""
        self.size += size
        self._all.total += size
        if self.size > limit:
            raise too_large(limit)
        if self._all.total > self._all.limit:
            raise Refused(503, "The server is taking too many large bodies; try again later.", retry_after=5)


def _counted(send: Send, metrics: Metrics, live: contextlib.ExitStack) -> Send:
    """Return a `send` that counts an open WebSocket until `live` ends."""

    async def counted(message: Message) -> None:
        if message["type"] == "websocket.accept":
            live.enter_context(metrics.live())
        await send(message)

    return counted


class _Connection:
    """One exchange on its way through: it checks what comes in and completes what goes out."""

    def __init__(
        self, exchange: Exchange, access: Access, settings: ServerSettings, body: _Body, receive: Receive, send: Send
    ) -> None:
        self._exchange, self._access, self._settings = exchange, access, settings
        self._receive_next, self._send_next = receive, send
        self._body = body
        self._body_complete = exchange.live
        self._deadline = time.monotonic() + settings.body_timeout
        self._broken: Refused | None = None  # why the body was not taken

    async def run(self, app: ASGIApp) -> None:
        """Serve the request. No exception of the app leaves it."""
        try:
            await self._serve(app)
            error: FishError | None = self._broken
        except FishError as known:
            error = self._broken or known
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            error = Refused(503, "The server is shutting down.", retry_after=5)
        except Exception as unknown:
            error = self._broken or self._unexpected(unknown)
        if error is not None and not self._exchange.gone:
            with contextlib.suppress(OSError):  # the client has left meanwhile
                await self._fail(error)

    async def _serve(self, app: ASGIApp) -> None:
        headers = self._access.preflight(self._exchange)
        if headers is not None:
            await self._answer(Response(status_code=204, headers=headers))
            return
        self._access.check(self._exchange)
        await app(self._exchange.scope, self.receive, self.send)

    async def _fail(self, error: FishError) -> None:
        """Tell the client of an error. An answer that has begun is cut: the server does so when this returns."""
        exchange = self._exchange
        if not exchange.status:
            await self._answer(refusal(exchange.path, error))
        elif exchange.live and not exchange.complete:
            await self.send({"type": "websocket.close", "code": 1012 if error.status == 503 else 1011})
        elif not exchange.complete and exchange.scope.get("http_version") == "1.0":
            reset = exchange.scope.get("extensions", {}).get(RESET)  # there the end of a connection is a proper end
            if reset:
                reset()

    async def receive(self) -> Message:
        """Return the next message for the app. Raises Refused for a body that is too large or too slow."""
        if self._broken is not None:
            raise self._broken
        if self._body_complete:
            message = await self._receive_next()
        else:
            message = await self._receive_in_time()
        if message["type"] == "http.request":
            try:
                self._body.add(len(message.get("body", b"")), self._settings.max_body)
            except Refused as error:
                self._broken = error
                raise
            self._body_complete = not message.get("more_body", False)
        elif not self._exchange.complete:
            self._exchange.gone = message["type"] in ("http.disconnect", "websocket.disconnect")
        return message

    async def _receive_in_time(self) -> Message:
        """Return the next piece of the body, all of which has to arrive by the deadline."""
        try:
            return await asyncio.wait_for(self._receive_next(), max(0.0, self._deadline - time.monotonic()))
        except asyncio.TimeoutError:
            said = f"The body did not arrive within {self._settings.body_timeout:g} seconds."
            self._broken = Refused(408, said)
            raise self._broken from None

    async def send(self, message: Message) -> None:
        """Send a message of the app, with the headers that every answer has."""
        exchange, kind = self._exchange, message["type"]
        if self._broken is not None and not exchange.status:
            return  # what the app makes of it is not sent: the refusal is
        if kind == "websocket.close" and not exchange.status and self._can_deny:
            await self._answer(refusal(exchange.path, self._denied()))
            return
        if kind in ("http.response.start", "websocket.http.response.start"):
            message = {**message, "headers": self._headers(list(message.get("headers", [])))}
        exchange.saw(message)
        try:
            await self._send_next(message)
        except OSError:
            exchange.gone = True
            raise

    @property
    def _can_deny(self) -> bool:
        """Whether a WebSocket can be refused in words."""
        return _DENIAL in (self._exchange.scope.get("extensions") or {})

    def _denied(self) -> Refused:
        """Return why a WebSocket is closed before it was opened."""
        if self._exchange.route == "unknown":
            return Refused(404, f"There is no {self._exchange.path[:100]} here.")
        return Refused(403, "The WebSocket is refused.")

    async def _answer(self, response: Response) -> None:
        """Send a whole answer; a WebSocket that cannot be refused in words is closed."""
        self._broken = None
        if self._exchange.live and not self._can_deny:
            await self.send({"type": "websocket.close", "code": 1008})
        else:
            await response(self._exchange.scope, self._receive_next, self.send)

    def _unexpected(self, error: Exception) -> FishError | None:
        """Return the error to answer an exception of the app with; None where the client has left."""
        return None if self._exchange.gone else said(error)

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = {"X-Request-Id": self._exchange.id, "X-Content-Type-Options": "nosniff"}
        if not self._exchange.path.startswith("/static/"):
            headers["Cache-Control"] = "no-store"
        headers |= self._access.cors(self._exchange) | self._access.proof(self._exchange)
        present = {name.lower() for name, _ in given}
        ours = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        return [*given, *(each for each in ours if each[0] not in present)]
