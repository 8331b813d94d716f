"""Streams of frames and of audio, which clients read; the model thread fills them through a bounded buffer."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

from fishcli.request import AudioChunk, Frame, Script

T = TypeVar("T")
U = TypeVar("U")


class Later(Generic[T]):
    """An item that a device still computes; the reader waits for it, so that the model thread need not."""

    def __init__(self, result: Callable[[], T]) -> None:
        self.result = result

    def then(self, change: Callable[[T], U]) -> Later[U]:
        """Return what becomes of it."""
        return Later(lambda: change(self.result()))


class Channel(Generic[T]):
    """A buffer between the model thread, which puts items, and one reader.

    `capacity` counts frames. The model thread never waits: it looks at `room` and pauses the sequence. `wake` tells it
    that room was made or the reader has gone.
    """

    def __init__(self, capacity: int, wake: Callable[[], None]) -> None:
        self.cancelled = False
        self.steps = 0  # decode steps so far, those of frames that wait for the end of their chunk included
        self.first_step: float | None = None  # by `time.perf_counter`
        self.waits_for_text: Callable[[], bool] = lambda: False
        self._capacity, self._wake = capacity, wake
        self._items: deque[tuple[T | Later[T], int]] = deque()
        self._frames = 0
        self._ended = False
        self._error: BaseException | None = None
        # Both wait in C. A Condition takes its lock in Python, where a Ctrl-C would leave it taken for good.
        self._lock = threading.RLock()
        self._changed: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def room(self) -> int:
        """Frames that fit; not positive when the reader is behind."""
        return self._capacity - self._frames

    def count_step(self, now: float) -> None:
        """Note a decode step."""
        self.steps += 1
        if self.first_step is None:
            self.first_step = now

    def put(self, item: T | Later[T], frames: int) -> None:
        """Add an item that stands for so many frames."""
        with self._lock:
            if not self.cancelled:
                self._items.append((item, frames))
                self._frames += frames
                self._changed.put(None)

    def end(self, error: BaseException | None = None) -> None:
        """No further item comes; the reader gets the error, if there is one, after the items before it."""
        with self._lock:
            if not self._ended:
                self._ended, self._error = True, error
                self._changed.put(None)

    def get(self) -> T:
        """Return the next item, waiting for it. Raises StopIteration at the end, and the error of the stream."""
        while (found := self._next()) is None:
            self._changed.get()
        item, full = found
        if full:
            self._wake()
        return item.result() if isinstance(item, Later) else item

    def _next(self) -> tuple[T | Later[T], bool] | None:
        """Return the next item, and whether there was no room behind it; None where none is there yet."""
        with self._lock:
            if self._items:
                item, frames = self._items.popleft()
                full = self.room <= 0
                self._frames -= frames
                return item, full
            if not (self._ended or self.cancelled):
                return None
            self._changed.put(None)  # for a further reader
            if self._error is not None and not self.cancelled:
                raise self._error
            raise StopIteration

    def cancel(self) -> None:
        """The reader wants no more: drop what is buffered, and have the model thread drop the work."""
        with self._lock:
            done = self._ended
            self.cancelled = True
            self._items.clear()
            self._changed.put(None)
        if not done:
            self._wake()


class Stream(Iterator[T]):
    """Iterates over what the engine makes for one request. Closing it, or dropping it unread, cancels the request.

    Use it from one thread, or close it from another. `seed` repeats the result; `began` is when the request was made,
    by `time.perf_counter`.
    """

    def __init__(self, channel: Channel[T], seed: int = 0, script: Script | None = None) -> None:
        self.seed, self.script = seed, script
        self.channel = channel
        self.began = time.perf_counter()
        # The model thread holds the channel, not the stream: one that nobody reads any more is collected.
        weakref.finalize(self, channel.cancel).atexit = False

    @property
    def steps(self) -> int:
        """Decode steps so far, those of frames that wait for the end of their chunk included."""
        return self.channel.steps

    @property
    def first_step(self) -> float | None:
        """The end of the first decode step, by `time.perf_counter`; None before."""
        return self.channel.first_step

    @property
    def waits_for_text(self) -> bool:
        """Whether all of a text that arrives over time has been spoken so far, and more may come."""
        return self.channel.waits_for_text()

    def __next__(self) -> T:
        return self.channel.get()

    def close(self) -> None:
        """Cancel what is not made yet. At most the decode step, prefill block or piece in progress still runs."""
        self.channel.cancel()

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


S = TypeVar("S", bound=Stream)  # type: ignore[type-arg]  # of any item


class FrameStream(Stream[Frame]):
    """The frames of every sample as they are generated; those of one sample in order."""


class AudioStream(Stream[AudioChunk]):
    """The audio of every sample as it is decoded; that of one sample in order."""
