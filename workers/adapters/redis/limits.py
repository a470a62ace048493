"""`Limiter` on Redis: a hash for each account and for each of its models, moved by one script on Redis' own clock."""

from typing import Final

from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.scripts import ScriptCall
from workers.adapters.redis.connection import mapped
from workers.adapters.redis.scripts import LIMITS, run
from workers.core.limits import meters
from workers.core.limits.meters import NOTHING, Amounts, Fixed, Lane, Told, Word

_SHARES: Final = (meters.FILL, meters.BURST, meters.KEPT, meters.SHORT, meters.AMPLE, meters.LEAST)
_TIMES: Final = (meters.HOLD_S, meters.AGED_S, meters.BOUND_S, meters.CUT_S, meters.RAMP_S, meters.LASTS_S)
_RULES: Final = (*map(repr, _SHARES), *(str(round(seconds * 1000)) for seconds in _TIMES))


class RedisLimiter:
    """See the port."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def ask(self, account: str | None, model: str, lane: Lane, cost: Amounts, word: Word, fixed: Fixed) -> Told:
        """See the port."""
        granted, wait_ms = await self._run(account, model, lane, cost, word, fixed)
        return Told(bool(granted), wait_ms / 1000)

    async def hear(self, account: str | None, model: str, word: Word, fixed: Fixed) -> None:
        """See the port."""
        await self._run(account, model, "", NOTHING, word, fixed)

    async def _run(
        self, account: str | None, model: str, lane: str, cost: Amounts, word: Word, fixed: Fixed
    ) -> tuple[int, int]:
        limits = (each.limit if each else None for each in word.stated)
        left = (each.left if each else None for each in word.stated)
        figures = (*cost, *word.back, *limits, *left, *fixed)
        args = (lane, str(int(word.refused)), *("" if each is None else repr(float(each)) for each in figures), *_RULES)
        with mapped():
            granted, wait_ms = await run(
                self._redis, ScriptCall(LIMITS, (keys.limits(account), keys.limits(account, model)), args)
            )
        return granted, wait_ms
