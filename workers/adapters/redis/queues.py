"""`Queues` on Redis: what waits is read from the journals' own sets, not from a broker: a lost message counts too."""

from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.scripts import ScriptCall
from api_contracts.names import QUEUES
from workers.adapters.redis.connection import mapped
from workers.adapters.redis.scripts import SETTLE, WAITING, run_all
from workers.ports import Waiting

_PASSES: Final = 8
"""Each strikes off one run of each slot and queue, so that nothing false stays on top for long."""


class RedisQueues:
    """Reads all slots in one pipeline: 62 scripts of a few microseconds each, however many runs wait."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def waiting(self) -> Mapping[str, Waiting]:
        """See the port."""
        with mapped():
            for _ in range(_PASSES):
                slots = [_Slot(slot, reply) for slot, reply in await self._read()]
                if not await self._settle(slots):
                    break
        return {queue: _joined([slot.of[queue] for slot in slots]) for queue in QUEUES}

    async def _read(self) -> list[tuple[str, list[Any]]]:
        calls = [ScriptCall(WAITING, tuple(keys.waiting(slot, queue) for queue in QUEUES), ()) for slot in keys.SLOTS]
        replies = await run_all(self._redis, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return list(zip(keys.SLOTS, replies, strict=True))

    async def _settle(self, slots: list["_Slot"]) -> bool:
        """Strike off those on top that wait no more; return whether there were any."""
        calls = [
            ScriptCall(SETTLE, (keys.lease(run_id), keys.waiting(slot.slot, queue)), (run_id,))
            for slot in slots
            for queue, run_id in slot.oldest.items()
        ]
        replies = await run_all(self._redis, calls) if calls else []
        return any(reply == 1 for reply in replies)


class _Slot:
    """What one slot's reply says."""

    def __init__(self, slot: str, reply: list[Any]) -> None:
        self.slot = slot
        self.of: dict[str, Waiting] = {}
        self.oldest: dict[str, str] = {}
        now = int(reply[0])
        for place, queue in enumerate(QUEUES):
            number, run_id, since = reply[1 + 3 * place : 4 + 3 * place]
            self.of[queue] = Waiting(int(number), max(0.0, (now - float(since)) / 1000) if since else 0.0)
            if run_id:
                self.oldest[queue] = run_id.decode()


def _joined(parts: list[Waiting]) -> Waiting:
    return Waiting(sum(part.runs for part in parts), max(part.oldest_s for part in parts))
