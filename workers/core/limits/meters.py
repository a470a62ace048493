"""The provider's meters as the fleet keeps them: requests of an account, and three of tokens for each of its models.

Each meter is a bucket that may go into debt: whoever finds it at zero or above may start, and pays in full at once. So
a large request waits no longer than a small one, and what is taken is given back by time alone: nothing leaks when a
worker dies. Of a limit, `FILL` flows back in a minute and `BURST` is the size of the bucket, which leaves a twelfth for
the last debt of a minute.

    a minute's starts <= limit * (FILL + BURST) + the last one <= limit, where no request takes over a twelfth of it

A meter binds if an operator set its limit. One that was learned from headers binds only while the provider says that it
runs short, since the unit of its figures differs between documents (WIRE 5.2): a share of a limit has no unit.

After a 429 the model's meters bind, and its share of its limits is halved and ramps up again.

Interactive requests may start up to `HOLD_S` ahead, in the order in which they asked. Background ones leave them half
of the bucket; but once none was let through for `AGED_S`, one is, whatever the level.

`adapters/redis/limits.lua` says the same for the fleet; tests/contract/test_limits.py holds both to one suite.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Lane = Literal["interactive", "background"]

METERS: Final = ("requests", "prompt", "uncached", "generated")
"""What is counted (WIRE 5.1). Requests are the account's, tokens the model's; `uncached` is the prompt without what the
provider had in its cache."""

FILL: Final = 0.75
"""What flows back in a minute, as a share of the limit: over the half at which the provider raises it (WIRE 5.1)."""
BURST: Final = 1 / 6
"""What can be taken at once, as a share of the limit."""
KEPT: Final = 0.5
"""What background leaves to interactive requests, as a share of the bucket."""
HOLD_S: Final = 5.0
"""How far ahead an interactive request may be let in: what waits longer parks (FEAT D3)."""
AGED_S: Final = 60.0
"""Background is let through at least so often."""
BOUND_S: Final = 60.0
"""A learned meter binds so long after the provider last said that it runs short: its windows are minutes."""
SHORT: Final = 0.5
AMPLE: Final = 0.75
"""Below the first share of its limit a meter runs short; from the second on it does no more."""
LEAST: Final = 1 / 16
"""The smallest share of its limits that refusals leave to a model."""
CUT_S: Final = 2.0
"""Refusals closer together than this are of one wave, and halve the share once."""
RAMP_S: Final = 120.0
"""A share of nothing would be whole again after so long."""
LASTS_S: Final = 3600.0
"""What nobody asked for so long is forgotten: its buckets are full, and the next answer tells its limits."""


class Amounts(NamedTuple):
    """What a request takes of each meter."""

    requests: float = 0.0
    prompt: float = 0.0
    uncached: float = 0.0
    generated: float = 0.0

    def plus(self, other: "Amounts") -> "Amounts":
        """Return both together."""
        return Amounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def less(self, other: "Amounts") -> "Amounts":
        """Return this without the other: below zero where the other is more."""
        return Amounts(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


NOTHING: Final = Amounts()


class Stated(NamedTuple):
    """One meter in the provider's words: its limit, and the share of it that is left (0 to 1, None: not said)."""

    limit: float
    left: float | None = None


NOT_STATED: Final[tuple[Stated | None, ...]] = (None,) * len(METERS)


class Word(NamedTuple):
    """What answers told since: `back` was charged and not used (below zero: the other way round), `stated` is the
    newest word on each meter, `refused`: the provider said 429.
    """

    back: Amounts = NOTHING
    stated: tuple[Stated | None, ...] = NOT_STATED
    refused: bool = False

    @property
    def is_urgent(self) -> bool:
        """Whether others have to know at once."""
        return self.refused or any(each is not None and _is_short(each) for each in self.stated)

    def then(self, later: "Word") -> "Word":
        """Return this word and a later one as one."""
        newest = tuple(new or old for old, new in zip(self.stated, later.stated, strict=True))
        return Word(self.back.plus(later.back), newest, self.refused or later.refused)


class Told(NamedTuple):
    """What an asker is told: start in `wait_s` seconds, or nothing was taken and he may ask again then."""

    granted: bool
    wait_s: float = 0.0


Fixed = tuple[float | None, ...]
"""An operator's limits a minute, in the order of METERS; None: learned from headers."""
LEARNED: Final[Fixed] = (None,) * len(METERS)


