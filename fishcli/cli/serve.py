"""`fish serve`: the HTTP API."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console, keys, options, pages, serve_ray, streams
from fishcli.cli.app import app, command
from fishcli.errors import FishError, InputError, SettingError

if TYPE_CHECKING:
    import socket

    from fishcli.client.discovery import Identity
    from fishcli.engine import Engine
    from fishcli.server.settings import ServerSettings

SERVER = "Server"
_EXTRA = ("fastapi", "multipart", "ormsgpack", "prometheus_client", "uvicorn", "websockets")
_LISTEN = re.compile(r"(?:(?P<host>\[[^]]*\]|[^:]*):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class ServerOptions:
    """The address of the server, its access rules and its limits."""

    listen: Annotated[str, options.setting("serve.listen", SERVER, "ADDRESS")] = options.default("serve.listen")
    api_key_file: Annotated[Path | None, options.setting("serve.api_key_file", SERVER)] = None
    allow_host: Annotated[list[str] | None, options.setting("serve.allow_host", SERVER, "HOST")] = None
    cors: Annotated[list[str] | None, options.setting("serve.cors", SERVER, "ORIGIN")] = None
    max_text_length: Annotated[int, options.setting("serve.max_text_length", SERVER)] = options.default(
        "serve.max_text_length"
    )
    max_queue: Annotated[int, options.setting("serve.max_queue", SERVER)] = options.default("serve.max_queue")
    max_batch: Annotated[int, options.setting("serve.max_batch", SERVER)] = options.default("serve.max_batch")
    webui: Annotated[bool, options.setting("serve.webui", SERVER)] = options.default("serve.webui")

    def settings(self, key: str | None, local_key: str) -> ServerSettings:
        """Return the settings of the server."""
        from fishcli.server.settings import ServerSettings

        return ServerSettings(
            key=key,
            local_key=local_key,
            allowed_hosts=tuple(self.allow_host or ()),
            cors_origins=tuple(self.cors or ()),
            max_text_length=self.max_text_length,
            max_queue=self.max_queue,
        )


@dataclass(frozen=True)
class OldOptions:
    """Further options of the server of Fish Speech."""

    api_key: Annotated[str | None, typer.Option("--api-key", metavar="KEY", hidden=True)] = None
    mode: Annotated[str, typer.Option("--mode", hidden=True)] = "tts"
    load_asr_model: Annotated[bool, typer.Option("--load-asr-model", hidden=True)] = False
    workers: Annotated[int, typer.Option("--workers", hidden=True)] = 1

    def check(self) -> None:
        """Warn of what has no effect, or refuse it."""
        if self.mode != "tts":
            raise SettingError(f"--mode {self.mode} is not supported; the only one is tts.")
        if self.load_asr_model:
            console.warn("--load-asr-model has no effect: send the text of each reference along.")
        if self.workers != 1:
            console.warn("--workers has no effect: one model serves all clients; --max-batch N sets how many at once.")
        if self.api_key is not None:
            console.warn("Others on this machine can read --api-key in the list of processes; use --api-key-file.")


@command(app)
def serve(
    ctx: typer.Context,
    server: ServerOptions,
    ray: serve_ray.ReplicaOptions,
    model: options.ModelOptions,
    old: OldOptions,
) -> None:
    """Serve the HTTP API of Fish Speech and of OpenAI, for any number of clients.

    With --engine ray, replicas share one address. Each has its own queue, limits and /metrics; time-outs of sockets and
    the number of connections are those of Ray Serve, requests are not logged, and `fish say` does not find the server.

    Examples:
      fish serve
      fish serve --listen 127.0.0.1:9000 --compile
      fish serve --listen 0.0.0.0:8080 --api-key-file fishcli.key
      fish serve --engine ray --replicas 2
    """
    require_extra()
    old.check()
    from fishcli.client import discovery
    from fishcli.server.run import bind

    host, port = address(server.listen, "--listen")
    settings = server.settings(key_of_clients(server.api_key_file, old.api_key), discovery.new_key())
    page = pages.page(ctx) if server.webui else None
    if page and ray.on_ray:
        raise SettingError("--webui needs one engine in this process; leave --engine ray out.")
    with bind(host, port) as bound:  # before the model is loaded: a port in use is told at once
        warn_of_strangers(bound, settings)
        if not ray.on_ray:
            raise typer.Exit(run(bound, settings, model, server.max_batch, page))
        host, port = bound.getsockname()[:2]
    serve_ray.serve(ray, model, settings, (host, port), server.max_batch, _warm_up)


def address(text: str, name: str) -> tuple[str, int]:
    """Return the host and the port in HOST:PORT; a port alone is one of 127.0.0.1. Raises SettingError with `name`."""
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise SettingError(f"{name} must be HOST:PORT, such as 127.0.0.1:8080, not {text!r}.")
    return (match["host"] or "127.0.0.1").strip("[]"), int(match["port"])


def warn_of_strangers(bound: socket.socket, settings: ServerSettings) -> None:
    """Warn of a server that others can reach and that asks for no key."""
    from fishcli.server.run import is_local

    if settings.key is None and not is_local(bound):
        host = bound.getsockname()[0]
        console.warn(f"Everyone who can reach {host} may use this server; --api-key-file FILE asks for a key.")


def run(
    bound: socket.socket, settings: ServerSettings, model: options.ModelOptions, max_batch: int, page: pages.Page | None
) -> int:
    """Load a model, and serve it and the page on a bound socket to the end. Returns the exit code."""
    from fishcli.server.app import create_app
    from fishcli.server.drain import Drain
    from fishcli.server.logs import logging_to
    from fishcli.server.run import run as run_app
    from fishcli.voices import Library

    settings, drain = page.settings(settings) if page else settings, Drain()
    identity = model.identity()  # of the files before they are read
    engine = model.load(max_batch)
    try:
        _warm_up(engine)
        made = create_app(engine, Library.of_user(), settings, drain)
        if page:
            page.mount(made, engine)
        as_json = console.flags.json or not console.stderr.is_terminal
        with logging_to(sys.stderr, as_json, console.flags.debug, console.flags.quiet):
            identity = replace(identity, native=engine.plan.native if engine.device.type == "cpu" else None)
            started = partial(_announced, settings.local_key or "", identity, page)
            return run_app(made, bound, settings, drain, started, lambda: engine.fault)
    finally:
        engine.close()


def require_extra() -> None:
    """Raise FishError unless the packages of the server are installed."""
    if any(importlib.util.find_spec(name) is None for name in _EXTRA):
        raise FishError("The server needs further packages; run `pip install 'fishcli[server]'`.")


def key_of_clients(file: Path | None, given: str | None) -> str | None:
    """Return the key that clients must send: of the file, else as given, else of the environment."""
    if file is None and given is not None:
        if not keys.is_key(given):
            raise InputError("The API key must be letters, digits and signs.")
        return given
    if file is not None and sys.platform != "win32" and file.exists() and file.stat().st_mode & 0o077:
        console.warn(f"Others on this machine can read {file}; run `chmod 600 {file}`.")
    return keys.api_key(file)


def _warm_up(engine: Engine) -> None:
    """Speak a word, so that the first client does not wait for what is loaded when it is first used."""
    from fishcli.request import Request, SamplingParams

    with console.status("Loading the model"):
        word = Request("Hello.", sampling=SamplingParams(seed=0, max_new_tokens=8), language="en", check="off")
        with engine.speak(word) as stream:
            for _ in stream:
                pass


@contextlib.contextmanager
def _announced(key: str, identity: Identity, page: pages.Page | None, url: str) -> Iterator[None]:
    """Say where the server listens, and announce it to the commands of this user on this machine."""
    from fishcli.client import discovery

    port = url.removeprefix("http://127.0.0.1:")  # where those commands look for it, and no other address
    with discovery.announced(int(port), key, identity) if port.isdigit() else contextlib.nullcontext():
        console.note(f"Listening on {url} (documentation at /{', web page at /webui' if page else ''})")
        console.result({"url": url})
        streams.flush()
        yield
