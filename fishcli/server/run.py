"""Run an app: the socket, uvicorn with our protocols, and the end on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from fishcli.errors import FishError, SettingError
from fishcli.server.drain import Drain
from fishcli.server.protocol import protocols, sweep
from fishcli.server.settings import ServerSettings

_BACKLOG = 1024  # connections that wait to be accepted
_LEAVING = 2.0  # seconds for answers to end that have been cut
_LAST_RESORT = 29.0  # seconds after a signal at which the process ends, whatever hangs

log = logging.getLogger(__name__)

Started = Callable[[str], contextlib.AbstractContextManager[Any]]
Fault = Callable[[], BaseException | None]


def _none() -> None:
    return None


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; it listens when the app runs. Port 0 is a free one. Raises FishError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as error:
        raise SettingError(f"There is no address {host!r} to listen on.", field="listen") from error
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # where it would let two servers have one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _cannot_listen(error, host, port) from error
    bound.setblocking(False)
    return bound


def url(bound: socket.socket) -> str:
    """Return the URL of a bound socket; that of a wildcard address is the one on this machine."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(bound: socket.socket) -> bool:
    """Return whether only this machine can reach a server on a bound socket."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def run(
    app: ASGIApp, bound: socket.socket, settings: ServerSettings, drain: Drain, started: Started, fault: Fault = _none
) -> int:
    """Serve an app on a bound socket until SIGTERM or Ctrl-C, and return the exit code.

    `started` is called with the URL once requests are taken; what it returns is entered then, and left at the end. On a
    signal no connection is accepted any more, `drain` starts, and answers in progress have `settings.drain` seconds; a
    second one cuts them. It ends with 1, so that a supervisor restarts it, once `fault` gives an exception after which
    nothing can be served. Raises FishError if another server has taken the port meanwhile.
    """
    server = Server(configured(app, settings), settings, drain, partial(started, url(bound)), fault)
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        bound.close()
        raise _cannot_listen(error, host, port) from error
    # A full garbage collection walks all of PyTorch and the model, and kept every client waiting for 180 ms.
    gc.collect()
    gc.freeze()
    server.run([bound])
    return server.code


def configured(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    """Return how uvicorn serves an app."""
    http, websocket = protocols(settings)
    return uvicorn.Config(
        app,
        http=http,
        ws=websocket,
        ws_max_size=settings.max_message,
        ws_per_message_deflate=False,  # audio does not get smaller, and each socket would hold a window
        h11_max_incomplete_event_size=settings.max_head,
        timeout_keep_alive=max(1, int(settings.head_timeout / 2)),  # leaves time for the next head
        backlog=_BACKLOG,
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


def _cannot_listen(error: OSError, host: str, port: int) -> FishError:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return FishError(f"{where} is in use by another program; stop it, or listen on another port.", field="listen")
    return FishError(f"{where} cannot be listened on ({error.strerror}).", field="listen")


class Server(uvicorn.Server):
    """uvicorn's server with an end that answers in progress can see coming, and that comes."""

    def __init__(
        self,
        config: uvicorn.Config,
        settings: ServerSettings,
        drain: Drain,
        running: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        fault: Fault = _none,
    ) -> None:
        super().__init__(config)
        self.code = 0
        self._settings, self._drain, self._started, self._fault = settings, drain, running, fault
        self._while_running = contextlib.ExitStack()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end."""
        async with _running(sweep(self.server_state, self._settings)):
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to take requests, and tell only then: a program that hears of the server may send it a signal."""
        await super().startup(sockets)
        self._while_running.enter_context(self._started())

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end: also where nothing can be served any more."""
        if error := self._fault():
            log.critical("the engine has stopped, and the server ends", exc_info=error)
            self.code = 1
            return True
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs; uvicorn's own would raise them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End: at the first signal with patience, at the second without."""
        if self.should_exit:
            self.force_exit = True
            self.code = 130 if sig == signal.SIGINT else self.code
            return
        self.should_exit = True
        timer = threading.Timer(_LAST_RESORT, os._exit, [self.code])
        timer.daemon = True
        timer.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, let answers end, cut those that do not, and stop the app."""
        self._while_running.close()
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        self._drain.start()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._idle(self._settings.drain)
        for task in list(self.server_state.tasks):
            task.cancel()
        await self._idle(_LEAVING, forced=True)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # in which they are told
        await self.lifespan.shutdown()

    async def _idle(self, seconds: float, forced: bool = False) -> None:
        """Return when nothing is in progress, after some seconds, or at the second signal."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        state = self.server_state
        while (state.tasks or state.connections) and loop.time() < end and (forced or not self.force_exit):
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _running(work: Any) -> AsyncIterator[None]:
    """Run a coroutine beside the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
