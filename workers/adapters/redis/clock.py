"""Redis' time, told by this machine's monotonic clock: the one time that all processes of the service share.

Journals and leases carry the time of Redis. What a worker holds against them (deadlines of runs, of calls, parks) must
come from the same clock, or a machine an hour ahead would call every run late. To ask each time would cost a trip;
so Redis is asked now and then, and the machine counts the seconds between.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog
from redis.asyncio import Redis

from workers.adapters.redis.connection import mapped
from workers.ports import StoreUnavailable

_log = structlog.get_logger(__name__)

EVERY_S: Final = 30.0
"""Between two looks at Redis' clock; quartz strays by some milliseconds in that time."""
_AGAIN_S: Final = 1.0
_LEAST_S: Final = 0.001
"""uvloop counts whole milliseconds and takes half of one for none: the loop would turn idly until it is over."""
_STEP_S: Final = 1.0
"""A correction that is larger is worth a line in the log: somebody set a clock."""


class RedisClock:
    """`Clock` of one process. `anchor` before its first use, then `keep`.

    Until Redis has answered for the first time it tells this machine's time. `monotonic` and `wall` return seconds.
    """

    def __init__(
        self,
        redis: Redis,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._monotonic = monotonic
        self._ahead = wall() - monotonic()
        self._is_anchored = False

    def now(self) -> float:
        """See the port."""
        return self._monotonic() + self._ahead

    async def sleep_until(self, when: float) -> None:
        """See the port. Whoever sleeps when the clock is corrected wakes by the corrected time, or is up already."""
        while (left := when - self.now()) > 0:  # noqa: ASYNC110 - there is no event: time is what is waited for
            await asyncio.sleep(min(max(left, _LEAST_S), EVERY_S))

    async def anchor(self) -> None:
        """Look at Redis' clock. Raise `StoreUnavailable`.

        Redis read it at some time between our question and its answer. Within these bounds our own count is as good as
        its word and stands; else it is moved as little as makes it fit.
        """
        asked = self._monotonic()
        with mapped():
            seconds, micros = await self._redis.time()
        answered, told = self._monotonic(), int(seconds) + int(micros) / 1e6
        least, most = told - answered, told - asked
        fits = (least + most) / 2 if not self._is_anchored else min(max(self._ahead, least), most)
        if abs(fits - self._ahead) > _STEP_S:
            _log.warning("clock.moved", seconds=round(fits - self._ahead, 3), at_start=not self._is_anchored)
        self._ahead, self._is_anchored = fits, True

    async def keep(self) -> None:
        """Follow Redis' clock for ever."""
        while True:
            await asyncio.sleep(EVERY_S if self._is_anchored else _AGAIN_S)
            try:
                await self.anchor()
            except StoreUnavailable as exc:
                _log.info("clock.not_anchored", error=str(exc))
            except Exception:  # noqa: BLE001 - nobody starts this loop again
                _log.exception("clock.defect")
