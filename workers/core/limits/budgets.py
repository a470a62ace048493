"""What tenants and labels may spend, as the fleet keeps it: a book for each budget and the values that share it. Pure.

    reserve   before an attempt, the most that it can cost: only if what is settled, what stands reserved and this stay
              within the limit of every budget that the run is under; else nothing is taken from any of them
    settle    after it, what it did cost; the rest of what was reserved is free again

So those who reserve at once cannot spend more than the limit together. A reservation has an id, and is made and settled
once however often it is asked for. One that nobody settles, because its worker died, stays spent until the window ends.
Windows lie end to end since 1970; an attempt counts in that in which it was reserved.

Money is whole billionths of the currency (`to_units`): exact up to a million of it in a script's numbers, too.
`adapters/redis/budget_reserve.lua` and `budget_settle.lua` say the same for the fleet; tests/contract/test_budgets.py
holds both to one suite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Final, NamedTuple

from api_contracts.failure import Failure
from api_contracts.metering import Budget

AGAIN_S: Final = 15.0
"""What is refused for the sake of open reservations may be asked again after so long, as some of it may be given back;
later where nothing moved for longer, which is what the dead leave behind."""
LOOK_S: Final = 3600.0
"""Who waits for the end of a window looks so often: an operator may have raised the limit."""

AWAY_S: Final = 5.0
"""Books that could not be read are asked for again after so long."""

OVER_BUDGET: Final = "over_budget"
NOT_KNOWN: Final = "budget_not_known"
WAITS: Final = frozenset({OVER_BUDGET, NOT_KNOWN})
"""`code` of an attempt that was not made, because its budget is spent or reserved, or cannot be read."""
_UNITS: Final = Decimal(10**9)
_TENANT: Final = "tenant"


class Purse(NamedTuple):
    """A budget as one run meets it: the operator's name for it, the values that share it, the limit in units."""

    name: str
    values: tuple[str, ...]
    limit: int
    window_s: int


class Told(NamedTuple):
    """What an asker is told. Not granted: nothing was taken, and he may ask again in `wait_s` seconds; `by` is the
    place of the purse that refused for longest."""

    granted: bool
    wait_s: float = 0.0
    by: int = 0


@dataclass(slots=True)
class Book:
    """What one purse's present window holds. Amounts are units, times seconds since 1970."""

    begins: float = float("-inf")
    settled: int = 0
    open: dict[str, int] = field(default_factory=dict)
    moved_at: float = 0.0

    def turn(self, window_s: int, now: float) -> None:
        """Begin anew if the window is over."""
        begins = now // window_s * window_s
        if begins != self.begins:
            self.begins, self.settled, self.open, self.moved_at = begins, 0, {}, now

    def wait(self, purse: Purse, reservation: str, amount: int, now: float) -> float:
        """Return 0 if the amount fits, or is reserved already, else after how long to ask again."""
        if reservation in self.open or self.settled + sum(self.open.values()) + amount <= purse.limit:
            return 0.0
        left = self.begins + purse.window_s - now
        return left if self.settled + amount > purse.limit else min(left, max(AGAIN_S, now - self.moved_at))


def reserve(books: Sequence[Book], purses: Sequence[Purse], reservation: str, amount: int, now: float) -> Told:
    """Reserve in all books, or in none. `books` are those of `purses`."""
    for book, purse in zip(books, purses, strict=True):
        book.turn(purse.window_s, now)
    waits = [book.wait(purse, reservation, amount, now) for book, purse in zip(books, purses, strict=True)]
    if longest := max(waits):
        return Told(granted=False, wait_s=longest, by=waits.index(longest))
    for book in books:
        if reservation not in book.open:
            book.open[reservation], book.moved_at = amount, now
    return Told(granted=True)


def settle(books: Sequence[Book], purses: Sequence[Purse], reservation: str, amount: int, now: float) -> None:
    """Put what an attempt did cost in the place of what was reserved for it, where it still is."""
    for book, purse in zip(books, purses, strict=True):
        book.turn(purse.window_s, now)
        if book.open.pop(reservation, None) is not None:
            book.settled, book.moved_at = book.settled + amount, now


def purses_of(budgets: Mapping[str, Budget], tenant: str, labels: Mapping[str, str]) -> list[Purse]:
    """Return the purses that a run draws on, by its tenant and labels."""
    given = {**labels, _TENANT: tenant}
    return [
        Purse(name, tuple(given[label] for label in budget.by), to_units(budget.limit), budget.window_s)
        for name, budget in budgets.items()
        if all(label in given for label in budget.by) and budget.only.items() <= given.items()
    ]


def to_units(amount: Decimal) -> int:
    """Return whole billionths, rounded up."""
    return int((amount * _UNITS).to_integral_value(ROUND_CEILING))


def over_budget(name: str, wait_s: float) -> Failure:
    """Return the failure of an attempt that has to wait for its budget."""
    return Failure(
        code=OVER_BUDGET,
        category="rate_limit",
        message=f"the budget {name!r} has too little left for this request: it waits for the next window"[:300],
        retryable=True,
        at_fault="us",
        retry_after_s=max(0.0, min(wait_s, LOOK_S)),
    )


def not_known() -> Failure:
    """Return the failure of an attempt that was not made because the books cannot be read."""
    return Failure(
        code=NOT_KNOWN,
        category="overloaded",
        message="what is left of the budget is not known, because Redis does not answer: the request waits",
        retryable=True,
        at_fault="us",
        retry_after_s=AWAY_S,
    )


def too_small(name: str) -> Failure:
    """Return the failure of an attempt that no window of a budget has room for."""
    return Failure(
        code="budget_too_small",
        category="limit",
        message=f"the request may cost more than the whole budget {name!r}: lower its max_tokens"[:300],
        at_fault="caller",
    )


def unbounded() -> Failure:
    """Return the failure of a request under a budget that holds what may have any number of tokens."""
    return Failure(
        code="cost_unbounded",
        category="limit",
        message="the request is under a budget, and nobody knows how many tokens its video or sound has at most",
        at_fault="caller",
    )


def unpriced(model: str) -> Failure:
    """Return the failure of a request whose cost is bounded, for a model whose price is not known."""
    return Failure(
        code="price_unknown",
        category="limit",
        message=f"what {model!r} costs in this service tier is not known (FW_PRICES), and a budget or the request's"
        " limits.spend bounds the cost: it is not asked"[:1000],
        at_fault="us",
    )
