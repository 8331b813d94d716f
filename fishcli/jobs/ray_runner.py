"""Run the lines of a job on a Ray cluster: one worker, an actor with an engine of its own, for each device.

Plain actors and no Ray Data: its results come block by block and a lost block is redone as a whole, while here each
line is a call whose result arrives by itself, and a lost worker costs the lines it had. The driver reads the voices,
for workers elsewhere do not have the files; a worker encodes each once, and the codes go along with the lines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import fishcli
from fishcli.errors import FishError, SettingError
from fishcli.jobs import local, sources
from fishcli.jobs.identity import ModelIdentity, voices_of
from fishcli.jobs.local import Result
from fishcli.jobs.ray_cluster import Cluster, Recipe
from fishcli.jobs.render import Renderer
from fishcli.voices import Library

if TYPE_CHECKING:
    from fishcli.jobs.line import Line
    from fishcli.jobs.settings import JobSettings
    from fishcli.request import Reference

    _Call = tuple[Any, Line | None, Future[Any]]  # a worker, its line (None: it prepares), and its result

log = logging.getLogger(__name__)

_THREADS = 80  # of a worker: a GPU's batch of 64, and calls that prepare or encode
_AHEAD = 4  # lines of a worker beyond its batch: they are prepared, or on their way
_LOSSES = 3  # workers that a line may take along until it is given up
_NUMPY = b"\x93NUMPY"  # the start of a codes file


class Ready(NamedTuple):
    """A worker that has loaded its model: where it runs, its batch, and all that decides what its lines sound like."""

    host: str
    batch: int
    version: str
    model: ModelIdentity
    plan: tuple[str, str, str]  # device, dtype, quantization


class Worker:
    """An engine in a process of Ray's. Its methods are called in parallel, in threads."""

    def __init__(self, recipe: Recipe, settings: JobSettings) -> None:
        self._recipe, self._settings = recipe, settings

    def prepare(self) -> Ready:
        """Load the model. Raises as `fishcli.load` does."""
        recipe = self._recipe
        engine = recipe.load()
        self._renderer = Renderer(engine, Library(), self._settings)
        how = dict(device=recipe.device, dtype=recipe.dtype, quantize=recipe.quantize)
        model = ModelIdentity.of(recipe.model, recipe.codec, **how)
        plan = (engine.device.type, str(engine.plan.dtype), engine.plan.quantize)
        return Ready(socket.gethostname(), engine.max_batch, fishcli.__version__, model, plan)

    def encode(self, found: tuple[sources.Source, ...]) -> tuple[Reference, ...]:
        """Return recordings, or codes files, as references. Raises InputError."""
        with TemporaryDirectory() as folder:
            return self._renderer.encode([_kept(each, Path(folder) / f"{n}.npy") for n, each in enumerate(found)])

    def speak(self, line: Line, keys: list[sources.Key], *encoded: tuple[Reference, ...]) -> Result:
        """Return the result of a line, whose voices come along. An engine that has died takes the process with it."""
        for key, references in zip(keys, encoded, strict=True):
            self._renderer.learn(key, references)
        result = local.speak(self._renderer, line)
        if isinstance(result, BaseException):
            os._exit(1)
        return result


def _kept(source: sources.Source, path: Path) -> sources.Source:
    """Return a source whose path is of this machine: a codes file is read from there."""
    if not source.data.startswith(_NUMPY):
        return source._replace(path=None)
    path.write_bytes(source.data)
    return source._replace(path=path)


@contextlib.contextmanager
def workers(cluster: Cluster, recipe: Recipe, settings: JobSettings, count: int | None = None) -> Iterator[list[Any]]:
    """Start workers, as many as the cluster has places for unless `count` is given. They end with the block."""
    places = cluster.places(recipe)
    if count is not None and count > places:
        raise SettingError(f"There is room for {places} workers on the cluster, not for {count}.", field="workers")
    kind = cluster.ray.remote(
        max_restarts=-1, max_concurrency=max(_THREADS, (recipe.max_batch or 0) + _AHEAD + 2), **cluster.share(recipe)
    )(Worker)
    started = [kind.remote(recipe, settings) for _ in range(count or places)]
    try:
        yield started
    finally:
        for each in started:
            cluster.ray.kill(each)


def run(
    cluster: Cluster,
    started: list[Any],
    lines: Iterable[Line],
    library: Library,
    settings: JobSettings,
    model: ModelIdentity,
) -> Iterator[Result]:
    """Speak lines with the workers that were started, and yield each as it ends.

    A worker that is lost is started again, and its lines are done by those that are there. Raises FishError where a
    worker cannot load its model, or has another model or version than this process: its lines would sound different.
    """
    return _Run(cluster.ray, lines, library, settings, model).results(started)


