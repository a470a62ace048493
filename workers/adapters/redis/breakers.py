"""`Breakers` on Redis: a hash for each circuit, moved by scripts on Redis' own clock."""

from typing import Final

from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.scripts import ScriptCall
from workers.adapters.redis.connection import mapped
from workers.adapters.redis.scripts import BREAKER_ENTER, BREAKER_FAILED, run
from workers.core.circuit import MEMORY_S, POLICIES, PROBE_S, Scope
from workers.ports import Pass

_REFUSED: Final[dict[int, Scope]] = {3: "account", 4: "model"}


class RedisBreakers:
    """See the port."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def enter(self, account: str | None, model: str) -> Pass:
        """See the port."""
        call = ScriptCall(BREAKER_ENTER, _both(account, model), (_ms(PROBE_S),))
        with mapped():
            said, until = await run(self._redis, call)
        if refused := _REFUSED.get(said):
            return Pass(refused=refused, until=until / 1000, clean=False)
        return Pass(probe=said == 2, clean=said == 0)

    async def worked(self, account: str | None, model: str) -> None:
        """See the port."""
        with mapped():
            await self._redis.delete(*_both(account, model))

    async def failed(self, account: str | None, model: str, scope: Scope) -> None:
        """See the port."""
        policy, key = POLICIES[scope], keys.breaker(account, None if scope == "account" else model)
        args = (policy.failures, _ms(policy.first_s), _ms(policy.longest_s), _ms(MEMORY_S))
        with mapped():
            await run(self._redis, ScriptCall(BREAKER_FAILED, (key,), args))


def _both(account: str | None, model: str) -> tuple[str, str]:
    return keys.breaker(account), keys.breaker(account, model)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
