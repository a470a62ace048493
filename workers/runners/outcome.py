"""What running a message came to. Values; whoever speaks Celery translates them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api_contracts.failure import Failure
from api_contracts.runs import EventData, Status
from workers.ports import Lease


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over and stored; its callbacks are to be called. `result` is the whole result object."""

    status: Status
    result: Mapping[str, Any]
    failure: Failure | None = None
    epoch: int | None = field(default=None, compare=False)
    """Of the life that ended it; None where no journal says so."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nothing to do for this message: a duplicate, a conflict, or the run went elsewhere.

    `truth` is the run's last event where whoever watches Celery's events would take the message for a new life.
    """

    reason: str
    truth: EventData | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The store of runs cannot be reached: the message must come again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """The run waits without a worker, for the time `until` or a letter after `seen`. Celery is told first, then the
    lease is let go of (`Reception.park`): the next life could otherwise end before this one is known to wait."""

    lease: Lease
    why: str
    until: float | None
    seen: str


Outcome = Ended | Dropped | Unreachable | Parked
