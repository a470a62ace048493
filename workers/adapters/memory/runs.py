"""`RunStore` and `Inbox` in memory, on the Clock port: what Redis does, in one process."""

import asyncio
import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from api_contracts.client.scripts import REQUEST_BLOB, RETRY_LETTER
from api_contracts.keys import check_run_id
from api_contracts.names import QUEUES, STT_QUEUE, queue_of
from api_contracts.runs import Event, EventData, RunQueued, Status, kind_of
from workers.core.runs.deadline import deadline_of
from workers.ports import (
    Asleep,
    Claimed,
    Clock,
    Finished,
    Granted,
    Held,
    KeysDamaged,
    Lease,
    LeaseLost,
    Letter,
    Missing,
    RetryReply,
    Waiting,
)
from workers.ports.register import MOST_LETTERS, Found, RunLine, Standing, Wanted
from workers.settings import Timing


@dataclass(slots=True)
class _Run:
    digest: str
    events: list[Event]
    queue: str
    epoch: int = 0
    owner: str = ""
    until: float = 0.0
    status: Status | None = None
    announced: bool = False
    signature: str | None = None
    looks: int = 0
    parked: bool = False
    deaths: int = 0
    cancelled: bool = False
    waits_since: float | None = None
    retry: str | None = None
    retry_epoch: int | None = None
    damaged: bool = False
    mended: bool = False
    late_at: float | None = None
    retell: bool = False

    def is_held_under(self, lease: Lease) -> bool:
        """Whether the lease is the current one, be it run out. Without an owner the epoch is nobody's."""
        return bool(self.owner) and (self.epoch, self.owner) == (lease.epoch, lease.owner)


@dataclass(slots=True, eq=False)
class _Watch:
    after: int
    deliver: Callable[[Letter], None]


@dataclass(slots=True)
class _Box:
    letters: list[Letter] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    watches: list[_Watch] = field(default_factory=list)
    last: int = 0

    def after(self, number: int) -> list[Letter]:
        """Return what came after the letter of this number."""
        return self.letters[bisect_right(self.letters, number, key=_number) :]

    def put(self, kind: str, data: Mapping[str, Any]) -> str:
        """Append a letter; return its id."""
        self.last += 1
        self.letters.append(Letter(f"{self.last}-0", kind, json.loads(json.dumps(data))))
        for watch in self.watches:
            asyncio.get_running_loop().call_soon(self.hand_over, watch)
        return self.letters[-1].id

    def hand_over(self, watch: _Watch) -> None:
        """Deliver what the watch has not had; it may stop while we do."""
        while watch in self.watches and (found := self.after(watch.after)):
            watch.after = _number(found[0])
            watch.deliver(found[0])


def _number(letter: Letter) -> int:
    return int(letter.id.split("-")[0])


