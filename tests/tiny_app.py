"""A small app with the shapes of routes that the real one has, behind the real guards, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

from fastapi import APIRouter, FastAPI, Request, WebSocket
from starlette.responses import JSONResponse, Response, StreamingResponse

from fishcli.server.drain import Drain
from fishcli.server.guards import guard
from fishcli.server.metrics import Metrics
from fishcli.server.run import Server, bind, configured, url
from fishcli.server.settings import ServerSettings

PATIENT = ServerSettings(drain=5.0)
# Only for tests of these limits: a loaded machine may pause an ordinary client for as long.
QUICK = ServerSettings(head_timeout=1.0, body_timeout=1.0, send_timeout=0.5, drain=5.0)


routes = APIRouter()


@routes.get("/")
async def page() -> dict[str, str]:
    return {"page": "here"}


@routes.get("/v1/ready")
async def ready(request: Request) -> Response:
    drain = request.app.state.drain
    return JSONResponse({"status": "stopping" if drain.started else "ready"}, 503 if drain.started else 200)


@routes.get("/v1/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@routes.post("/v1/tts")
@routes.post("/model")
@routes.patch("/model")
@routes.post("/v1/audio/speech")
async def echo(request: Request) -> Response:
    request.state.audio_seconds = 1.25
    return Response(await request.body(), media_type="audio/wav")


@routes.get("/item/{name}")
async def item(name: str) -> dict[str, str]:
    return {"name": name}


@routes.post("/careless")
async def careless(request: Request) -> Response:
    with contextlib.suppress(Exception):
        await request.body()
    return Response("fine")


@routes.get("/broken")
async def broken() -> None:
    raise ValueError("secret \x1b[31m detail")


@routes.get("/breaks")
async def breaks() -> StreamingResponse:
    async def pieces():
        yield b"one piece"
        await asyncio.sleep(0.01)
        raise ValueError("secret detail")

    return StreamingResponse(pieces())


@routes.get("/endless")
async def endless(request: Request) -> StreamingResponse:
    async def pieces():
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            request.app.state.seen.append("endless stopped")

    return StreamingResponse(pieces())


@routes.get("/slow")
async def slow(seconds: float = 1.0) -> StreamingResponse:
    async def pieces():
        for _ in range(20):
            yield b"piece"
            await asyncio.sleep(seconds / 20)

    return StreamingResponse(pieces(), media_type="audio/wav")


@routes.get("/hangs")
async def hangs() -> None:
    await asyncio.sleep(1000)


@routes.websocket("/live")
async def live(socket: WebSocket) -> None:
    await socket.accept()
    told = asyncio.ensure_future(socket.app.state.drain.wait())
    heard = asyncio.ensure_future(socket.receive_text())
    while not told.done():
        await asyncio.wait({told, heard}, return_when=asyncio.FIRST_COMPLETED)
        if heard.done():
            if heard.exception():
                told.cancel()
                return
            await socket.send_text(heard.result())
            heard = asyncio.ensure_future(socket.receive_text())
    if heard.done():
        heard.exception()
    heard.cancel()
    await socket.send_text("the server ends")
    await socket.close()


@routes.websocket("/refuses")
async def refuses(socket: WebSocket) -> None:
    await socket.close()


def tiny(drain: Drain, seen: list[str]) -> FastAPI:
    """Return the app; `seen` gets what happened in it."""
    app = FastAPI(docs_url=None, redoc_url=None)
    app.state.drain, app.state.seen = drain, seen
    app.include_router(routes)
    return app


class Running:
    """A running server."""

    def __init__(self, settings: ServerSettings) -> None:
        self.seen: list[str] = []
        self.drain, self.metrics = Drain(), Metrics()
        self._bound = bind("127.0.0.1", 0)
        self.url = url(self._bound)
        self.port = self._bound.getsockname()[1]
        app = tiny(self.drain, self.seen)
        app.add_middleware(guard, settings=settings, metrics=self.metrics)
        self.fault: BaseException | None = None
        self.server = Server(configured(app, settings), settings, self.drain, fault=lambda: self.fault)

    def run(self) -> None:
        self._bound.listen(1024)
        self.server.run([self._bound])

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0


@contextlib.contextmanager
def running(settings: ServerSettings = PATIENT) -> Iterator[Running]:
    """Serve the tiny app on a free port."""
    made = Running(settings)
    thread = threading.Thread(target=made.run, name="server")
    thread.start()
    try:
        wait(lambda: made.server.started)
        yield made
    finally:
        made.server.force_exit = made.server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def wait(condition, seconds: float = 10.0) -> None:
    """Wait until a condition holds, at most for some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
