"""Run the lines of a job on this machine: threads that keep the batch of one engine full."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fishcli.errors import EngineClosed, FishError, is_out_of_memory
from fishcli.jobs.line import Line
from fishcli.jobs.render import Renderer, Sound

log = logging.getLogger(__name__)

_AHEAD = 2  # lines beyond the engine's batch: they are prepared and encoded while the batch stays full


class Result(NamedTuple):
    """A line that has ended: its sound, or the reason why it has none."""

    line: Line
    sound: Sound | None
    error: str | None = None


def run(renderer: Renderer, lines: Iterable[Line], batch: int) -> Iterator[Result]:
    """Speak lines, `batch` of them at once, and yield each as it ends. Raises what ends the engine.

    The longest come first, so that none is left alone at the end. Closing the iterator stops it: lines in flight are
    dropped.
    """
    waiting: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
    ended: queue.Queue[Result | BaseException] = queue.Queue(batch)  # bounded: a slow disk holds the model up
    stopped = threading.Event()
    ordered = longest_first(lines)
    threads = min(batch + _AHEAD, len(ordered))
    for line in [*ordered, *[None] * threads]:
        waiting.put(line)

    def work() -> None:
        while (line := waiting.get()) is not None and not stopped.is_set():
            _offer(ended, speak(renderer, line), stopped)

    for _ in range(threads):
        threading.Thread(target=work, daemon=True, name="batch").start()
    try:
        for _ in ordered:
            result = ended.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stopped.set()


def longest_first(lines: Iterable[Line]) -> list[Line]:
    """Return lines in the order in which they are spoken."""
    return sorted(lines, key=lambda line: -len(line.text))


def speak(renderer: Renderer, line: Line) -> Result | BaseException:
    """Return the result of a line, or the exception that ends the job."""
    try:
        return Result(line, renderer.sound(line))
    except EngineClosed as error:
        return error
    except FishError as error:
        return Result(line, None, str(error))
    except Exception as error:
        log.debug("line %s failed", line.id, exc_info=True)
        reason = "out of memory" if is_out_of_memory(error) else f"internal error ({type(error).__name__}: {error})"
        return Result(line, None, reason)


def _offer(ended: queue.Queue[Result | BaseException], result: Result | BaseException, stop: threading.Event) -> None:
    """Put a result, waiting for room while somebody reads."""
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            ended.put(result, timeout=0.5)
            return
