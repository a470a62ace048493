"""`Budgets` on Redis: a hash for each book, moved by scripts on Redis' own clock."""

from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.scripts import ScriptCall
from workers.adapters.redis.connection import mapped
from workers.adapters.redis.scripts import BUDGET_RESERVE, BUDGET_SETTLE, run
from workers.core.limits.budgets import AGAIN_S, Purse, Told

_AGAIN_MS: Final = str(round(AGAIN_S * 1000))


class RedisBudgets:
    """See the port."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def reserve(self, purses: Sequence[Purse], reservation: str, amount: int) -> Told:
        """See the port."""
        each = (str(figure) for purse in purses for figure in (purse.limit, purse.window_s * 1000))
        call = ScriptCall(BUDGET_RESERVE, _books(purses), (reservation, str(amount), _AGAIN_MS, *each))
        with mapped():
            granted, wait_ms, by = await run(self._redis, call)
        return Told(bool(granted), wait_ms / 1000, by)

    async def settle(self, purses: Sequence[Purse], reservation: str, amount: int) -> None:
        """See the port."""
        windows = (str(purse.window_s * 1000) for purse in purses)
        with mapped():
            await run(self._redis, ScriptCall(BUDGET_SETTLE, _books(purses), (reservation, str(amount), *windows)))


def _books(purses: Sequence[Purse]) -> tuple[str, ...]:
    return tuple(keys.budget(purse.name, purse.values) for purse in purses)
