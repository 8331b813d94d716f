"""Whether the server lives, whether it takes requests, and its figures."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from fishcli.server.speech import Service


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Health"])

    @routes.post("/v1/health", operation_id="post_health")
    @routes.get("/v1/health")
    async def health() -> JSONResponse:
        """Tell that the server answers, and with X-Sample-Rate the rate (Hz) of the model itself."""
        return JSONResponse({"status": "ok"}, headers={"X-Sample-Rate": str(service.engine.sample_rate)})

    @routes.get("/v1/ready", responses={503: {"description": "It is loading, stopping, or its engine has died."}})
    async def ready() -> Response:
        """Tell whether the server takes requests."""
        reason = service.unready()
        return JSONResponse({"status": reason or "ready"}, 503 if reason else 200)

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the figures of the server, as Prometheus reads them."""
        text, kind = service.metrics.render()
        return Response(text, media_type=kind)

    return routes
