"""A Ray cluster: an existing one by its address, or one of this machine that lives as long as the block.

Ray is imported here alone, and late: it takes a second, and most installations do not have it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishcli.errors import FishError, NetworkError, SettingError

if TYPE_CHECKING:
    from fishcli.engine import Engine

LOCAL = "local"  # what Ray calls a cluster of its own
_PATIENCE = 10.0  # seconds for a cluster to take a connection
_PREFIX = "fish-ray-"  # of the folder of a local cluster; the process follows
_STORE = 200_000_000  # bytes of shared memory for the results of a local cluster that nobody has taken yet
_ANYWHERE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning of what Ray will do in future
    "RAY_SERVE_LOG_TO_STDERR": "0",
}
_HERE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's switch for a cluster on the loopback address alone
    "RAY_AUTH_MODE": "token",  # other users of this machine can reach that address, too
}


@dataclass(frozen=True)
class Recipe:
    """The arguments of `fishcli.load` that every worker calls, with paths as they are on its machine."""

    model: str | None = None
    codec: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "auto"
    compile: bool | None = None
    threads: int = 1
    kv_memory: int | None = None
    max_batch: int | None = None

    def load(self) -> Engine:
        """Return the engine. Raises as `fishcli.load` does."""
        from fishcli.engine import load

        return load(**vars(self))


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to: the module `ray`, and the devices that are there."""

    ray: Any
    cpus: int
    gpus: int

    def share(self, recipe: Recipe) -> dict[str, float]:
        """Return what a worker reserves, in Ray's words: a GPU where its engine has one, else its threads."""
        wanted = recipe.device == "cuda" or (recipe.device == "auto" and self.gpus > 0)
        return {"num_cpus": 1, "num_gpus": 1} if wanted else {"num_cpus": recipe.threads, "num_gpus": 0}

    def places(self, recipe: Recipe) -> int:
        """Return how many workers the cluster has room for, when it does nothing else."""
        share = self.share(recipe)
        return max(1, self.gpus if share["num_gpus"] else self.cpus // int(share["num_cpus"]))


def require() -> None:
    """Raise FishError unless Ray is installed."""
    if importlib.util.find_spec("ray") is None:
        raise FishError("Ray is not installed; run `pip install 'fishcli[ray]'`.")


@contextlib.contextmanager
def connected(address: str | None = None, cpus: int = 1) -> Iterator[Cluster]:
    """Yield the cluster at an address, else at RAY_ADDRESS, else a new one of this machine with `cpus` places.

    A new one listens on the loopback address alone, asks for a token of its own, and ends with the block or, within a
    minute, with this process. Raises FishError without Ray, SettingError or NetworkError.
    """
    require()
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(_ANYWHERE if address != LOCAL else _ANYWHERE | _HERE | _token()))
        given: dict[str, Any] = {}
        if address == LOCAL:
            folder = stack.enter_context(_folder())
            given = {"num_cpus": cpus, "object_store_memory": _STORE, "include_dashboard": False, "_temp_dir": folder}
        ray = _connect(address, given)
        stack.callback(ray.shutdown)
        resources = ray.cluster_resources()
        yield Cluster(ray, int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))


def _connect(address: str, given: dict[str, Any]) -> Any:
    """Return the module `ray`, connected."""
    _reach(address)
    import ray
    from ray._private import worker

    worker._worker_logs_enabled = False  # Ray prints what happens to workers, on stdout: it has no other switch
    with _own_signals():
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR", **given)
        except ValueError as error:
            raise SettingError(f"{address!r:.80} is not the address of a Ray cluster.", field="address") from error
        except (ConnectionError, RuntimeError, OSError) as error:
            where = "on this machine" if address == LOCAL else f"at {address:.80}"
            reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
            raise NetworkError(f"There is no Ray cluster {where} ({reason:.200}).", field="address") from error
    return ray


def _reach(address: str) -> None:
    """Raise NetworkError where nobody listens at HOST:PORT: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NetworkError(f"There is no Ray cluster at {address:.80} ({reason:.200}).", field="address") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of signals: Ray sets one for SIGTERM, which exits with another code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for Ray, which reads many of its settings from nowhere else, and for its processes."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _token() -> dict[str, str]:
    return {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """Yield a folder for the sockets of a cluster, whose paths must be short; remove those of killed processes."""
    place = Path(tempfile.gettempdir())
    for old in place.glob(f"{_PREFIX}*"):
        number = old.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists() and Path("/proc/self").exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
