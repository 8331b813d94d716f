"""Admission: places, the order of those who wait, the share of long texts, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fishcli.server.admission import LONG, Admission, Place
from fishcli.server.errors import Refused

SHORT = 10


class Crowd:
    """Requests that hold their places until they are told to leave; `order` has their names as they got a place."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Event] = {}

    async def come(self, name: str, characters: int = SHORT) -> None:
        self._leaving[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, characters))
        await settle()

    async def go(self, name: str) -> None:
        self._leaving[name].set()
        await self.tasks.pop(name)
        await settle()

    async def _stay(self, name: str, characters: int) -> None:
        async with self.admission.place(characters):
            self.order.append(name)
            await self._leaving[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())  # type: ignore[arg-type]


def test_those_who_wait_come_in_the_order_of_their_arrival():
    async def scene() -> None:
        crowd = Crowd(Admission(2, 8))
        for name in "abcd":
            await crowd.come(name)
        assert crowd.order == ["a", "b"]
        assert (crowd.admission.running, crowd.admission.waiting) == (2, 2)
        for name in "abcd":
            await crowd.go(name)
        assert crowd.order == list("abcd")
        assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)

    run(scene)


def test_long_texts_have_half_of_the_places_and_keep_no_sentence_waiting():
    async def scene() -> None:
        crowd = Crowd(Admission(4, 8))
        for name in ("book1", "book2", "book3"):
            await crowd.come(name, LONG + 1)
        assert crowd.order == ["book1", "book2"]
        await crowd.come("a")
        await crowd.come("b")
        await crowd.come("c")
        assert crowd.order[2:] == ["a", "b"]
        await crowd.go("a")  # book3 has waited longer than c, but two books run
        assert crowd.order[4:] == ["c"]
        await crowd.go("book1")
        assert crowd.order[5:] == ["book3"]
        for name in ("book2", "book3", "b", "c"):
            await crowd.go(name)

    run(scene)


def test_one_place_is_for_long_texts_too():
    async def scene() -> None:
        crowd = Crowd(Admission(1, 8))
        await crowd.come("book", LONG + 1)
        assert crowd.order == ["book"]
        await crowd.go("book")

    run(scene)


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def scene() -> None:
        crowd = Crowd(Admission(1, 1))
        await crowd.come("a")
        await crowd.come("b")
        with pytest.raises(Refused) as refused:
            async with crowd.admission.place(SHORT):
                pass
        assert refused.value.status == 429
        assert refused.value.retry_after is not None
        assert 1 <= refused.value.retry_after <= 60
        await crowd.go("a")
        await crowd.go("b")

    run(scene)


def test_one_who_leaves_the_queue_or_dies_at_its_turn_takes_no_place():
    async def scene() -> None:
        crowd = Crowd(Admission(1, 8))
        for name in "abcd":
            await crowd.come(name)
        crowd.tasks["b"].cancel()
        await settle()
        crowd.tasks["c"].cancel()
        crowd._leaving["a"].set()  # c is told its turn and cancelled in one round of the loop
        await settle()
        assert crowd.order == ["a", "d"]
        await crowd.go("d")
        assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)

    run(scene)


def test_a_place_that_is_given_back_early_is_not_given_back_twice():
    async def scene() -> None:
        crowd = Crowd(Admission(1, 8))
        places: list[Place] = []
        async with crowd.admission.place(SHORT) as place:
            places.append(place)
            await crowd.come("b")
            place.release()
            await settle()
            assert crowd.order == ["b"]
        assert crowd.admission.running == 1
        await crowd.go("b")
        assert crowd.admission.running == 0

    run(scene)
