"""Waiting for something to become true, without guessing how long it takes.

The only place in the tests that lets time pass.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
_TICK_S = 0.02
# `within` is for a quiet machine. It bounds a hang and is no statement about speed: under five test processes, on two
# cores, what takes 30 s alone took over 90, and a failing test can afford to fail late.
_PATIENCE = 3


def eventually(check: Callable[[], T], within: float = 10.0) -> T:
    """Return the first truthy value of `check`; raise AssertionError after `within` quiet seconds (see `_PATIENCE`)."""
    end = time.monotonic() + within * _PATIENCE
    pause = threading.Event()
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"still {value!r} after {within * _PATIENCE} s: {check}")
        pause.wait(_TICK_S)


async def eventually_async(check: Callable[[], Awaitable[T]], within: float = 10.0) -> T:
    """Like `eventually`, for a check that is awaited."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within * _PATIENCE
    while True:
        value = await check()
        if value:
            return value
        if loop.time() > end:
            raise AssertionError(f"still {value!r} after {within * _PATIENCE} s: {check}")
        await asyncio.sleep(_TICK_S)


async def one_turn() -> None:
    """Let the loop turn once: what is ready runs, up to its next wait."""
    await asyncio.sleep(0)


async def idle() -> None:
    """Return when every task of the loop waits for what only the test can give: time, an event, a letter.

    Threads and sockets are not seen: wait for an event of theirs instead.
    """
    loop: Any = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(0)
        if not loop._ready:
            return


def rest(seconds: float) -> None:
    """Let a fault last, or the time between two of them: there is no event to wait for."""
    threading.Event().wait(seconds)


async def rest_async(seconds: float) -> None:
    """Like `rest`, on a loop."""
    await asyncio.sleep(seconds)
