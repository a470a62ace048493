"""What tools want done once their results are in the journal: begun at once, with a moment when the run ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

_MOMENT_S: Final = 5.0
"""So long the end of a run waits for what follows from its results; then that is cancelled."""


class FollowUps:
    """Of one run."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, act: Callable[[], Awaitable[None]]) -> None:
        """Begin one."""

        async def acting() -> None:
            await act()

        task = asyncio.create_task(acting())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Return when all have ended, or were cancelled."""
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_MOMENT_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
