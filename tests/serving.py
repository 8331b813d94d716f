"""A real server on a real socket, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI

from fishcli.engine import Engine
from fishcli.server.app import create_app
from fishcli.server.drain import Drain
from fishcli.server.run import Server as UvicornServer
from fishcli.server.run import bind, configured, url
from fishcli.server.settings import ServerSettings
from fishcli.voices import Library


class Server:
    """A running server, its engine, its library and its app."""

    def __init__(self, url: str, engine: Engine, library: Library, app: FastAPI) -> None:
        self.url, self.engine, self.library, self.app = url, engine, library, app

    def idle(self, seconds: float = 5.0) -> bool:
        """Whether the engine has nothing to do, now or after some seconds at most."""
        end = time.monotonic() + seconds
        while (now := self.engine.stats).running or now.waiting or now.kv_used:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True


@contextlib.contextmanager
def serving(
    engine: Engine,
    folder: Path,
    settings: ServerSettings | None = None,
    also: Sequence[Path] = (),
    mount: Callable[[FastAPI], None] = lambda app: None,
) -> Iterator[Server]:
    """Serve an engine and the voices of a folder, and of more that are only read, on a free port of loopback.

    `mount` may put more on the app.
    """
    library, drain = Library(folder, also), Drain()
    settings = replace(settings or ServerSettings(), drain=1)
    bound = bind("127.0.0.1", 0)
    app = create_app(engine, library, settings, drain)
    mount(app)
    server = UvicornServer(configured(app, settings), settings, drain)
    bound.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server")
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Server(url(bound), engine, library, app)
    finally:
        server.should_exit = True
        thread.join()
