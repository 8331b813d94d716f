"""Put the page on the app of the server, whose routes it uses, and let nothing of Gradio be reached but the page."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fishcli.webui.convert import convert
from fishcli.webui.page import Form, build, head, import_gradio

if TYPE_CHECKING:
    from fastapi import FastAPI

PATH = "/webui"  # where the page is
_FILES = Path(__file__).parent / "static"
_PAGES = {"/config", "/theme.css", "/gradio_api/startup-events", "/gradio_api/info", "/gradio_api/theme.css"}
_DAY = b"public, max-age=86400"
_ELSEWHERE = re.compile(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>|<link rel="manifest"[^>]*>')
_ROOT = re.compile(r'(?<=window\.gradio_config = )(.*?"root": ?)"[^"]*"', re.DOTALL)
_HEADERS = [  # Gradio makes functions of text, so scripts need 'unsafe-eval'; nothing is loaded from or sent elsewhere
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self' blob:; "
        b"worker-src 'self' blob:; manifest-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
]


def mount(app: FastAPI, form: Form, *, at_root: bool = False, public: str = "") -> None:
    """Show the page at /webui of the server's app; `at_root` leads there from /, too.

    `public` is the path or the address of the server behind a proxy, such as /speech.
    """
    with ThreadPoolExecutor(1) as thread:  # Gradio would make event loops here, and leave them open
        thread.submit(asyncio.run, _mount(app, form, at_root, public)).result()


async def _mount(app: FastAPI, form: Form, at_root: bool, public: str) -> None:
    gradio = import_gradio()
    page, labels = build(form)
    routes = app.router.routes
    app.add_route(f"{PATH}/convert", convert, methods=["POST"])
    app.add_route(PATH, _to_page, methods=["GET", "HEAD"], include_in_schema=False)
    before = len(routes)
    theme = gradio.themes.Base(
        primary_hue="cyan",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    gradio.mount_gradio_app(
        app, page, PATH, theme=theme, i18n=labels, footer_links=[], run_history=False, mcp_server=False,
        ssr_mode=False, allowed_paths=[], pwa=False, show_error=False, enable_monitoring=False,
    )  # fmt: skip
    for route in routes[before:]:
        if isinstance(route, Mount):
            frontend = Path(gradio.__file__).parent / "templates" / "frontend"
            route.app = _Gate(route.app, frontend, public.rstrip("/") + PATH if public else "")
    if at_root:
        routes.insert(0, Route("/", _to_page))


async def _to_page(request: object) -> Response:
    return RedirectResponse(f"{PATH[1:]}/", 307)  # relative: a proxy may have put something in front


class _Gate:
    """Lets the page through to Gradio, and nothing else: no uploads, no files, no calls, no proxy. Sends its files."""

    def __init__(self, app: ASGIApp, frontend: Path, public: str) -> None:
        self._app, self._public = app, public
        self._files = {
            "/assets/": StaticFiles(directory=frontend / "assets"),
            "/static/": StaticFiles(directory=frontend / "static"),
            "/page/": StaticFiles(directory=_FILES),
        }
        mimetypes.add_type("text/javascript", ".js")  # a system may have another set

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or raise HTTPException 404."""
        root: str = scope.get("root_path", "")
        path = scope["path"].removeprefix(root) or "/"
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(404)
        if path == "/":
            await self._page(scope, receive, send)
        elif path in _PAGES:
            await self._app(scope, receive, _with_headers(send, b"no-store"))
        else:
            folder = next((each for each in self._files if path.startswith(each)), None)
            if folder is None:
                raise HTTPException(404)
            cache = b"no-cache" if folder == "/page/" else _DAY
            below = {**scope, "root_path": root + folder.rstrip("/")}
            await self._files[folder](below, receive, _with_headers(send, cache))

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send Gradio's page with our files in its head, and without the addresses elsewhere that are in it."""
        body = bytearray()

        async def kept(message: Message) -> None:
            body.extend(message.get("body", b""))

        headers = [each for each in scope["headers"] if each[0] != b"accept-encoding"]
        await self._app({**scope, "headers": headers}, receive, kept)
        html = _ELSEWHERE.sub("", body.decode()).replace("</head>", f"{head()}</head>", 1)
        if self._public:
            html = _ROOT.sub(lambda found: found[1] + json.dumps(self._public), html, count=1)
        await HTMLResponse(html)(scope, receive, _with_headers(send, b"no-store"))


def _with_headers(send: Send, cache: bytes) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [*_HEADERS, (b"cache-control", cache)]
            names = {name for name, _ in ours}
            given = [each for each in message["headers"] if each[0].lower() not in names]
            message = {**message, "headers": [*given, *ours]}
        await send(message)

    return sent
