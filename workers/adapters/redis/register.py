"""`LiveRuns` on Redis: the due indexes say which runs live, their leases how they stand.

No command looks at more than a page, however many there are.
"""

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.damage import is_damage
from api_contracts.runs import TERMINAL, Event, RunParked, Status, kind_of
from workers.adapters.redis.connection import mapped
from workers.ports.register import MOST_LETTERS, Found, RunLine, Standing, Wanted

_ROUND: Final = 200
"""Runs a round: their first events, with requests of up to 64 KB, are read together."""

_FIELDS: Final = ("epoch", "owner", "until", "seq", "status", "parked", "deaths", "announced")
_STATUSES: Final[dict[bytes, Status]] = {status.encode(): status for status in TERMINAL.values()}


class RedisRegister:
    """See the port."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def live(self, wanted: Wanted, limit: int, most: int) -> Found:
        """See the port. Goes through all slots side by side, so that no run is last by its name."""
        found: dict[str, RunLine] = {}
        with mapped():
            left = {slot: total for slot, total in await self._totals() if total}
            total, looked, start = sum(left.values()), 0, 0
            while left and len(found) < limit and looked < most:
                left = dict(list(left.items())[: most - looked])
                size = max(1, min(_ROUND, most - looked) // len(left))
                pages = await self._pages(list(left), start, size)
                ids = [run_id for page in pages.values() for run_id in page]
                looked, start = looked + len(ids), start + size
                found |= {line.run_id: line for line in await self._lines(ids, wanted)}
                left = {slot: count for slot, count in left.items() if len(pages[slot]) == size}
        newest = sorted(found.values(), key=lambda line: (-line.queued_at, line.run_id))
        return Found(newest[:limit], min(looked, total), total)

    async def standing(self, run_id: str) -> RunLine | None:
        """See the port."""
        with mapped():
            lines = await self._lines([keys.check_run_id(run_id)], None)
        return lines[0] if lines else None

    async def reopened(self, run_ids: Sequence[str]) -> set[str]:
        """See the port."""
        with mapped():
            pipe = self._redis.pipeline(transaction=False)
            for run_id in run_ids:
                pipe.hmget(keys.lease(run_id), "seq", "status")
            replies = [reply or (None, None) for reply in await _answered(pipe)]
        return {run_id for run_id, (seq, status) in zip(run_ids, replies, strict=True) if seq and not status}

    async def letters(self, run_id: str, after: str) -> int:
        """See the port."""
        with mapped():
            found = await self._redis.xrange(keys.inbox(run_id), min=f"({after}", count=MOST_LETTERS)
        return len(found or ())

    async def _totals(self) -> list[tuple[str, int]]:
        pipe = self._redis.pipeline(transaction=False)
        for slot in keys.SLOTS:
            pipe.zcard(keys.due(slot))
        return [(slot, total or 0) for slot, total in zip(keys.SLOTS, await _answered(pipe), strict=True)]

    async def _pages(self, slots: Sequence[str], start: int, size: int) -> dict[str, list[str]]:
        pipe = self._redis.pipeline(transaction=False)
        for slot in slots:
            pipe.zrange(keys.due(slot), start, start + size - 1)
        pages = zip(slots, await _answered(pipe), strict=True)
        return {slot: [each.decode(errors="replace") for each in page or ()] for slot, page in pages}

    async def _lines(self, run_ids: Sequence[str], wanted: Wanted | None) -> list[RunLine]:
        """Return how these stand; with `wanted`, only live ones that are asked for."""
        run_ids = [run_id for run_id in run_ids if keys.RUN_ID.fullmatch(run_id)]
        seconds, micros = await self._redis.time()
        now = int(seconds) + int(micros) / 1e6
        pipe = self._redis.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.hmget(keys.lease(run_id), *_FIELDS)
            pipe.zscore(keys.due(run_id[-1]), run_id)
        replies = await _answered(pipe)
        blank = (None,) * len(_FIELDS)
        leases = [_Lease(run_id, replies[2 * n] or blank, replies[2 * n + 1], now) for n, run_id in enumerate(run_ids)]
        chosen = [lease for lease in leases if lease.known and (wanted is None or lease.may_be(wanted))]
        for lease in chosen:
            pipe.xrange(keys.events(lease.run_id), count=1)
            pipe.xrevrange(keys.events(lease.run_id), count=1)
        journals = await _answered(pipe) if chosen else []
        lines = [lease.line(journals[2 * n], journals[2 * n + 1]) for n, lease in enumerate(chosen)]
        return [line for line in lines if wanted is None or wanted.fits(line, line.queued_at)]


async def _answered(pipe: Any) -> list[Any]:
    """Return the replies, None where a key is not what it should be: a stranger's hand was in it."""
    replies = await pipe.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not is_damage(reply):
            raise reply
    return [None if isinstance(reply, Exception) else reply for reply in replies]


class _Lease:
    """What a lease hash says at a moment."""

    def __init__(self, run_id: str, fields: Sequence[bytes | None], look: float | None, now: float) -> None:
        self.run_id = run_id
        epoch, owner, until, seq, status, parked, deaths, announced = fields
        self.known = seq is not None
        self._status = _STATUSES.get(status) if status else None
        self._lease_s = _number(until) / 1000 - now if owner and not status else None
        self._owner = (owner or b"").decode(errors="replace") if not status else ""
        self._look_s = None if look is None else look / 1000 - now
        self._numbers = _number(epoch), _number(deaths), _number(seq)
        self._parked = bool(parked)
        self._announced = announced == b"1"

    @property
    def standing(self) -> Standing:
        if self._status is not None:
            return self._status
        if self._lease_s is not None and self._lease_s > 0:
            return "running"
        return "parked" if self._parked else "queued"

    def may_be(self, wanted: Wanted) -> bool:
        return self._status is None and wanted.stands(self.standing)

    def line(self, first: Any, last: Any) -> RunLine:
        queued, latest = _event(first), _event(last)
        said = queued.data if queued else {}
        epoch, deaths, seq = self._numbers
        return RunLine(
            self.run_id, str(kind_of(said) or ""), self.standing, str(said.get("tenant", "default")),
            labels if isinstance(labels := said.get("labels"), dict) else {}, self._owner, self._lease_s, epoch, deaths,
            queued.at / 1000 if queued else 0.0, latest.at / 1000 if latest and latest.terminal else None,
            self._look_s, seq, latest.type if latest else "", latest.at / 1000 if latest else 0.0,
            _why(latest), self._announced, str(said.get("lane", "interactive")) if queued else None,
        )  # fmt: skip


def _event(entries: Any) -> Event | None:
    """Return the one event of a reply; None where a stranger wrote what is none."""
    return Event.from_entry(*entries[0]) if entries else None


def _number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _why(last: Event | None) -> str:
    if last is None:
        return ""
    if last.type == RunParked.TYPE:
        return str(last.data.get("why", ""))
    failure = last.data.get("failure") if last.terminal else None
    return str(failure.get("code", "")) if isinstance(failure, dict) else ""
