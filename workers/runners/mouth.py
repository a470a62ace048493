"""How an answer is published while it streams: the first piece at once, later ones at common moments (CHAT-02)."""

import asyncio
from collections.abc import Callable, Sequence

from workers.core.chat.coalesce import Coalescer, Said
from workers.ports import Clock
from workers.runners.chime import INTERVAL_S, Chime


class Mouth:
    """Says one attempt's answer through `said`. `close` stops the clock."""

    def __init__(self, chime: Chime, clock: Clock, said: Callable[[Said], None]) -> None:
        self._clock = clock
        self._said = said
        self._coalescer = Coalescer(INTERVAL_S, phase_s=chime.phase_s)
        self._timer = chime.timer(self._due)
        self._resting: asyncio.Future[None] | None = None

    def say(self, pieces: Sequence[Said], now: float) -> None:
        """Take in what came together at `now`."""
        for piece in self._coalescer.take(pieces, now):
            self._said(piece)
        self._timer.set(self._coalescer.deadline)

    def lull(self) -> asyncio.Future[None] | None:
        """See `Lull`: until the next moment, when all that can come would only be held for it.

        Whoever reads the answer then wakes once for a moment instead of once for a token.
        """
        until = self._coalescer.quiet_until(self._clock.now())
        if until is None:
            return None
        self._timer.set(until)
        self._resting = asyncio.get_running_loop().create_future()
        return self._resting

    def rest(self) -> list[Said]:
        """Return what is still held, once the answer is over."""
        return self._coalescer.flush(self._clock.now())

    def close(self) -> None:
        """Be rung no more."""
        self._timer.close()

    def _due(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)  # what came meanwhile is read and said in one
            return
        for piece in self.rest():
            self._said(piece)
