"""`RunStore` and `Inbox` in memory, on the Clock port: what Redis does, in one process."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from api_contracts.client.scripts import REQUEST_BLOB
from api_contracts.keys import check_run_id
from api_contracts.names import QUEUES, queue_of
from api_contracts.runs import Event, EventData, RunQueued, Status
from workers.ports import Asleep, Claimed, Clock, Finished, Granted, Held, LeaseLost, Letter, Missing, Waiting
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


@dataclass(slots=True, eq=False)
class _Watch:
    after: int
    deliver: Callable[[Letter], None]


@dataclass(slots=True)
class _Box:
    letters: list[Letter] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    watches: list[_Watch] = field(default_factory=list)

    def hand_over(self, watch: _Watch) -> None:
        """Deliver what the watch has not had; it may stop while we do."""
        while watch in self.watches and watch.after < len(self.letters):
            watch.after += 1
            watch.deliver(self.letters[watch.after - 1])


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
        self._due[run_id] = self._clock.now() + self._timing.lost_message_s
        return "created"

    async def acquire(self, run_id: str, owner: str, signature: str) -> Granted | Held | Asleep | Finished | Missing:
        """See the port."""
        run = self._runs.get(run_id)
        if run is None:
            return Missing()
        run.signature = run.signature or signature or None
        if run.status:
            return Finished(run.status, run.announced)
        if run.until > self._clock.now():
            run.waits_since = None
            return Held(run.owner)
        if run.parked:
            return Asleep()
        run.deaths = run.deaths + 1 if run.owner else 0
        run.waits_since = None
        run.epoch, run.owner, run.looks = run.epoch + 1, owner, 0
        run.until = self._due[run_id] = self._clock.now() + self._timing.lease_s
        return Granted(run.epoch, len(run.events), run.deaths, run.cancelled)

    async def append(
        self, run_id: str, epoch: int, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> int:
        """See the port."""
        run = self._runs.get(run_id)
        if run is None or run.epoch != epoch or not run.owner or base_seq > len(run.events):
            raise LeaseLost(run_id)
        landed = len(run.events) - base_seq
        if landed >= len(events):
            return base_seq + len(events)
        if run.status:
            raise LeaseLost(run_id)
        for event in events[landed:]:
            run.events.append(self._event(len(run.events) + 1, epoch, event))
        if terminal:
            run.status, run.until = terminal, 0.0
            self._due[run_id] = self._clock.now() + self._timing.lease_s
        return len(run.events)

    async def renew(self, leases: Sequence[tuple[str, int]]) -> set[str]:
        """See the port."""
        lost = set()
        for run_id, epoch in leases:
            run = self._runs.get(run_id)
            if run is None or run.epoch != epoch or not run.owner or run.status:
                lost.add(run_id)
            else:
                run.until = self._due[run_id] = self._clock.now() + self._timing.lease_s
        return lost

    async def release(self, run_id: str, epoch: int) -> None:
        """See the port."""
        run = self._runs.get(run_id)
        if run and run.epoch == epoch and not run.status:
            run.until, run.owner = 0.0, ""
            self._due[run_id] = self._clock.now() + self._timing.lease_s
            run.waits_since = self._clock.now()

    async def park(self, run_id: str, epoch: int, seen: str, until: float | None) -> Literal["parked", "letters"]:
        """See the port."""
        run = self._runs.get(run_id)
        if run is None or run.epoch != epoch or not run.owner or run.status:
            raise LeaseLost(run_id)
        run.until, run.owner = 0.0, ""
        letters = self._boxes[run_id].letters
        if letters and letters[-1].id != seen:
            self._due[run_id] = self._clock.now()
            return "letters"
        run.parked = True
        self._due[run_id] = self._clock.now() + self._timing.live_ttl_s if until is None else until
        return "parked"

    async def announced(self, run_id: str) -> None:
        """See the port."""
        run = self._runs.get(run_id)
        if run and run.status:
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
        box.letters.append(Letter(f"{len(box.letters) + 1}-0", kind, json.loads(json.dumps(data))))
        for watch in box.watches:
            asyncio.get_running_loop().call_soon(box.hand_over, watch)
        run.cancelled = run.cancelled or kind == "cancel"
        if run.parked or (kind == "cancel" and run.until <= self._clock.now()):
            self._due[run_id] = self._clock.now()
            return "woken"
        return "sent"

    async def claim_due(self, limit: int) -> list[Claimed]:
        """See the port."""
        due = [run_id for run_id, at in self._due.items() if at <= self._clock.now()][:limit]
        return [claimed for run_id in due if (claimed := await self.claim(run_id))]

    async def claim(self, run_id: str) -> Claimed | None:
        """See the port."""
        now, run = self._clock.now(), self._runs.get(run_id)
        if run is None or self._due.get(run_id, now + 1) > now:
            return None
        if run.until > now:
            self._due[run_id] = run.until
            return None
        if run.waits_since is None and not run.status:
            run.waits_since = run.until or now
        delay = min(self._timing.lost_message_s * 2 ** min(run.looks, 20), self._timing.longest_look_s)
        run.looks, run.parked = run.looks + 1, False
        self._due[run_id] = now + delay
        return Claimed(run_id, run.signature, run.cancelled)

    async def waiting(self) -> Mapping[str, Waiting]:
        """See the port `Queues`."""
        now = self._clock.now()
        since: dict[str, list[float]] = {queue: [] for queue in QUEUES}
        for run in self._runs.values():
            if run.waits_since is not None and run.until <= now:
                since[run.queue].append(run.waits_since)
        return {queue: Waiting(len(found), now - min(found, default=now)) for queue, found in since.items()}

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
        return self._boxes[run_id].letters[int(after.split("-")[0]) :]

    def _event(self, seq: int, epoch: int, data: EventData) -> Event:
        plain = data.model_dump(mode="json", exclude_none=True)
        return Event(seq=seq, type=data.TYPE, at=int(self._clock.now() * 1000), epoch=epoch, data=plain)
