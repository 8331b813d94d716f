"""The app: all routes over one engine and one library of voices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import fishcli
from fishcli.errors import FishError
from fishcli.server import bodies
from fishcli.server.admission import Admission
from fishcli.server.drain import Drain
from fishcli.server.errors import Refused, internal, refusal
from fishcli.server.guards import guard
from fishcli.server.metrics import Metrics
from fishcli.server.openapi import describe
from fishcli.server.routes import codec, docs, fish, health, live, openai, voices
from fishcli.server.settings import ServerSettings
from fishcli.server.speech import Service

if TYPE_CHECKING:
    from fishcli.engine import Engine
    from fishcli.voices import Library


def create_app(
    engine: Engine, library: Library, settings: ServerSettings | None = None, drain: Drain | None = None
) -> FastAPI:
    """Return the app that serves an engine and a library of voices, until `drain` starts."""
    settings = settings or ServerSettings()
    admission, metrics = Admission(engine.max_batch, settings.max_queue), Metrics()
    metrics.watch(lambda: engine.stats)
    metrics.queue(lambda: admission.waiting, lambda: admission.running)
    service = Service(engine, library, settings, admission, metrics, drain or Drain())
    app = FastAPI(title="fishcli", version=fishcli.__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_middleware(guard, settings=settings, metrics=metrics)
    for each in (fish, live, codec, openai, voices, health):
        app.include_router(each.router(service))
    app.include_router(docs.router())
    app.mount("/static", docs.Static(), "static")
    describe(app)
    for kind in (FishError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _refused)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """Answer a request that no route can serve, in the dialect of its path."""
    path = request.url.path
    if isinstance(error, HTTPException):
        answer = refusal(path, Refused(error.status_code, f"{error.detail}: {request.method} {path[:100]!r}."))
        answer.headers.update(error.headers or {})
        return answer
    if isinstance(error, RequestValidationError):
        error = bodies.wrong_field(error.errors())
    return refusal(path, error if isinstance(error, FishError) else internal())
