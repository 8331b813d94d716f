"""Whether the server lives, whether it takes requests, and its figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from fishcli.server.speech import Service

_STATUS = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
_ANSWER = {"application/json": {"schema": _STATUS}}
_READY: dict[int | str, dict[str, Any]] = {
    200: {"description": "It takes requests.", "content": _ANSWER},
    503: {"description": "It is loading, stopping, or its engine has died.", "content": _ANSWER},
}


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Health"])

    @routes.post("/v1/health", operation_id="post_health")
    @routes.get("/v1/health")
    async def health() -> JSONResponse:
        """Tell that the server answers, and with X-Sample-Rate the rate (Hz) of the model itself."""
        return JSONResponse({"status": "ok"}, headers={"X-Sample-Rate": str(service.engine.sample_rate)})

    @routes.get("/v1/ready", responses=_READY)
    async def ready() -> Response:
        """Tell whether the server takes requests."""
        reason = service.unready()
        return JSONResponse({"status": reason or "ready"}, 503 if reason else 200)

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the figures of the server, as Prometheus reads them."""
        text, kind = service.metrics.render()
        return Response(text, media_type=kind)

    return routes
