"""One worker process of the simulated world: its lines to everything outside, its death, its pauses.

Whatever a process does to the world goes through a `Line`, where the plan can kill it. A dead process does nothing
more: its lines raise, and all of its tasks are cancelled.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from workers.ports import StoreUnavailable

if TYPE_CHECKING:
    from tests.sim.world import World

CURRENT: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)

PAUSE_S = 27.0
"""Longer than a lease and two sweeps: somebody else has gone on by then."""
DRAIN_S = 20.0
"""From SIGTERM to the end, of which runs may use the first share to come to a good moment."""


def owned_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> "asyncio.Task[Any]":
    """Task factory of the world's loop: a task belongs to the process that began it."""
    task = asyncio.Task(coro, loop=loop, **options)
    if (process := CURRENT.get()) is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task


class Process:
    """A process by name. `dead` is for ever: a restarted worker is another process."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self.draining = False
        self.serving = 0
        self.on_drain: Callable[[float], None] = lambda _: None
        self.tasks: set[asyncio.Task[Any]] = set()
        self._paused_until = 0.0

    def start(self, coro: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Begin something as this process."""
        token = CURRENT.set(self)
        try:
            return asyncio.get_running_loop().create_task(coro)
        finally:
            CURRENT.reset(token)

    def kill(self) -> None:
        """Die, in the middle of whatever it is."""
        self.dead = True
        for task in list(self.tasks):
            task.cancel()

    def drain(self) -> None:
        """Take nothing new, hand over, and end: when nothing is left to do, or the time is up."""
        if not self.draining:
            self.draining = True
            self.on_drain(self.world.clock.now() + 0.6 * DRAIN_S)
            self.world.start(self._end())

    async def _end(self) -> None:
        clock = self.world.clock
        end = clock.now() + DRAIN_S
        while self.serving and clock.now() < end:
            await clock.sleep_until(clock.now() + 0.2)
        self.kill()

    def pause(self) -> None:
        """Stand still for longer than any lease."""
        self._paused_until = self.world.clock.now() + PAUSE_S

    async def gate(self) -> None:
        """Pass only as a living process that moves."""
        while not self.dead and self.world.clock.now() < self._paused_until:
            await self.world.clock.sleep_until(self._paused_until)
        if self.dead:
            raise asyncio.CancelledError(f"{self.name} is dead")

    # -- the Clock port ----------------------------------------------------------------------------------------------

    def now(self) -> float:
        """See `Clock`."""
        return self.world.clock.now()

    async def sleep_until(self, when: float) -> None:
        """See `Clock`: a process that stands still does not wake."""
        await self.world.clock.sleep_until(when)
        await self.gate()


class Line:
    """A process's line to one part of the world; each call is a step.

    `raises` is what a call that fails raises; None for what cannot fail. `streams` names the generators.
    """

    def __init__(
        self,
        process: Process,
        part: str,
        target: object,
        *,
        raises: Callable[[str], Exception] | None = StoreUnavailable,
        streams: str = "",
    ) -> None:
        self._process = process
        self._part = part
        self._target = target
        self._raises = raises
        self._streams = streams.split()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        act = getattr(self._target, name)
        if name in self._streams:
            return lambda *args, **kwargs: self._stream(name, act(*args, **kwargs))
        if not asyncio.iscoroutinefunction(act):
            return act  # type: ignore[no-any-return]

        async def step(*args: Any, **kwargs: Any) -> Any:
            return await self._step(name, lambda: act(*args, **kwargs))

        return step

    async def _step(self, name: str, act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        process, world = self._process, self._process.world
        await process.gate()
        fault = world.step(f"{process.name}.{self._part}.{name}")
        match fault:
            case "kill-before":
                process.kill()
            case "pause":
                process.pause()
            case "drain":
                process.drain()
            case "forget":
                world.forget()
            case "sql-away" | "redis-away":
                world.lose(fault)
            case _:
                pass
        await process.gate()
        await world.latency()
        await process.gate()
        if self._raises and (fault == "refused" or world.is_away(self._part)):
            raise self._raises(f"{self._part}.{name} is refused")
        result = await act()
        if fault == "kill-after":
            process.kill()
        await world.latency()
        await process.gate()
        if fault == "no-reply" and self._raises:
            raise self._raises(f"no reply to {self._part}.{name}")
        return result

    async def _stream(self, name: str, reads: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """Pass on what comes; each piece is a step."""
        try:
            while (piece := await self._step(name, lambda: _next(reads))) is not None:
                yield piece
        finally:
            await reads.aclose()


async def _next(reads: AsyncGenerator[Any, None]) -> Any:
    return await anext(reads, None)
