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
    async def health() -> dict[str, str]:
        """Tell that the server answers."""
        return {"status": "ok"}

    @routes.get("/v1/ready", responses={503: {"description": "It is loading, stopping, or its engine has died."}})
    async def ready() -> Response:
        """Tell whether the server takes requests."""
        reason = service.unready()
        return JSONResponse({"status": reason or "ready"}, 503 if reason else 200)

    return routes
