"""The end of a server: everyone who works on an answer can see it coming."""

from __future__ import annotations

import asyncio


class Drain:
    """Whether the server is about to end. Answers in progress may end by themselves; new ones are refused."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def started(self) -> bool:
        """Whether the server has been told to end."""
        return self._begun.is_set()

    def start(self) -> None:
        """Tell everyone, from the event loop's thread."""
        self._begun.set()

    async def wait(self) -> None:
        """Return when the server has been told to end."""
        await self._begun.wait()
