"""The options of a command that can run on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console, options
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fishcli.jobs.identity import ModelIdentity
    from fishcli.jobs.line import Line
    from fishcli.jobs.local import Result
    from fishcli.jobs.ray_cluster import Recipe
    from fishcli.jobs.settings import JobSettings
    from fishcli.voices import Library

_ENGINES = ("local", "ray")


def _known(value: str) -> str:
    if value not in _ENGINES:
        raise SettingError(f"--engine must be one of {', '.join(_ENGINES)}, not {value}.")
    return value


@dataclass(frozen=True)
class RayOptions:
    """Where the model runs: in this process, or in workers of a Ray cluster."""

    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="local, or ray: in workers of a Ray cluster.",
            show_default=False,
            metavar="NAME",
            rich_help_panel=options.MODEL,
            callback=_known,
            autocompletion=lambda incomplete: [name for name in _ENGINES if name.startswith(incomplete)],
        ),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="That cluster, or RAY_ADDRESS.",
            show_default="a new one",
            metavar="HOST:PORT",
            rich_help_panel=options.MODEL,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.engine != "ray" and self.address is not None:
            raise SettingError("--address belongs to --engine ray; add it.")

    @property
    def on_ray(self) -> bool:
        """Whether the model runs in workers of Ray."""
        return self.engine == "ray"


@dataclass(frozen=True)
class WorkerOptions(RayOptions):
    """The workers of a job on a Ray cluster."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Engines on that cluster.",
            show_default="one for each GPU, else CPU",
            min=1,
            max=10_000,
            metavar="N",
            rich_help_panel=options.MODEL,
            hidden=True,  # the page of `fish batch` is full
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.on_ray and self.workers is not None:
            raise SettingError("--workers belongs to --engine ray; add it.")

    def results(
        self,
        model: options.ModelOptions,
        lines: Sequence[Line],
        library: Library,
        settings: JobSettings,
        identity: ModelIdentity,
        begin: Callable[[], None],
    ) -> Iterator[Result]:
        """Speak lines with workers, and yield each as it ends. `begin` is called when Ray has started."""
        from fishcli.jobs import ray_cluster, ray_runner

        how = recipe(model)
        with contextlib.ExitStack() as stack:
            with console.status("Starting Ray"):
                cpus = (self.workers or os.cpu_count() or 1) * how.threads
                cluster = stack.enter_context(ray_cluster.connected(self.address, cpus))
            started = stack.enter_context(ray_runner.workers(cluster, how, settings, self.workers))
            begin()
            yield from ray_runner.run(cluster, started, lines, library, settings, identity)


def recipe(model: options.ModelOptions, max_batch: int | None = None) -> Recipe:
    """Return how a worker loads the model; a folder of this machine by its whole path."""
    from fishcli.jobs.ray_cluster import Recipe

    folder = model.checkpoint_path
    return Recipe(
        str(Path(folder).resolve()) if folder and Path(folder).is_dir() else folder,
        str(model.codec_path.resolve()) if model.codec_path else None,
        device=model.device,
        dtype=model.loaded_dtype,
        quantize=model.quantize,
        compile=model.compile,
        threads=model.threads or 1,
        kv_memory=model.kv_memory,
        max_batch=max_batch,
    )
