"""Whether the server lives, whether it takes requests, and its figures."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from fishcli.server.speech import Service


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Health"])

    @routes.post("/v1/health", operation_id="post_health")
    @routes.get("/v1/health")
    async def health(nonce: Annotated[str, Query(max_length=64, pattern="^[0-9a-f]*$")] = "") -> JSONResponse:
        """Tell that the server answers, and prove with X-Fish-Proof that it knows the key for local programs."""
        headers = {"X-Sample-Rate": str(service.engine.sample_rate)}
        if nonce and (key := service.settings.local_key):
            headers["X-Fish-Proof"] = hmac.new(key.encode(), nonce.encode(), "sha256").hexdigest()
        return JSONResponse({"status": "ok"}, headers=headers)

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