class _Run:
    """The lines that wait, the calls that have ended, and the voices that are encoded."""

    def __init__(
        self, ray: Any, lines: Iterable[Line], library: Library, settings: JobSettings, model: ModelIdentity
    ) -> None:
        self._ray, self._library, self._settings, self._model = ray, library, settings, model
        self._waiting = deque(local.longest_first(lines))
        self._ended: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._preparing: set[Any] = set()  # workers
        self._failures: dict[Any, int] = {}  # of a worker to start, in a row
        self._encoded: dict[sources.Key, Any] = {}
        self._losses: dict[str, int] = {}
        self._plan: tuple[str, str, str] | None = None

    def results(self, started: list[Any]) -> Iterator[Result]:
        """Yield the results of all lines."""
        left = len(self._waiting)
        for worker in started[:left]:
            self._prepare(worker)
        while left:
            for result in self._next(*self._ended.get()):
                left -= 1
                yield result

    def _call(self, worker: Any, line: Line | None, call: Any) -> None:
        """Have a call of a worker noticed when it ends. (`ray.wait` would swallow the SystemExit of a signal.)"""
        call.future().add_done_callback(lambda future: self._ended.put((worker, line, future)))

    def _prepare(self, worker: Any) -> None:
        """Have a worker load its model, once it is there or there again."""
        if worker not in self._preparing:
            self._preparing.add(worker)
            self._call(worker, None, worker.prepare.options(max_task_retries=-1).remote())

    def _next(self, worker: Any, line: Line | None, future: Future[Any]) -> Iterator[Result]:
        """Yield the result of a call that has ended, and give its worker more to do."""
        from ray.exceptions import RayError, RayTaskError

        if line is None:
            self._preparing.discard(worker)
        try:
            value = future.result()
        except RayTaskError as error:
            yield self._failed(line, error)
            yield from self._give(worker, 1)
        except RayError as error:
            yield from self._lost(worker, line, error)
        else:
            if line is None:
                self._failures.pop(worker, None)
                self._check(value)
            else:
                yield value
            yield from self._give(worker, value.batch + _AHEAD if line is None else 1)

    def _give(self, worker: Any, count: int) -> Iterator[Result]:
        """Give a worker that many lines more, with their voices. Yield the lines whose voice is unreadable."""
        while count and self._waiting:
            line = self._waiting.popleft()
            try:
                voices = {sources.key(each): self._voice(worker, each) for each in voices_of(line, self._settings)}
            except FishError as error:
                yield Result(line, None, str(error))
                continue
            self._call(worker, line, worker.speak.remote(line, list(voices), *voices.values()))
            count -= 1

    def _voice(self, worker: Any, line: Line) -> Any:
        """Return a reference to the codes of a line's voice, encoded by that worker once. Raises FishError."""
        key = sources.key(line)
        if key not in self._encoded:
            self._encoded[key] = worker.encode.remote(sources.read(line, self._library))
        return self._encoded[key]

    def _failed(self, line: Line | None, error: Any) -> Result:
        """Return the result of a line that a worker could not speak. Raises FishError where it could not begin."""
        cause = error.cause if isinstance(error.cause, Exception) else error
        if line is None:
            raise cause
        log.debug("line %s failed", line.id, exc_info=error)
        return Result(line, None, str(cause) if isinstance(cause, FishError) else f"internal error ({cause!r:.200})")

    def _lost(self, worker: Any, line: Line | None, error: Exception) -> Iterator[Result]:
        """Have a lost worker begin anew, and its line wait again. Yield the result of one that is given up."""
        if line is None:
            self._failures[worker] = self._failures.get(worker, 0) + 1
            if self._failures[worker] >= _LOSSES:
                reason = str(error).strip().splitlines()[-1]
                raise FishError(f"A worker could not start ({reason:.300}); its machine needs fishcli, too.")
        self._prepare(worker)
        if line is None:
            return
        log.debug("line %s: its worker was lost (%s)", line.id, error)
        for each in voices_of(line, self._settings):  # they may have been lost, too
            self._encoded.pop(sources.key(each), None)
        self._losses[line.id] = self._losses.get(line.id, 0) + 1
        if self._losses[line.id] < _LOSSES:
            self._waiting.append(line)
        else:
            yield Result(line, None, f"it was given up: {_LOSSES} workers were lost while they spoke it")

    def _check(self, ready: Ready) -> None:
        """Raise FishError where lines of a worker would not be those of this process and of the other workers."""
        if ready.version != fishcli.__version__:
            ours = fishcli.__version__
            raise FishError(f"{ready.host} has fishcli {ready.version}, and this is {ours}; install one version.")
        if ready.model != self._model:
            raise FishError(f"The model of {ready.host} is another one than here; give all machines the same files.")
        self._plan = self._plan or ready.plan
        if ready.plan != self._plan:
            theirs, ours = " ".join(ready.plan), " ".join(self._plan)
            raise SettingError(f"Workers run differently ({theirs} and {ours}); choose a device and a dtype.")
