"""`fish webui`: the web page."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console, options, pages
from fishcli.cli import serve as serving
from fishcli.cli.app import app, command
from fishcli.config.schema import WORDS
from fishcli.errors import FishError, SettingError

if TYPE_CHECKING:
    import socket

_HOST, _PORT, _PORTS, _SHARE = "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS", "GRADIO_SHARE"
_FIRST, _TRIED = 7860, 100  # the ports of Gradio


@dataclass(frozen=True)
class PageOptions:
    """Where the page is, who may use it, and how much it takes."""

    listen: Annotated[str | None, options.setting("webui.listen", serving.SERVER, "ADDRESS")] = None
    share: Annotated[bool | None, options.setting("webui.share", serving.SERVER, off=True)] = None
    api_key_file: Annotated[Path | None, options.setting("webui.api_key_file", serving.SERVER)] = None
    max_text_length: Annotated[int, options.setting("webui.max_text_length", serving.SERVER)] = options.default(
        "webui.max_text_length"
    )
    max_queue: Annotated[int, options.setting("webui.max_queue", serving.SERVER)] = options.default("webui.max_queue")
    max_batch: Annotated[int, options.setting("webui.max_batch", serving.SERVER)] = options.default("webui.max_batch")


@dataclass(frozen=True)
class OldOptions:
    """Further options of the page of Fish Speech."""

    max_gradio_length: Annotated[int, typer.Option("--max-gradio-length", hidden=True, min=0)] = 0
    theme: Annotated[str | None, typer.Option("--theme", hidden=True)] = None


@command(app)
def webui(ctx: typer.Context, page: PageOptions, model: options.ModelOptions, old: OldOptions) -> None:
    """Speak in the browser: a page to type, listen and keep voices, and the HTTP API behind it.

    Examples:
      fish webui
      fish webui --listen 127.0.0.1:9000 --compile
      fish webui --listen 0.0.0.0:7860 --api-key-file fishcli.key
    """
    serving.require_extra()
    from fishcli.client import discovery
    from fishcli.server.settings import ServerSettings

    shown = pages.page(ctx, at_root=True)
    if old.theme is not None:
        console.warn("--theme has no effect: the page is light or dark as the browser is.")
    settings = ServerSettings(
        key=serving.key_of_clients(page.api_key_file, None),
        local_key=discovery.new_key(),
        max_text_length=old.max_gradio_length or page.max_text_length,
        max_queue=page.max_queue,
    )
    with _bound(page.listen) as bound:
        if _asks_to_share(page.share):
            shown = replace(shown, shared=_shared(bound.getsockname()[1], settings.key))
        serving.warn_of_strangers(bound, settings)
        raise typer.Exit(serving.run(bound, settings, model, page.max_batch, shown))


def _bound(listen: str | None) -> socket.socket:
    """Return a socket at an address, or as Gradio's variables say: a given port, or the first one that is free."""
    from fishcli.server.run import bind

    if listen is not None:
        return bind(*serving.address(listen, "--listen"))
    host = os.environ.get(_HOST) or "127.0.0.1"
    if os.environ.get(_PORT):
        return bind(host, _number(_PORT, 0))
    ports = range(_FIRST, min(65_535, _FIRST + max(1, _number(_PORTS, _TRIED))))
    for port in ports[:-1]:
        try:
            return bind(host, port)
        except SettingError:
            raise
        except FishError:  # in use
            continue
    return bind(host, ports[-1])


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise SettingError(f"{variable} must be a whole number from 0 to 65535, not {text!r}.")
    return int(text)


def _asks_to_share(given: bool | None) -> bool:
    """Return whether to open a public link: as given, else as Gradio's variable says."""
    if given is not None or not (text := os.environ.get(_SHARE, "")):
        return bool(given)
    if text.lower() not in WORDS:
        raise SettingError(f"{_SHARE} must be true or false, not {text!r}.")
    return WORDS[text.lower()]


def _shared(port: int, key: str | None) -> str | None:
    """Return the public address of a port; None, with a warning, where there cannot be one."""
    from fishcli.webui.share import share

    try:
        with console.status("Opening a public link"):
            url = share(port)
    except FishError as error:
        console.warn(str(error))
        return None
    console.note(f"Public address: {url}")
    if key is None:
        console.warn("Everyone who has the public address may use this server; --api-key-file FILE asks for a key.")
    return url
