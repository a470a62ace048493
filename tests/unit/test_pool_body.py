"""One coroutine on the loop: limits, cancellation, and everything it may end with."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from workers.pool.body import Body
from workers.pool.endings import Ended, HardLimit, Letter, SoftLimit


class Desk:
    """Where the letters of one body arrive."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **limits: float) -> None:
        self.letters: asyncio.Queue[Letter] = asyncio.Queue()
        self.zombies: set[object] = set()
        self.body = Body(coroutine, self.letters.put_nowait, self.zombies, **limits)
        self.body.start()

    async def next(self) -> Letter:
        return await asyncio.wait_for(self.letters.get(), 5)

    async def end(self) -> Ended:
        letter = await self.next()
        assert isinstance(letter, Ended)
        assert self.letters.empty()
        return letter


async def returns(value: Any) -> Any:
    return value


async def raises(error: BaseException) -> None:
    raise error


async def holds(started: asyncio.Event, seen: list[str]) -> str:
    """Wait for ever; note what ends it."""
    started.set()
    try:
        await asyncio.Event().wait()
    except SoftTimeLimitExceeded as exc:
        seen.append(f"soft {exc.args[0]}")
    except asyncio.CancelledError as exc:
        seen.append(f"cancelled {exc.args}")
        raise
    return "cleaned up"


async def test_a_value_is_posted() -> None:
    assert (await Desk(returns(5)).end()).value == 5


@pytest.mark.parametrize(
    "error", [ValueError(), asyncio.CancelledError(), GeneratorExit(), SystemExit(), StopIteration()]
)
async def test_an_error_of_any_kind_is_posted_and_the_loop_lives(error: BaseException) -> None:
    ended = await Desk(raises(error)).end()
    assert ended.error is error or isinstance(ended.error, RuntimeError)  # Python replaces StopIteration


async def test_a_soft_limit_arrives_inside_and_may_be_survived() -> None:
    started, seen = asyncio.Event(), []
    desk = Desk(holds(started, seen))
    await started.wait()
    desk.body.soften(3.0)
    assert (await desk.end()).value == "cleaned up"
    assert seen == ["soft 3.0"]


async def test_a_soft_limit_leaves_no_cancellation_behind() -> None:
    """Or `asyncio.timeout` inside the body would take the next cancellation for the old one."""

    async def counts() -> int:
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()
        return -1

    started = asyncio.Event()
    desk = Desk(counts())
    asyncio.get_running_loop().call_soon(started.set)
    await started.wait()
    desk.body.soften(1.0)
    assert (await desk.end()).value == 0


async def test_a_cancellation_outranks_a_soft_limit_of_the_same_moment() -> None:
    started, seen = asyncio.Event(), []
    desk = Desk(holds(started, seen))
    await started.wait()
    desk.body.soften(3.0)
    desk.body.cancel("now")
    assert isinstance((await desk.end()).error, asyncio.CancelledError)
    assert seen[0].startswith("cancelled")


async def test_a_second_cancellation_does_not_hit_the_cleaning_up() -> None:
    started, cleaning, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def cleans() -> str:
        try:
            started.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cleaning.set()
            await done.wait()
        return "clean"

    desk = Desk(cleans())
    await started.wait()
    desk.body.cancel("first")
    await cleaning.wait()
    desk.body.cancel("second")
    desk.body.soften(1.0)
    done.set()
    assert (await desk.end()).value == "clean"


async def test_cancelled_before_its_first_step_it_still_ends() -> None:
    desk = Desk(returns(5))
    desk.body.cancel("at once")
    assert isinstance((await desk.end()).error, asyncio.CancelledError)


async def test_an_abandoned_body_is_a_zombie_until_it_ends() -> None:
    opened, started = asyncio.Event(), asyncio.Event()

    async def swallows() -> None:
        started.set()
        while not opened.is_set():
            try:
                await opened.wait()
            except asyncio.CancelledError:
                continue

    desk = Desk(swallows())
    await started.wait()
    desk.body.abandon("hard limit")
    assert desk.zombies == {desk.body}
    opened.set()
    await desk.end()
    assert desk.zombies == set()


async def test_limits_are_posted_and_end_with_the_body() -> None:
    opened = asyncio.Event()

    async def waits() -> None:
        await opened.wait()

    desk = Desk(waits(), soft_s=0.01, hard_s=0.02)
    assert await desk.next() == SoftLimit(0.01)
    assert await desk.next() == HardLimit(0.02)
    opened.set()
    await desk.end()
    quick = Desk(returns(1), soft_s=0.01, hard_s=0.01)
    await quick.end()
    slow = Desk(waits(), soft_s=0.05)
    await slow.end()
    assert quick.letters.empty()
