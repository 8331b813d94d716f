"""A thread that works for others, which Ctrl-C may interrupt at any point.

`concurrent.futures`, `queue.Queue` and `threading.Condition` take their locks in Python code. A KeyboardInterrupt that
arrives there, in the main thread, leaves the lock taken, and whoever wants it next waits for ever. Here all
waiting is done in C, by `queue.SimpleQueue`.
"""

from __future__ import annotations

import _thread
import contextlib
import queue
import weakref
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Call(Generic[_Result]):
    """A function that was given to a Worker."""

    def __init__(self, function: Callable[[], _Result]) -> None:
        self._function = function
        self._outcome: tuple[_Result | None, BaseException | None] | None = None
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def done(self) -> bool:
        """Whether it has returned or raised."""
        return self._outcome is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done, at most so many seconds. Return whether it is."""
        if self._outcome is None:
            with contextlib.suppress(queue.Empty):
                self._ended.get(timeout=timeout)
                self._ended.put(None)  # for others that wait
        return self.done

    def result(self) -> _Result:
        """Return what it returns, when it is done, or raise what it raises."""
        while self._outcome is None:
            self.wait()
        result, error = self._outcome
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where that is the result

    def run(self) -> None:
        """Run the function, and keep what it returns or raises before anyone is told."""
        try:
            self._outcome = self._function(), None
        except BaseException as error:
            self._outcome = None, error
        self._ended.put(None)


class Worker:
    """A thread that runs functions, one after another.

        with Worker() as worker:
            samples = worker.run(decode, file)

    It ends with `close`, or when nobody holds the Worker any more.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._end = Call(lambda: None)
        weakref.finalize(self, self._calls.put, None).atexit = False
        _thread.start_new_thread(_work, (self._calls, self._end))

    def start(
        self, function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Call[_Result]:
        """Have a function run after those before it."""
        call = Call(lambda: function(*args, **kwargs))
        self._calls.put(call)
        return call

    def run(
        self, function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Return what a function returns, run after those before it."""
        return self.start(function, *args, **kwargs).result()

    def close(self) -> None:
        """End the thread, and wait for it. It runs first what was started."""
        self._calls.put(None)
        self._end.result()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _work(calls: queue.SimpleQueue[Call[Any] | None], end: Call[None]) -> None:
    while (call := calls.get()) is not None:
        call.run()
        del call  # with its result
    end.run()
