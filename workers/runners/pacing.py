"""When the provider may be asked, so that the fleet keeps within its limits (OPS-10).

One round trip for each attempt: what answers told travels with the next question about the same model, and alone only
when others have to know at once. A store that is away stops nobody: the provider then keeps its limits itself.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from api_contracts.failure import Failure
from workers.core.chat.assembler import Answer
from workers.core.chat.body import chars_of
from workers.core.circuit import is_refusal
from workers.core.limits.costs import Average, held_back
from workers.core.limits.meters import HOLD_S, LEARNED, NOTHING, Amounts, Fixed, Lane, Word
from workers.ports import Clock, KeysDamaged, Limiter, ProviderFailed, StoreUnavailable

_log = structlog.get_logger(__name__)

_MOST_MODELS: Final = 1_000
"""Of so many models of accounts a process remembers how long their answers are; the rest is learned again."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an attempt was let in for. `cost` is what it paid."""

    account: str | None
    model: str
    chars: int = 0
    choices: int = 1
    cost: Amounts = NOTHING


@dataclass(slots=True)
class _Known:
    average: Average = field(default_factory=Average)
    untold: Word = field(default_factory=Word)


class Pacer:
    """What the performers of chats ask before and tell after each attempt. `fixed` are the operator's limits."""

    def __init__(self, limiter: Limiter, clock: Clock, fixed: Fixed = LEARNED) -> None:
        self._limiter = limiter
        self._clock = clock
        self._fixed = fixed
        self._known: OrderedDict[tuple[str | None, str], _Known] = OrderedDict()

    async def enter(self, account: str | None, body: Mapping[str, Any], lane: Lane) -> Ticket:
        """Return when the attempt may be made; raise `ProviderFailed` for one that would have to wait over 5 s."""
        model, chars = str(body["model"]), chars_of(body["messages"])
        if is_dedicated(model):
            return Ticket(account, model)
        known = self._of(account, model)
        ticket = Ticket(account, model, chars, body.get("n") or 1, known.average.of(chars, body))
        until = self._clock.now() + HOLD_S
        while True:
            word, known.untold = known.untold, Word()
            try:
                told = await self._limiter.ask(account, model, lane, ticket.cost, word, self._fixed)
            except (StoreUnavailable, KeysDamaged) as exc:
                _log.warning("limiter.not_known", error=str(exc))
                return Ticket(account, model, chars, ticket.choices)
            when = self._clock.now() + told.wait_s
            if not told.granted and when > until:
                raise ProviderFailed(held_back(told.wait_s))
            await self._clock.sleep_until(when)
            if told.granted:
                return ticket

    def heard(self, account: str | None, model: str, word: Word) -> None:
        """Take what the head of an answer said."""
        if not is_dedicated(model):
            known = self._of(account, model)
            known.untold = known.untold.then(word)

    async def ended(self, ticket: Ticket, verdict: Answer | Failure) -> None:
        """Tell what the attempt took. Of one that was stopped nothing is told: time gives back what it paid."""
        known = self._of(ticket.account, ticket.model)
        if ticket.cost != NOTHING:
            known.untold = known.untold.then(Word(back=self._back(ticket, verdict, known.average)))
        if known.untold.is_urgent:
            word, known.untold = known.untold, Word()
            try:
                await self._limiter.hear(ticket.account, ticket.model, word, self._fixed)
            except (StoreUnavailable, KeysDamaged) as exc:
                _log.warning("limiter.not_told", error=str(exc))

    @staticmethod
    def _back(ticket: Ticket, verdict: Answer | Failure, average: Average) -> Amounts:
        if isinstance(verdict, Answer):
            return ticket.cost.less(average.learn(ticket.chars, ticket.choices, verdict.usage))
        if is_refusal(verdict):
            return ticket.cost
        if verdict.provider_status is not None:
            return ticket.cost._replace(requests=0.0)  # it was refused: no token was read or written
        return NOTHING

    def _of(self, account: str | None, model: str) -> _Known:
        known = self._known.setdefault((account, model), _Known())
        self._known.move_to_end((account, model))
        if len(self._known) > _MOST_MODELS:
            self._known.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True)
class Pace:
    """The pacer as one run sees it."""

    pacer: Pacer
    lane: Lane = "interactive"

    async def enter(self, account: str | None, body: Mapping[str, Any]) -> Ticket:
        """See `Pacer`."""
        return await self.pacer.enter(account, body, self.lane)

    async def ended(self, ticket: Ticket, verdict: Answer | Failure) -> None:
        """See `Pacer`."""
        await self.pacer.ended(ticket, verdict)


def is_dedicated(model: str) -> bool:
    """Whether the model has a deployment of its own: those have no such limits (WIRE 5.1)."""
    return "/deployments/" in model or "#" in model