@dataclass(slots=True)
class Meter:
    """One bucket. Times are seconds since 1970. `level` is what is left of it, below zero a debt."""

    limit: float | None = None
    level: float = 0.0
    at: float = 0.0
    bound_until: float = 0.0

    def flow(self, limit: float | None, share: float, now: float) -> None:
        """Let time pass, under the limit as it is known now."""
        if limit is None:
            return
        cap = limit * BURST * share
        self.level = cap if self.limit is None else self.level + max(0.0, now - self.at) * _rate(limit, share)
        self.limit, self.at, self.level = limit, now, min(self.level, cap)

    def hear(self, stated: Stated, share: float, now: float) -> None:
        """Take the provider's word on a meter that flowed till now."""
        if self.limit is None or stated.left is None:
            return
        if _is_short(stated):
            self.bound_until = now + BOUND_S
            self.level = min(self.level, self.limit * BURST * share * stated.left)
        elif stated.left >= AMPLE:
            self.bound_until = 0.0


@dataclass(slots=True)
class ModelMeters:
    """The meters of one model of an account. The first is the account's own, shared by its models."""

    meters: list[Meter]
    share: float = 1.0
    share_at: float = 0.0
    cut_at: float = float("-inf")
    waits_since: float | None = None
    """Since when background is refused."""
    fixed: Fixed = field(default=LEARNED)

    @classmethod
    def of(cls, requests: Meter, fixed: Fixed = LEARNED) -> "ModelMeters":
        """Return those of a model that nobody has asked yet."""
        return cls([requests, *(Meter() for _ in METERS[1:])], fixed=fixed)

    def hear(self, word: Word, now: float) -> None:
        """Take what answers told. The share comes first: what is left is a share of what it leaves."""
        self.share = min(1.0, self.share + max(0.0, now - self.share_at) / RAMP_S)
        self.share_at = now
        if word.refused and now >= self.cut_at + CUT_S:
            self.share, self.cut_at = max(LEAST, self.share / 2), now
        for place, (meter, stated) in enumerate(zip(self.meters, word.stated, strict=True)):
            limit = self.fixed[place] or (stated.limit if stated else meter.limit)
            meter.flow(limit, self._share_of(place), now)
            if meter.limit is None:
                continue
            meter.level = min(meter.level + word.back[place], meter.limit * BURST * self._share_of(place))
            if stated:
                meter.hear(stated, self._share_of(place), now)
            if word.refused and place:
                meter.level, meter.bound_until = min(meter.level, 0.0), now + BOUND_S
            self._forgive(place, now)

    def ask(self, lane: Lane, cost: Amounts, now: float) -> Told:
        """Let a request in, or say when to ask again. `hear` first, if only an empty word."""
        aged = lane == "background" and self.waits_since is not None and now >= self.waits_since + AGED_S
        kept = KEPT if lane == "background" else 0.0
        wait = 0.0 if aged else max(self._wait(place, kept, now) for place in range(len(METERS)))
        if wait > (0.0 if lane == "background" else HOLD_S):
            if lane == "background" and self.waits_since is None:
                self.waits_since = now
            return Told(granted=False, wait_s=wait)
        if lane == "background":
            self.waits_since = None
        for place, meter in enumerate(self.meters):
            if meter.limit is not None:
                meter.level -= cost[place]
                self._forgive(place, now)
        return Told(granted=True, wait_s=wait)

    def _share_of(self, place: int) -> float:
        return self.share if place else 1.0

    def _binds(self, place: int, now: float) -> bool:
        return self.fixed[place] is not None or now < self.meters[place].bound_until

    def _wait(self, place: int, kept: float, now: float) -> float:
        meter = self.meters[place]
        if meter.limit is None or not self._binds(place, now):
            return 0.0
        share = self._share_of(place)
        return max(0.0, (kept * meter.limit * BURST * share - meter.level) / _rate(meter.limit, share))

    def _forgive(self, place: int, now: float) -> None:
        """Have no debts where nothing binds: nobody waited for them."""
        if not self._binds(place, now):
            self.meters[place].level = max(0.0, self.meters[place].level)


def _rate(limit: float, share: float) -> float:
    return limit * FILL * share / 60.0


def _is_short(stated: Stated) -> bool:
    return stated.left is not None and stated.left < SHORT
