"""The register: which runs there are and how each stands, for an operator. Never content."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, get_args

from api_contracts.runs import Status

Standing = Literal["queued", "running", "parked"] | Status
"""`queued`: it waits for a worker, be it for the first time or because the last one is gone."""

STANDINGS: Final[tuple[Standing, ...]] = ("queued", "running", "parked", *get_args(Status))
LIVE: Final[frozenset[Standing]] = frozenset({"queued", "running", "parked"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs are asked for; what is empty or None asks for any.

    `since` (seconds since 1970): live runs that were submitted, finished ones that ended after it.
    """

    standings: Collection[Standing] = ()
    kind: str | None = None
    lane: str | None = None
    tenant: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None

    def stands(self, standing: Standing) -> bool:
        """Return whether runs that stand so are asked for."""
        return not self.standings or standing in self.standings

    def fits(self, line: "RunLine", at: float) -> bool:
        """Return whether a run is asked for. `at` is the time that `since` is held against."""
        return (
            self.stands(line.standing)
            and self.kind in (None, line.kind)
            and self.lane in (None, line.lane)
            and self.tenant in (None, line.tenant)
            and all(line.labels.get(name) == value for name, value in self.labels.items())
            and (self.since is None or at >= self.since)
        )


@dataclass(frozen=True, slots=True)
class RunLine:
    """How a run stands. Times are seconds since 1970, `_s` are seconds from now.

    `owner` holds the lease, or was lost with it: `lease_s` is how long the lease runs yet, negative: how long it is
    over. Each life has an `epoch`; `deaths` is how many owners in a row were lost. `look_s`: when somebody looks at it
    next; a parked run wakes then. `why`: why it is parked, or the code of its failure. `lane`: None where it is not
    known, as of a run that only SQL has.
    """

    run_id: str
    kind: str
    standing: Standing
    tenant: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    lease_s: float | None = None
    epoch: int = 0
    deaths: int = 0
    queued_at: float = 0.0
    ended_at: float | None = None
    look_s: float | None = None
    seq: int = 0
    last: str = ""
    last_at: float = 0.0
    why: str = ""
    announced: bool = False
    lane: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Live runs, newest first. `looked` of `total` entries were looked at before there were enough of them."""

    lines: Sequence[RunLine]
    looked: int
    total: int


class LiveRuns(Protocol):
    """Reads what the leases say, in bounded pages. Every call raises `StoreUnavailable`."""

    async def live(self, wanted: Wanted, limit: int, most: int) -> Found:
        """Return up to `limit` live runs; look at up to `most`."""
        ...

    async def standing(self, run_id: str) -> RunLine | None:
        """Return how one run stands, also one that is over; None when its lease is gone."""
        ...

    async def reopened(self, run_ids: Sequence[str]) -> set[str]:
        """Return those that live: SQL may still have the end from which a run was reopened."""
        ...

    async def letters(self, run_id: str, after: str) -> int:
        """Return how many letters wait in the inbox after id `after`; counts to a thousand."""
        ...


class FinishedRuns(Protocol):
    """Reads what the archive has. Raises `StoreUnavailable`."""

    async def finished(self, wanted: Wanted, limit: int) -> list[RunLine]:
        """Return up to `limit` finished runs, those that ended last first."""
        ...


MOST_LETTERS: Final = 1000
