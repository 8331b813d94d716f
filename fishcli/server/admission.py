"""Who may use the model, and who waits: places, a queue of bounded length, and a fair share for long texts."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fishcli.server.errors import Refused

LONG = 1000  # characters: about a minute of speech
_MAX_WAIT = 60  # seconds that a client is told to wait at most


@dataclass(eq=False)
class Place:
    """The right of one request to use the model, for as long as its client takes what is made."""

    admission: Admission
    long: bool
    held: bool = True
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def release(self) -> None:
        """Give the place to the next request. Releasing again does nothing."""
        if self.held:
            self.held = False
            self.admission._released(self)


class Admission:
    """Places in the engine, first come, first served. Use it from one event loop.

    Long texts have at most half of the places, so that a few books do not keep sentences waiting. A request beyond
    `max_queue` waiting ones is refused with 429 and the seconds after which a place is likely to be free.
    """

    def __init__(self, places: int, max_queue: int) -> None:
        self.places, self.max_queue = places, max_queue
        self.running = 0
        self._long_running = 0
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()
        self._duration = 2.0  # seconds of a request, on average

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def place(self, characters: int) -> AsyncIterator[Place]:
        """Wait for a place for a text of so many characters and hold it. Raises Refused where too many wait."""
        place = await self.enter(characters)
        try:
            yield place
        finally:
            place.release()

    async def enter(self, characters: int) -> Place:
        """Wait for a place and return it; the caller has to release it. Raises Refused as `place` does."""
        long = characters > LONG
        if self._admits(long):
            self._take(long)
            return Place(self, long)
        if self.waiting >= self.max_queue:
            raise Refused(429, "Too many requests are waiting; try again later.", retry_after=self._retry_after())
        entry = (long, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif not entry[1].cancelled():  # its turn had come
                self._leave(long)
            raise
        return Place(self, long)

    def _admits(self, long: bool) -> bool:
        return self.running < self.places and not (long and self._long_running >= max(1, self.places // 2))

    def _take(self, long: bool) -> None:
        self.running += 1
        self._long_running += long

    def _released(self, place: Place) -> None:
        lasted = asyncio.get_running_loop().time() - place.began
        self._duration += 0.2 * (lasted - self._duration)
        self._leave(place.long)

    def _leave(self, long: bool) -> None:
        self.running -= 1
        self._long_running -= long
        while (entry := next((each for each in self._waiting if self._admits(each[0])), None)) is not None:
            self._waiting.remove(entry)
            if not entry[1].done():
                self._take(entry[0])
                entry[1].set_result(None)

    def _retry_after(self) -> int:
        rounds = (self.waiting + 1) / self.places
        return max(1, min(_MAX_WAIT, math.ceil(rounds * self._duration)))
