"""Whether an attempt may be made, and what its end says of the model and the account (OPS-11, CHAT-09).

A store that is away stops nobody: the provider is asked as if every circuit were closed.
"""

import structlog

from api_contracts.failure import Failure
from workers.core.circuit import refusal, scope_of
from workers.ports import Breakers, Clock, KeysDamaged, Pass, ProviderFailed, StoreUnavailable

_log = structlog.get_logger(__name__)


class Circuits:
    """What the performers of chats ask before and tell after each attempt."""

    def __init__(self, breakers: Breakers, clock: Clock) -> None:
        self._breakers = breakers
        self._clock = clock

    async def enter(self, account: str | None, model: str) -> Pass:
        """Return the pass of an attempt that may be made; raise `ProviderFailed` for one that may not."""
        try:
            told = await self._breakers.enter(account, model)
        except (StoreUnavailable, KeysDamaged) as exc:
            _log.warning("circuit.not_known", error=str(exc))
            return Pass()
        if told.refused is not None:
            raise ProviderFailed(refusal(told.refused, told.until - self._clock.now()))
        return told

    async def ended(self, entered: Pass, account: str | None, model: str, failure: Failure | None) -> None:
        """Tell how an attempt ended; one that was stopped tells nothing, and a probe that was is given up in time."""
        scope = scope_of(failure) if failure else None
        try:
            if scope is not None:
                await self._breakers.failed(account, model, scope)
            elif not entered.clean and (failure is None or entered.probe):
                await self._breakers.worked(account, model)
        except (StoreUnavailable, KeysDamaged) as exc:
            _log.warning("circuit.not_told", error=str(exc))
