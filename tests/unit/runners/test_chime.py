"""Moments that many wait for together (`chime`)."""

import asyncio

import pytest

from tests.waiting import idle
from workers.adapters.memory.clock import ManualClock
from workers.runners.chime import Chime

pytestmark = pytest.mark.requirement("CHAT-02")


class Tower:
    def __init__(self) -> None:
        self.clock = ManualClock(100.0)
        self.chime = Chime(self.clock)
        self.rung: list[str] = []
        self.first, self.second = (self.chime.timer(lambda name=name: self.rung.append(name)) for name in "ab")

    async def at(self, when: float) -> list[str]:
        await idle()
        self.clock.advance(when - self.clock.now())
        await idle()
        return self.rung


async def test_all_that_wait_for_a_moment_share_one_sleep() -> None:
    tower = Tower()
    before = asyncio.all_tasks()
    tower.first.set(105.0)
    tower.second.set(105.0)
    assert len(asyncio.all_tasks() - before) == 1
    assert await tower.at(104.9) == []
    assert await tower.at(105.0) == ["a", "b"]
    assert await tower.at(200.0) == ["a", "b"]


async def test_one_that_is_set_off_or_moved_does_not_ring_with_the_others() -> None:
    tower = Tower()
    tower.first.set(105.0)
    tower.second.set(105.0)
    tower.first.set(None)
    tower.second.set(110.0)
    assert await tower.at(105.0) == []
    assert await tower.at(110.0) == ["b"]


async def test_one_that_was_set_off_and_on_again_rings_once() -> None:
    tower = Tower()
    for when in (105.0, None, 105.0, 105.0):
        tower.first.set(when)
    assert await tower.at(105.0) == ["a"]


async def test_the_moment_at_which_it_rang_can_be_set_again() -> None:
    tower = Tower()
    for rung in (["a"], ["a", "a"]):
        tower.first.set(100.0)
        assert await tower.at(100.0) == rung


async def test_nobody_sleeps_for_a_moment_that_nobody_waits_for() -> None:
    tower = Tower()
    before = asyncio.all_tasks()
    tower.first.set(105.0)
    tower.second.set(105.0)
    tower.first.set(None)
    assert asyncio.all_tasks() != before
    tower.second.set(None)
    await idle()
    assert asyncio.all_tasks() == before
