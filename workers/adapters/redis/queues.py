"""`Queues` on Redis: what waits is read from the journals' own sets, not from a broker: a lost message counts too."""

import math
from collections.abc import Mapping
from typing import Any, Final

import structlog
from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.damage import is_damage
from api_contracts.client.scripts import ScriptCall
from api_contracts.names import QUEUES
from workers.adapters.redis.connection import mapped
from workers.adapters.redis.scripts import SETTLE, WAITING, run_all
from workers.ports import Waiting

_log = structlog.get_logger(__name__)

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
        for slot, reply in zip(keys.SLOTS, replies, strict=True):
            if isinstance(reply, Exception):
                if not is_damage(reply):
                    raise reply
                await self._throw_away(slot)
        slots = zip(keys.SLOTS, replies, strict=True)
        return [(slot, reply) for slot, reply in slots if not isinstance(reply, Exception)]

    async def _throw_away(self, slot: str) -> None:
        """Delete those of a slot's sets that a stranger made something else of: nobody could wait in them."""
        for queue in QUEUES:
            key = keys.waiting(slot, queue)
            if await self._redis.type(key) not in (b"zset", b"none"):
                await self._redis.delete(key)
                _log.error("index.damaged", key=key)

    async def _settle(self, slots: list["_Slot"]) -> bool:
        """Strike off those on top that wait no more; return whether there were any."""
        calls, strangers = list[ScriptCall](), 0
        for slot in slots:
            for queue, member in slot.oldest.items():
                run_id, waiting = member.decode(errors="replace"), keys.waiting(slot.slot, queue)
                if keys.RUN_ID.fullmatch(run_id) and run_id[-1] == slot.slot:
                    calls.append(ScriptCall(SETTLE, (keys.lease(run_id), waiting), (run_id,)))
                else:
                    strangers += await self._redis.zrem(waiting, member)
        replies = await run_all(self._redis, calls) if calls else []
        return strangers > 0 or any(reply == 1 for reply in replies)


class _Slot:
    """What one slot's reply says."""

    def __init__(self, slot: str, reply: list[Any]) -> None:
        self.slot = slot
        self.of: dict[str, Waiting] = {}
        self.oldest: dict[str, bytes] = {}
        now = int(reply[0])
        for place, queue in enumerate(QUEUES):
            number, run_id, since = reply[1 + 3 * place : 4 + 3 * place]
            self.of[queue] = Waiting(int(number), _waited_s(now, float(since)) if since else 0.0)
            if since:
                self.oldest[queue] = run_id


def _waited_s(now: int, since: float) -> float:
    return max(0.0, (now - since) / 1000) if math.isfinite(since) else 0.0


def _joined(parts: list[Waiting]) -> Waiting:
    return Waiting(sum(part.runs for part in parts), max((part.oldest_s for part in parts), default=0.0))
