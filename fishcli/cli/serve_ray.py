"""`fish serve --engine ray`: replicas of the server behind Ray Serve."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fishcli.cli import console, options, ray_options, signals, streams
from fishcli.cli.ray_options import RayOptions
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fishcli.engine import Engine
    from fishcli.server.settings import ServerSettings


@dataclass(frozen=True)
class ReplicaOptions(RayOptions):
    """The replicas of a server on a Ray cluster."""

    replicas: Annotated[
        int | None,
        typer.Option(
            "--replicas",
            help="Engines behind one address, with --engine ray.",
            show_default="1",
            min=1,
            max=1024,
            metavar="N",
            rich_help_panel="Server",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.on_ray and self.replicas is not None:
            raise SettingError("--replicas belongs to --engine ray; add it.")


def serve(
    asked: ReplicaOptions,
    model: options.ModelOptions,
    settings: ServerSettings,
    address: tuple[str, int],
    max_batch: int,
    warm_up: Callable[[Engine], None],
) -> None:
    """Serve until a signal comes."""
    from fishcli.jobs import ray_cluster, ray_serve

    ray_cluster.require()
    recipe, replicas = ray_options.recipe(model, max_batch), asked.replicas or 1
    signals.clean_up()
    with ray_cluster.connected(asked.address, replicas * recipe.threads) as cluster:
        places = max_batch + settings.max_queue
        app = partial(make_app, settings, warm_up)
        with ray_serve.serving(cluster, recipe, app, replicas, address, places):
            url = _url(*address)
            console.note(f"Listening on {url} with {replicas} replica{'s' * (replicas > 1)} (documentation at /)")
            console.result({"url": url, "replicas": replicas})
            streams.flush()
            _wait_for_signal()


def make_app(settings: ServerSettings, warm_up: Callable[[Engine], None], engine: Engine) -> Any:
    """Return the app of a replica, in its process."""
    from fishcli.server.app import create_app
    from fishcli.voices import Library

    warm_up(engine)
    return create_app(engine, Library.of_user(), settings)


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait_for_signal() -> None:
    """Return at SIGTERM or Ctrl-C; a second one ends the process."""
    told = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: told.set()) for number in numbers]
    while not told.wait(3600):
        pass
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
