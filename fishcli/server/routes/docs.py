"""The page at `/`: speak a text, hear it, and read about the API. It needs nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

_SERVER = Path(__file__).parent.parent
_STATIC = _SERVER / "static"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_YEAR = "public, max-age=31536000, immutable"  # the page has a file's checksum in its address
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}  # a system may have others set


def router() -> APIRouter:
    """Return the route of the page."""
    routes = APIRouter()
    html = page()

    @routes.get("/", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(html, headers=_HEADERS)

    return routes


def page() -> str:
    """Return the page, in which each address of a static file changes with the file."""
    html = (_SERVER / "page.html").read_text(encoding="utf-8")
    return re.sub(r'(?<=")static/([^"]+)', lambda found: f"{found[0]}?v={_checksum(_STATIC / found[1])}", html)


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


class Static(StaticFiles):
    """The files of the page, which browsers keep."""

    def __init__(self) -> None:
        super().__init__(directory=_STATIC)

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        """Return a file, with its type and how long to keep it."""
        response = super().file_response(full_path, *args, **kwargs)
        response.headers["Cache-Control"] = _YEAR
        kind = _TYPES.get(Path(full_path).suffix)
        if kind and "content-type" in response.headers:
            response.headers["Content-Type"] = f"{kind}; charset=utf-8"
        return response