class MemoryRuns:
    """Journals, leases and inboxes of one process."""

    def __init__(self, clock: Clock, timing: Timing) -> None:
        self._clock = clock
        self._timing = timing
        self._runs: dict[str, _Run] = {}
        self._due: dict[str, float] = {}
        self._boxes: defaultdict[str, _Box] = defaultdict(_Box)
        self._blobs: dict[tuple[str, int], str] = {}

    async def submit(
        self, run_id: str, queued: RunQueued, blob: str | None
    ) -> Literal["created", "exists", "conflict"]:
        """See the port."""
        check_run_id(run_id)
        if run := self._runs.get(run_id):
            return "exists" if run.digest == queued.digest else "conflict"
        queue = queue_of(queued.kind, queued.lane)
        first = self._event(1, 0, queued)
        self._runs[run_id] = _Run(queued.digest, [first], queue, waits_since=self._clock.now())
        if blob:
            self._blobs[run_id, REQUEST_BLOB] = blob
        look_s = min(self._timing.lost_message_s, queued.deadline_s or math.inf)
        self._due[run_id] = self._clock.now() + look_s
        self._runs[run_id].late_at = deadline_of(self._clock.now(), queued.deadline_s)
        return "created"

    async def acquire(self, run_id: str, owner: str, signature: str) -> Granted | Held | Asleep | Finished | Missing:
        """See the port."""
        run = self._runs.get(run_id)
        if run is None:
            return Missing()
        if run.damaged:
            raise KeysDamaged(run_id)
        run.signature = run.signature or signature or None
        if run.status:
            return Finished(run.status, run.announced, run.epoch)
        if run.until > self._clock.now():
            run.waits_since = None
            return Held(run.owner)
        if run.parked:
            return Asleep()
        run.deaths = run.deaths + 1 if run.owner else 0
        run.waits_since = None
        run.epoch, run.owner, run.looks = run.epoch + 1, owner, 0
        run.until = self._due[run_id] = self._clock.now() + self._timing.lease_s
        lease = Lease(run_id, run.epoch, owner)
        first = run.events[0] if len(run.events) == 1 else None
        return Granted(lease, len(run.events), run.deaths, run.cancelled, run.retry, run.mended, first)

    async def mend(self, run_id: str) -> None:
        """See the port."""
        run = self._runs.get(run_id)
        if run is None or not run.damaged:
            return
        run.damaged, run.mended, run.owner, run.until, run.epoch = False, True, "", 0.0, run.epoch + 1
        run.announced, run.parked, run.retry, run.cancelled = False, False, None, False
        self._due[run_id] = self._clock.now()

    def damage(self, run_id: str, keep: int) -> None:
        """Have the run be as if a stranger had spoilt its keys, of whose journal `keep` events are left."""
        run = self._runs[run_id]
        run.damaged, run.status = True, None
        del run.events[keep:]

    async def append(
        self, lease: Lease, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> int:
        """See the port."""
        run = self._runs.get(lease.run_id)
        if run is not None and run.damaged:
            raise KeysDamaged(lease.run_id)
        if run is None or not run.is_held_under(lease) or base_seq > len(run.events):
            raise LeaseLost(lease.run_id)
        landed = len(run.events) - base_seq
        if landed >= len(events):
            return base_seq + len(events)
        if run.status:
            raise LeaseLost(lease.run_id)
        for event in events[landed:]:
            run.events.append(self._event(len(run.events) + 1, lease.epoch, event))
        if terminal:
            run.status, run.until = terminal, 0.0
            self._due[lease.run_id] = self._clock.now() + self._timing.lease_s
        return len(run.events)

    async def renew(self, leases: Sequence[Lease]) -> set[Lease]:
        """See the port."""
        lost = set()
        for lease in leases:
            run = self._runs.get(lease.run_id)
            if run is None or run.damaged or not run.is_held_under(lease) or run.status:
                lost.add(lease)
            else:
                run.until = self._due[lease.run_id] = self._clock.now() + self._timing.lease_s
        return lost

    async def release(self, lease: Lease) -> None:
        """See the port."""
        run = self._runs.get(lease.run_id)
        if run and run.is_held_under(lease) and not run.status:
            run.until, run.owner = 0.0, ""
            self._due[lease.run_id] = self._clock.now() + self._timing.lease_s
            run.waits_since = self._clock.now()

    async def park(self, lease: Lease, seen: str, until: float | None) -> Literal["parked", "letters"]:
        """See the port."""
        run_id = lease.run_id
        run = self._runs.get(run_id)
        if run is not None and run.status:
            self._tell_again(run_id, run)
        if run is None or not run.is_held_under(lease) or run.status:
            raise LeaseLost(run_id)
        run.until, run.owner = 0.0, ""
        letters = self._boxes[run_id].letters
        if letters and letters[-1].id != seen:
            self._due[run_id] = self._clock.now()
            return "letters"
        run.parked = True
        self._due[run_id] = self._clock.now() + self._timing.live_ttl_s if until is None else until
        return "parked"

    def _tell_again(self, run_id: str, run: _Run) -> None:
        """Have an end told once more, also if somebody is at it."""
        run.retell, run.announced = not run.announced, False
        self._due[run_id] = self._clock.now()

    async def announced(self, run_id: str, epoch: int | None = None) -> None:
        """See the port."""
        run = self._runs.get(run_id)
        if run and run.status and epoch not in (None, run.epoch):
            self._tell_again(run_id, run)
        elif run and run.status and run.retell:
            run.retell, self._due[run_id] = False, self._clock.now()
        elif run and run.status:
            run.announced = True
            self._due.pop(run_id, None)

    async def read(self, run_id: str, after: int = 0) -> list[Event]:
        """See the port."""
        run = self._runs.get(run_id)
        return run.events[after:] if run else []

    async def blob(self, run_id: str, number: int) -> str | None:
        """See the port."""
        return self._blobs.get((run_id, number))

    async def put_blob(self, run_id: str, number: int, value: str) -> None:
        """See the port."""
        self._blobs[run_id, number] = value

    async def known(self, run_ids: Sequence[str]) -> set[str]:
        """See the port."""
        return self._runs.keys() & set(run_ids)

    async def signal(
        self, run_id: str, kind: str, data: Mapping[str, Any], signal_id: str
    ) -> Literal["sent", "woken", "finished", "missing"]:
        """See the port."""
        run = self._runs.get(run_id)
        if run is None:
            return "missing"
        if run.status:
            return "finished"
        box = self._boxes[run_id]
        if signal_id and signal_id in box.seen:
            return "sent"
        box.seen.add(signal_id)
        box.put(kind, data)
        run.cancelled = run.cancelled or kind == "cancel"
        if run.parked or (kind == "cancel" and run.until <= self._clock.now()):
            self._due[run_id] = self._clock.now()
            return "woken"
        return "sent"

    async def retry(self, run_id: str, by: str, reason: str) -> RetryReply:
        """See the port."""
        run = self._runs.get(run_id)
        if run is None:
            return "missing"
        if why := self._not_retried(run):
            return why
        if run.status or run.retry_epoch != run.epoch:
            run.retry = self._boxes[run_id].put(RETRY_LETTER, {"by": by, "reason": reason})
            run.retry_epoch = run.epoch
        run.looks, self._due[run_id] = 0, self._clock.now()
        if not run.status:
            return "woken"
        run.status, run.announced, run.cancelled, run.parked, run.retell = None, False, False, False, False
        run.owner, run.until, run.deaths, run.late_at = "", 0.0, 0, None
        return "reopened"

    def _not_retried(self, run: _Run) -> Literal["completed", "session", "telling", "running"] | None:
        if run.status is None:
            return "running" if run.until > self._clock.now() else None
        if run.status == "completed":
            return "completed"
        if run.queue.startswith(STT_QUEUE):
            return "session"
        return None if run.announced else "telling"

    async def claim_due(self, limit: int) -> list[Claimed]:
        """See the port."""
        due = [run_id for run_id, at in self._due.items() if at <= self._clock.now()]
        return [claimed for run_id in due[:limit] if (claimed := await self.claim(run_id))]

    async def claim(self, run_id: str) -> Claimed | None:
        """See the port."""
        now, run = self._clock.now(), self._runs.get(run_id)
        if run is None or self._due.get(run_id, now + 1) > now:
            return None
        if run.until > now:
            self._due[run_id] = run.until
            return None
        waits_in = run.queue if run.waits_since is not None and not run.status else ""
        if run.waits_since is None and not run.status:
            run.waits_since = run.until or now
        delay = min(self._timing.lost_message_s * 2 ** min(run.looks, 20), self._timing.longest_look_s)
        run.looks, run.parked = run.looks + 1, False
        late = run.late_at is not None and run.late_at <= now and not run.status
        self._due[run_id] = now + delay if run.late_at is None or late else min(now + delay, run.late_at)
        return Claimed(run_id, run.signature, run.cancelled, waits_in, late)

    async def waiting(self) -> Mapping[str, Waiting]:
        """See the port `Queues`."""
        now = self._clock.now()
        since: dict[str, list[float]] = {queue: [] for queue in QUEUES}
        for run in self._runs.values():
            if run.waits_since is not None and run.until <= now:
                since[run.queue].append(run.waits_since)
        return {queue: Waiting(len(found), now - min(found, default=now)) for queue, found in since.items()}

    async def live(self, wanted: Wanted, limit: int, most: int) -> Found:
        """See the port `LiveRuns`."""
        looked = list(self._due)[:most]
        lines = [self._line(run_id) for run_id in looked if self._runs[run_id].status is None]
        found = sorted(
            (line for line in lines if wanted.fits(line, line.queued_at)),
            key=lambda line: (-line.queued_at, line.run_id),
        )
        return Found(found[:limit], len(looked), len(self._due))

    async def standing(self, run_id: str) -> RunLine | None:
        """See the port `LiveRuns`."""
        return self._line(check_run_id(run_id)) if run_id in self._runs else None

    async def reopened(self, run_ids: Sequence[str]) -> set[str]:
        """See the port `LiveRuns`."""
        return {run_id for run_id in run_ids if run_id in self._runs and self._runs[run_id].status is None}

    async def letters(self, run_id: str, after: str) -> int:
        """See the port `LiveRuns`."""
        return min(len(await self.backlog(run_id, after)), MOST_LETTERS)

    def _line(self, run_id: str) -> RunLine:
        run, now, look = self._runs[run_id], self._clock.now(), self._due.get(run_id)
        first, last = run.events[0], run.events[-1]
        held = run.owner and run.status is None
        standing: Standing = run.status or (
            "running" if held and run.until > now else "parked" if run.parked else "queued"
        )
        why = last.data.get("why", "") or (last.data.get("failure") or {}).get("code", "")
        return RunLine(
            run_id, kind_of(first.data), standing, first.data["tenant"], first.data["labels"],
            run.owner if held else "", run.until - now if held else None, run.epoch, run.deaths, first.at / 1000,
            last.at / 1000 if last.terminal else None, None if look is None else look - now, last.seq, last.type,
            last.at / 1000, why, run.announced, first.data["lane"],
        )  # fmt: skip

    def watch(self, run_id: str, after: str, deliver: Callable[[Letter], None]) -> Callable[[], None]:
        """See the port `Inbox`."""
        box = self._boxes[run_id]
        watch = _Watch(int(after.split("-")[0]), deliver)
        box.watches.append(watch)
        asyncio.get_running_loop().call_soon(box.hand_over, watch)

        def stop() -> None:
            if watch in box.watches:
                box.watches.remove(watch)

        return stop

    async def backlog(self, run_id: str, after: str) -> list[Letter]:
        """See the port `Inbox`."""
        return self._boxes[run_id].after(int(after.split("-")[0]))

    def _event(self, seq: int, epoch: int, data: EventData) -> Event:
        plain = data.model_dump(mode="json", exclude_none=True)
        return Event(seq=seq, type=data.TYPE, at=int(self._clock.now() * 1000), epoch=epoch, data=plain)
