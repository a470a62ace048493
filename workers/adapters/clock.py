"""The system's clock: for pauses, and for nothing that is held against what another process wrote (`RedisClock`)."""

import asyncio
import time


class SystemClock:
    """`Clock` on the machine's wall clock; waiting is monotonic from the moment it begins."""

    def now(self) -> float:
        """See the port."""
        return time.time()

    async def sleep_until(self, when: float) -> None:
        """See the port."""
        await asyncio.sleep(max(0.0, when - time.time()))
