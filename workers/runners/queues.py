"""What waits in the queues, looked at now and then for whoever asks at any time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import structlog

from workers.ports import Clock, Queues, StoreUnavailable, Waiting

_log = structlog.get_logger(__name__)

EVERY_S: Final = 5.0
_STALE_S: Final = 3 * EVERY_S


class QueueWatch:
    """Looks every 5 s. In between what waits grows older by itself; what could not be looked at is not told."""

    def __init__(self, queues: Queues, clock: Clock, ago: Callable[[], float] = time.monotonic) -> None:
        self._queues = queues
        self._clock = clock
        self._ago = ago
        self._found: tuple[float, Mapping[str, Waiting]] | None = None

    async def keep(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as exc:
                _log.warning("queues.unknown", error=str(exc))
            except Exception:  # noqa: BLE001 - nobody starts this loop again
                _log.exception("queues.defect")
            await self._clock.sleep_until(self._clock.now() + EVERY_S)

    async def look(self) -> None:
        """Look once. Raise `StoreUnavailable`."""
        self._found = (self._ago(), await self._queues.waiting())

    def __call__(self) -> Mapping[str, Waiting]:
        """Return what waits, by queue; nothing when that has not been known for 15 s. From any thread."""
        if self._found is None:
            return {}
        at, waiting = self._found
        since = self._ago() - at
        if since > _STALE_S:
            return {}
        return {
            queue: replace(one, oldest_s=one.oldest_s + since) if one.runs else one for queue, one in waiting.items()
        }
