"""Circuit breakers: who is not asked for a while because he failed too often, and the one probe that finds out whether
he has recovered (OPS-11). Pure: the rules; states are kept where every worker sees them (port `Breakers`).

    closed --failures in a row--> open --its time passes--> half open: one probe --it works--> closed
                                    ^---------------- it fails: open, for twice as long -------'
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from api_contracts.failure import Category, Failure

PROBE_S: Final = 60.0
"""A probe that has said nothing for so long is given up, and another one may go: its worker may have died."""
MEMORY_S: Final = 600.0
"""Failures further apart than this are not in a row."""

_CODE: Final = "provider_circuit_open"
_OF_THE_MODEL: Final[frozenset[Category]] = frozenset({"overloaded", "timeout", "transport", "protocol"})
_WAKES: Final = "provider_loading"

Scope = Literal["account", "model"]


class Policy(NamedTuple):
    """How many failures in a row open a circuit, and for how long (seconds): at first, and at most."""

    failures: int
    first_s: float
    longest_s: float


POLICIES: Final[dict[Scope, Policy]] = {"account": Policy(1, 60.0, 900.0), "model": Policy(5, 15.0, 300.0)}
"""An account that is suspended or out of credit (402, 412) stays so for a while, and each request shows it."""


@dataclass(slots=True)
class Circuit:
    """One circuit. Times are seconds since 1970; `opened` counts how often it opened without closing."""

    failures: int = 0
    opened: int = 0
    until: float = 0.0
    probe_until: float = 0.0
    last_at: float = 0.0

    def is_over(self, now: float) -> bool:
        """Whether all of it is so long ago that it counts no more."""
        return now >= max(self.until, self.last_at) + MEMORY_S

    def shut_until(self, now: float) -> float | None:
        """Return until when nobody may ask, None if somebody may."""
        shut = max(self.until, self.probe_until)
        return shut if shut > now else None

    def enter(self, now: float) -> bool:
        """Let somebody through who may ask; return whether he is the probe."""
        if not self.opened:
            return False
        self.probe_until = now + PROBE_S
        return True

    def failed(self, policy: Policy, now: float) -> None:
        """Count a failure of a circuit that is not over. One that began before it opened, and ends while it is open,
        changes nothing."""
        if now < self.until:
            return
        self.failures += 1
        self.last_at = now
        if self.opened or self.failures >= policy.failures:
            self.opened += 1
            self.until = now + min(policy.first_s * 2.0 ** (self.opened - 1), policy.longest_s)
            self.probe_until = 0.0


def scope_of(failure: Failure) -> Scope | None:
    """Return whose circuit a failure counts against; None for what says nothing about either.

    A rate limit is ours to keep, a deployment that wakes up wants to be asked, and what the caller did is his.
    """
    if failure.category == "account":
        return "account"
    if failure.at_fault != "provider" or failure.code == _WAKES:
        return None
    return "model" if failure.retryable and failure.category in _OF_THE_MODEL else None


def refusal(scope: Scope, wait_s: float) -> Failure:
    """Return the failure of an attempt that was not made, because the circuit is open for so long."""
    what = "the account at the provider" if scope == "account" else "this model"
    return Failure(
        code=_CODE,
        category="account" if scope == "account" else "overloaded",
        message=f"{what} has failed too often and is left alone for a while",
        retryable=True,
        at_fault="us" if scope == "account" else "provider",
        retry_after_s=max(0.0, wait_s),
    )


def is_refusal(failure: Failure) -> bool:
    """Whether an attempt was not made at all."""
    return failure.code == _CODE
