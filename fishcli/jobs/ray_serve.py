"""Replicas of a server behind Ray Serve: one engine each, and one address for all.

The app comes from a factory, since this package does not know the server. Each replica keeps its own queue, limits and
metrics; Ray Serve's proxy listens, and gives a request to the replica with the shorter queue.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fishcli.errors import FishError
from fishcli.jobs.ray_cluster import Cluster, Recipe

if TYPE_CHECKING:
    from fishcli.engine import Engine

Factory = Callable[["Engine"], Any]  # -> an ASGI app; pickled by the name of its function

_NAME = "fishcli"
_DRAIN = 25.0  # seconds for answers in progress to end
_BESIDE = 64  # requests of a replica beside those that its own queue counts, such as for its health


class _Owner:
    """An actor that lives as long as the process that serves: Ray Serve itself would outlive it on a shared cluster."""

    def alive(self) -> bool:
        return True


class Replica:
    """The app of one engine, in a process of Ray Serve's."""

    def __init__(self, recipe: Recipe, factory: Factory, owner: Any) -> None:
        self._owner, self._engine = owner, recipe.load()
        self._app = factory(self._engine)

    def __serve_build_asgi_app__(self) -> Any:
        return self._app

    async def check_health(self) -> None:
        """Raise once the engine has died, for Ray Serve to start another replica. End with the process that serves."""
        from ray import serve
        from ray.exceptions import RayActorError

        if self._engine.fault is not None:
            raise RuntimeError("The engine has stopped.") from self._engine.fault
        try:
            await self._owner.alive.remote()
        except RayActorError:
            threading.Thread(target=serve.shutdown, daemon=True).start()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # the engine could not be loaded
            self._engine.close()


@contextlib.contextmanager
def serving(
    cluster: Cluster, recipe: Recipe, factory: Factory, replicas: int, address: tuple[str, int], places: int
) -> Iterator[None]:
    """Serve at an address (host, port) until the block ends; answers in progress then have 25 seconds.

    `places` are the requests that a replica runs or lets wait. Raises FishError where no replica can start, or Ray
    Serve has other applications on the cluster.
    """
    from ray import serve

    logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.ERROR)
    _check_free(serve)
    owner = cluster.ray.remote(num_cpus=0)(_Owner).remote()
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=_NAME,
        num_replicas=replicas,
        max_ongoing_requests=places + _BESIDE,
        ray_actor_options=cluster.share(recipe),
        graceful_shutdown_timeout_s=_DRAIN,
        logging_config=quiet,
    )
    try:
        serve.start(http_options={"host": address[0], "port": address[1]}, logging_config=quiet)
        serve.run(deployment.bind(recipe, factory, owner), name=_NAME, route_prefix="/", logging_config=quiet)
        yield
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [""])[-1]
        raise FishError(f"The replicas could not start ({reason:.300}).") from error
    finally:
        serve.shutdown()


def _check_free(serve: Any) -> None:
    """Raise FishError where Ray Serve runs on the cluster: its address is set already, and its end would end others."""
    if others := ", ".join(sorted(serve.status().applications)):
        raise FishError(f"Ray Serve runs on that cluster already ({others:.200}); end it with `serve shutdown`.")
