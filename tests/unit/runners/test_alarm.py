"""One pending moment (`alarm`)."""

import asyncio

from tests.waiting import idle
from workers.adapters.memory.clock import ManualClock
from workers.runners.alarm import Alarm


class Bedroom:
    def __init__(self) -> None:
        self.clock = ManualClock(100.0)
        self.rung = 0
        self.alarm = Alarm(self.clock, self._ring)

    def _ring(self) -> None:
        self.rung += 1

    async def at(self, when: float) -> int:
        self.clock.advance(when - self.clock.now())
        await idle()
        return self.rung


async def test_it_rings_once_when_its_time_has_come() -> None:
    room = Bedroom()
    room.alarm.set(105.0)
    await idle()
    assert [await room.at(104.9), await room.at(105.0), await room.at(200.0)] == [0, 1, 1]


async def test_only_the_last_time_counts() -> None:
    room = Bedroom()
    room.alarm.set(101.0)
    await idle()
    room.alarm.set(110.0)
    await idle()
    assert [await room.at(105.0), await room.at(110.0)] == [0, 1]


async def test_the_same_time_again_costs_nothing() -> None:
    room = Bedroom()
    room.alarm.set(101.0)
    before = asyncio.all_tasks()
    room.alarm.set(101.0)
    assert asyncio.all_tasks() == before
    await idle()
    assert await room.at(101.0) == 1


async def test_it_can_be_set_off_and_on_again() -> None:
    room = Bedroom()
    room.alarm.set(101.0)
    await idle()
    room.alarm.set(None)
    await idle()
    assert await room.at(102.0) == 0
    room.alarm.set(102.0)
    await idle()
    assert room.rung == 1, "a time that is over rings at once"


async def test_the_time_at_which_it_rang_can_be_set_again() -> None:
    room = Bedroom()
    for rung in (1, 2):
        room.alarm.set(100.0)
        await idle()
        assert room.rung == rung
