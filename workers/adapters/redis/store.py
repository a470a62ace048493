"""`RunStore` on Redis. Each method is one script or one read."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal, cast, get_args

import structlog
from redis.asyncio import Redis

from api_contracts import keys, names
from api_contracts.client.damage import is_damage
from api_contracts.client.scripts import BLOBS, ScriptCall, retry_call, signal_call, submit_call
from api_contracts.runs import TERMINAL, Event, EventData, RunQueued, Status
from workers.adapters.redis.appender import Appender
from workers.adapters.redis.connection import mapped
from workers.adapters.redis.scripts import ACQUIRE, ANNOUNCE, CLAIM, MEND, PARK, RELEASE, RENEW, run_all
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
    Missing,
    RetryReply,
)
from workers.runners.gathering import Gathering
from workers.settings import Timing

_log = structlog.get_logger(__name__)

_PAGE = 1000
_TOGETHER, _AT_ONCE = 64, 2
"""Calls of different runs that share a pipeline, and such pipelines under way: one that hangs must not hold up all."""
_SHARES = 16
"""The ids that our clients make end in one of so many characters."""
_SIGNALLED: dict[bytes, Literal["sent", "woken", "finished", "missing"]] = {
    b"sent": "sent", b"woken": "woken", b"finished": "finished", b"missing": "missing",
}  # fmt: skip
_RETRIED: dict[bytes, RetryReply] = {reply.encode(): reply for reply in get_args(RetryReply)}
_STATUSES: dict[str, Status] = {status: status for status in TERMINAL.values()}


class RedisRuns:
    """Journals and leases in Redis. `start` before the first append, `close` after the last."""

    def __init__(self, redis: Redis, clock: Clock, timing: Timing) -> None:
        self._redis = redis
        self._timing = timing
        self._ttl_ms = int(timing.live_ttl_s * 1000)
        self._lease_ms = int(timing.lease_s * 1000)
        self._appender = Appender(redis, clock, unannounced_look_s=timing.lease_s)
        self._scripts = Gathering(self._run_together, most=_TOGETHER, at_once=_AT_ONCE)
        self._pages = Gathering(self._read_together, most=_TOGETHER, at_once=_AT_ONCE)

    def start(self) -> None:
        """Begin to append."""
        self._appender.start()

    async def close(self) -> None:
        """Stop appending. The client is closed by whoever made it."""
        await self._appender.close()

    async def submit(
        self, run_id: str, queued: RunQueued, blob: str | None
    ) -> Literal["created", "exists", "conflict"]:
        """See the port."""
        keys.check_run_id(run_id)
        call = submit_call(
            run_id, queued, blob, first_look_s=self._timing.lost_message_s, ttl_s=self._timing.live_ttl_s
        )
        with mapped():
            reply = (await self._scripts.ask(call)).decode()
        if reply == "damaged":
            raise KeysDamaged(run_id)
        return "created" if reply == "created" else "exists" if reply == "exists" else "conflict"

    async def acquire(self, run_id: str, owner: str, signature: str) -> Granted | Held | Asleep | Finished | Missing:
        """See the port."""
        lease, due, *others = _all_keys(run_id)
        call = ScriptCall(
            ACQUIRE,
            (lease, due, *_waiting(run_id), *others),
            (run_id, owner, self._lease_ms, signature, self._ttl_ms, len(names.QUEUES)),
        )
        with mapped():
            reply = await self._scripts.ask(call)
        match reply:
            case [b"granted", epoch, seq, deaths, cancelled, retry, damaged, entries]:
                letter = retry.decode().partition(":")[2] or None
                return Granted(
                    Lease(run_id, int(epoch), owner), int(seq), int(deaths), cancelled == b"1", letter,
                    damaged == b"1", _first_of(entries),
                )  # fmt: skip
            case [b"held", holder]:
                return Held(holder.decode(errors="replace"))
            case [b"damaged"]:
                raise KeysDamaged(run_id)
            case [b"parked"]:
                return Asleep()
            case [b"finished", status, announced, epoch]:
                return Finished(_STATUSES[status.decode()], announced == b"1", int(epoch))
            case _:
                return Missing()

    async def mend(self, run_id: str) -> None:
        """See the port."""
        lease, due, events, *others = _all_keys(run_id)
        sets = _waiting(run_id)
        call = ScriptCall(MEND, (lease, events, due, *sets, *others), (run_id, len(sets), self._ttl_ms))
        with mapped():
            said = await self._scripts.ask(call)
        _log.error("run.keys_damaged", run_id=run_id, found=said.decode())

    def append(
        self, lease: Lease, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> asyncio.Future[int]:
        """See the port."""
        return self._appender.append(lease, base_seq, events, terminal=terminal)

    async def renew(self, leases: Sequence[Lease]) -> set[Lease]:
        """See the port."""
        calls = [
            ScriptCall(
                RENEW,
                _all_keys(lease.run_id),
                (lease.epoch, lease.owner, lease.run_id, self._lease_ms, self._ttl_ms),
            )
            for lease in leases
        ]
        with mapped():
            replies = await run_all(self._redis, calls)
            for reply in replies:
                if isinstance(reply, Exception) and not is_damage(reply):
                    raise reply
        return {lease for lease, reply in zip(leases, replies, strict=True) if reply == 0 or is_damage(reply)}

    async def release(self, lease: Lease) -> None:
        """See the port."""
        run_id = lease.run_id
        call = ScriptCall(
            RELEASE,
            (keys.lease(run_id), keys.due(run_id[-1]), *_waiting(run_id)),
            (lease.epoch, lease.owner, run_id, self._lease_ms),
        )
        with mapped():
            await self._scripts.ask(call)

    async def park(self, lease: Lease, seen: str, until: float | None) -> Literal["parked", "letters"]:
        """See the port."""
        held, due, events, inbox, *others = _all_keys(lease.run_id)
        until_ms = "" if until is None else int(until * 1000)
        args = (lease.epoch, lease.owner, lease.run_id, seen, until_ms, self._ttl_ms)
        call = ScriptCall(PARK, (held, due, inbox, events, *others), args)
        with mapped():
            reply = await self._scripts.ask(call)
        if reply == b"lost":
            raise LeaseLost(lease.run_id)
        return "parked" if reply == b"parked" else "letters"

    async def announced(self, run_id: str, epoch: int | None = None) -> None:
        """See the port."""
        args = (run_id, int(self._timing.retention_s * 1000), "" if epoch is None else epoch)
        call = ScriptCall(ANNOUNCE, _all_keys(run_id), args)
        with mapped():
            await self._scripts.ask(call)

    async def read(self, run_id: str, after: int = 0) -> list[Event]:
        """See the port."""
        found: list[Event] = []
        last = f"{after}-0"
        while True:
            with mapped():
                reply = await self._pages.ask((keys.events(run_id), f"({last}"))
            page = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply or [])
            ours = [event for entry_id, fields in page if (event := Event.from_entry(entry_id, fields))]
            if len(ours) < len(page):
                _log.warning("journal.strangers", run_id=run_id, entries=len(page) - len(ours))
            found += ours
            if len(page) < _PAGE:
                return found
            last = page[-1][0].decode()

    async def blob(self, run_id: str, number: int) -> str | None:
        """See the port."""
        with mapped():
            value = await self._redis.get(keys.blob(run_id, number))
        return value.decode() if isinstance(value, bytes) else value

    async def put_blob(self, run_id: str, number: int, value: str) -> None:
        """See the port."""
        with mapped():
            await self._redis.set(keys.blob(run_id, number), value, px=self._ttl_ms)

    async def known(self, run_ids: Sequence[str]) -> set[str]:
        """See the port."""
        pipe = self._redis.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.exists(keys.events(run_id))
        with mapped():
            replies = await pipe.execute()
        return {run_id for run_id, there in zip(run_ids, replies, strict=True) if there}

    async def signal(
        self, run_id: str, kind: str, data: Mapping[str, Any], signal_id: str
    ) -> Literal["sent", "woken", "finished", "missing"]:
        """See the port."""
        call = signal_call(run_id, kind, data, signal_id, ttl_s=self._timing.live_ttl_s)
        with mapped():
            return _SIGNALLED[await self._scripts.ask(call)]

    async def retry(self, run_id: str, by: str, reason: str) -> RetryReply:
        """See the port."""
        call = retry_call(run_id, by, reason, ttl_s=self._timing.live_ttl_s)
        with mapped():
            return _RETRIED[await self._scripts.ask(call)]

    async def claim(self, run_id: str) -> Claimed | None:
        """See the port."""
        with mapped():
            reply = await self._scripts.ask(self._claim(run_id))
        return _claimed(run_id, reply)

    async def claim_due(self, limit: int) -> list[Claimed]:
        """See the port. Looks at every slot's index, then claims run by run."""
        with mapped():
            due = await self._due(limit)
            replies = await run_all(self._redis, [self._claim(run_id) for run_id in due]) if due else []
            refused = [reply for reply in replies if isinstance(reply, Exception)]
            # What was claimed is the caller's to send, and nobody looks again for a while: it must not be lost.
            if refused and len(refused) == len(replies):
                raise refused[0]
        return [
            claimed
            for run_id, reply in zip(due, replies, strict=True)
            if not isinstance(reply, Exception) and (claimed := _claimed(run_id, reply))
        ]

    async def _run_together(self, calls: list[ScriptCall]) -> list[Any]:
        return await run_all(self._redis, calls)

    async def _read_together(self, pages: list[tuple[str, str]]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for key, first in pages:
            pipe.xrange(key, min=first, count=_PAGE)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

    async def _due(self, limit: int) -> list[str]:
        """Return due runs, each slot's oldest first, and a slot's no sooner than another's: none may hide the rest.

        Slots give a share first. Those that have more are asked again only where the others have too little.
        """
        seconds, micros = await self._redis.time()
        now, share = int(seconds) * 1000 + int(micros) // 1000, -(-limit // _SHARES)
        found = await self._due_in(keys.SLOTS, now, share)
        more = [slot for slot, ids in found.items() if len(ids) == share]
        if more and share < limit and sum(map(len, found.values())) < limit:
            found |= await self._due_in(more, now, limit)
        turns = zip_longest(*found.values())
        return [run_id for turn in turns for run_id in turn if run_id is not None][:limit]

    async def _due_in(self, slots: Sequence[str], now: int, most: int) -> dict[str, list[str]]:
        pipe = self._redis.pipeline(transaction=False)
        for slot in slots:
            pipe.zrangebyscore(keys.due(slot), "-inf", now, start=0, num=most)
        replies = zip(slots, await pipe.execute(raise_on_error=False), strict=True)
        return {slot: await self._known_in(slot, reply) for slot, reply in replies}

    async def _known_in(self, slot: str, reply: Any) -> list[str]:
        """Return the run ids of a reply about a slot's index. What else is in there is taken out of it, or the index,
        where it is none: it would hide what is due behind it. Live runs come back with their next renewal or letter.
        """
        index, ids, strangers = keys.due(slot), list[str](), list[bytes]()
        if isinstance(reply, Exception):
            if not is_damage(reply):
                raise reply
            await self._redis.delete(index)
            _log.error("index.damaged", key=index)
            return []
        for each in reply:
            run_id = each.decode(errors="replace")
            if keys.RUN_ID.fullmatch(run_id) and run_id[-1] == slot:
                ids.append(run_id)
            else:
                strangers.append(each)
        if strangers:
            await self._redis.zrem(index, *strangers)
            _log.warning("index.strangers", key=index, members=len(strangers))
        return ids

    def _claim(self, run_id: str) -> ScriptCall:
        first, longest = self._timing.lost_message_s, self._timing.longest_look_s
        return ScriptCall(
            CLAIM,
            (keys.lease(run_id), keys.due(run_id[-1]), *_waiting(run_id)),
            (run_id, int(first * 1000), int(longest * 1000)),
        )


def _first_of(entries: Any) -> Event | None:
    """Return the event of a journal that has one; None where something else is in it, too."""
    if len(entries) != 1:
        return None
    ((entry_id, fields),) = entries
    event = Event.from_entry(entry_id, dict(zip(fields[::2], fields[1::2], strict=True)))
    return event if event is not None and event.seq == 1 else None


def _claimed(run_id: str, reply: list[bytes]) -> Claimed | None:
    if reply[0] != b"claimed":
        return None
    signature, cancelled, waits_in, late = reply[1].decode() or None, reply[2], reply[3].decode(), reply[4]
    return Claimed(run_id, signature, cancelled == b"1", waits_in, late == b"1")


def _waiting(run_id: str) -> tuple[str, ...]:
    return tuple(keys.waiting(run_id[-1], queue) for queue in names.QUEUES)


def _all_keys(run_id: str) -> tuple[str, ...]:
    """Return the run's lease, its due index, then every other key of the run."""
    blobs = (keys.blob(run_id, number) for number in BLOBS)
    streams = (keys.events(run_id), keys.inbox(run_id), keys.audio(run_id))
    return keys.lease(run_id), keys.due(run_id[-1]), *streams, *blobs
