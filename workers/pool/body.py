"""One coroutine on the loop.

Owns its task, its time limits and its cancellation, and posts its end. Everything here but the constructor runs in the
loop's thread, so that nothing needs a lock.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from workers.pool.endings import Ended, HardLimit, Letter, SoftLimit


class Body:
    """Runs `coroutine` from `start` on and posts exactly one `Ended`; posts `SoftLimit` and `HardLimit` when due.

    Limits are seconds from the start, None for no limit. `zombies` is where a body lists itself while it outlives its
    job: a coroutine that swallows its cancellation cannot be stopped, only counted.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        post: Callable[[Letter], None],
        zombies: set[object],
        soft_s: float | None = None,
        hard_s: float | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._post = post
        self._zombies = zombies
        self._limits = (soft_s, hard_s)
        self._timers: list[asyncio.TimerHandle] = []
        self._task: asyncio.Task[None] | None = None
        self._ended: Ended | None = None
        self._cancelled = False
        self._soft_s: float | None = None

    def start(self) -> None:
        """Begin; the context of the call is the coroutine's."""
        loop = asyncio.get_running_loop()
        soft_s, hard_s = self._limits
        if soft_s is not None:
            self._timers.append(loop.call_later(soft_s, self._post, SoftLimit(soft_s)))
        if hard_s is not None:
            self._timers.append(loop.call_later(hard_s, self._post, HardLimit(hard_s)))
        self._task = loop.create_task(self._drive())
        self._task.add_done_callback(self._finish)

    def soften(self, seconds: float) -> None:
        """Raise SoftTimeLimitExceeded inside the coroutine, at the await where it is."""
        if self._task is not None and not self._task.done() and not self._cancelled:
            self._soft_s = seconds
            self._task.cancel()

    def cancel(self, why: str) -> None:
        """Raise CancelledError inside the coroutine, once: a second one would hit its cleaning up."""
        if self._task is not None and not self._task.done() and not self._cancelled:
            self._cancelled = True
            self._task.cancel(why)

    def abandon(self, why: str) -> None:
        """Cancel, again if need be; count as a zombie until the end."""
        if self._task is not None and not self._task.done():
            self._cancelled = True
            self._task.cancel(why)
            self._zombies.add(self)

    async def _drive(self) -> None:
        try:
            self._ended = Ended(value=await _Steered(self._coroutine, self._convert))
        except BaseException as exc:  # noqa: BLE001 - a KeyboardInterrupt out of a task would stop the loop
            self._ended = Ended(error=exc)

    def _convert(self, thrown: BaseException) -> BaseException:
        """Replace the cancellation that `soften` asked for; a real one in the meantime wins."""
        seconds, self._soft_s = self._soft_s, None
        if seconds is None or self._cancelled or not isinstance(thrown, asyncio.CancelledError):
            return thrown
        if self._task is not None:
            self._task.uncancel()
        return SoftTimeLimitExceeded(seconds)

    def _finish(self, _task: asyncio.Task[None]) -> None:
        for timer in self._timers:
            timer.cancel()
        self._zombies.discard(self)
        # Not kept here: an error's traceback leads back to this object.
        ended, self._ended = self._ended, None
        if ended is None:
            # Cancelled before its first step: `_drive` never ran, nor did the coroutine.
            self._coroutine.close()
            ended = Ended(error=asyncio.CancelledError())
        self._post(ended)


class _Steered:
    """Awaits a coroutine, but lets `convert` choose what is raised inside it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], convert: Callable[[BaseException], BaseException]) -> None:
        self._coroutine = coroutine
        self._convert = convert

    def __await__(self) -> Generator[Any, None, Any]:
        thrown: BaseException | None = None
        while True:
            try:
                awaited = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
            except StopIteration as returned:
                return returned.value
            thrown = None
            try:
                yield awaited
            except BaseException as exc:  # noqa: BLE001 - whatever it is, it belongs into the coroutine
                thrown = self._convert(exc)
