"""`RunStore` on Redis. Each method is one script or one read."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from redis.asyncio import Redis

from api_contracts import keys, names
from api_contracts.client.scripts import BLOBS, ScriptCall, signal_call, submit_call
from api_contracts.runs import TERMINAL, Event, EventData, RunQueued, Status
from workers.adapters.redis.appender import Appender
from workers.adapters.redis.connection import mapped
from workers.adapters.redis.scripts import ACQUIRE, ANNOUNCE, CLAIM, PARK, RELEASE, RENEW, run, run_all
from workers.ports import Asleep, Claimed, Clock, Finished, Granted, Held, LeaseLost, Missing
from workers.settings import Timing

_PAGE = 1000
_SIGNALLED: dict[bytes, Literal["sent", "woken", "finished", "missing"]] = {
    b"sent": "sent", b"woken": "woken", b"finished": "finished", b"missing": "missing",
}  # fmt: skip
_STATUSES: dict[str, Status] = {status: status for status in TERMINAL.values()}


class RedisRuns:
    """Journals and leases in Redis. `start` before the first append, `close` after the last."""

    def __init__(self, redis: Redis, clock: Clock, timing: Timing) -> None:
        self._redis = redis
        self._timing = timing
        self._ttl_ms = int(timing.live_ttl_s * 1000)
        self._lease_ms = int(timing.lease_s * 1000)
        self._appender = Appender(redis, clock, unannounced_look_s=timing.lease_s)

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
            reply = (await run(self._redis, call)).decode()
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
            reply = await run(self._redis, call)
        match reply:
            case [b"granted", epoch, seq, deaths, cancelled]:
                return Granted(int(epoch), int(seq), int(deaths), cancelled == b"1")
            case [b"held", holder]:
                return Held(holder.decode())
            case [b"parked"]:
                return Asleep()
            case [b"finished", status, announced]:
                return Finished(_STATUSES[status.decode()], announced == b"1")
            case _:
                return Missing()

    async def append(
        self, run_id: str, epoch: int, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> int:
        """See the port."""
        return await self._appender.append(run_id, epoch, base_seq, events, terminal=terminal)

    async def renew(self, leases: Sequence[tuple[str, int]]) -> set[str]:
        """See the port."""
        calls = [
            ScriptCall(
                RENEW,
                _all_keys(run_id),
                (epoch, run_id, self._lease_ms, self._ttl_ms),
            )
            for run_id, epoch in leases
        ]
        with mapped():
            replies = await run_all(self._redis, calls)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return {run_id for (run_id, _), reply in zip(leases, replies, strict=True) if reply == 0}

    async def release(self, run_id: str, epoch: int) -> None:
        """See the port."""
        call = ScriptCall(
            RELEASE,
            (keys.lease(run_id), keys.due(run_id[-1]), *_waiting(run_id)),
            (epoch, run_id, self._lease_ms),
        )
        with mapped():
            await run(self._redis, call)

    async def park(self, run_id: str, epoch: int, seen: str, until: float | None) -> Literal["parked", "letters"]:
        """See the port."""
        lease, due, events, inbox, *others = _all_keys(run_id)
        until_ms = "" if until is None else int(until * 1000)
        call = ScriptCall(PARK, (lease, due, inbox, events, *others), (epoch, run_id, seen, until_ms, self._ttl_ms))
        with mapped():
            reply = await run(self._redis, call)
        if reply == b"lost":
            raise LeaseLost(run_id)
        return "parked" if reply == b"parked" else "letters"

    async def announced(self, run_id: str) -> None:
        """See the port."""
        call = ScriptCall(ANNOUNCE, _all_keys(run_id), (run_id, int(self._timing.retention_s * 1000)))
        with mapped():
            await run(self._redis, call)

    async def read(self, run_id: str, after: int = 0) -> list[Event]:
        """See the port."""
        found: list[Event] = []
        while True:
            with mapped():
                reply = await self._redis.xrange(keys.events(run_id), min=f"({after}-0", count=_PAGE)
            page = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply or [])
            found += [Event.from_fields(fields) for _, fields in page]
            if len(page) < _PAGE:
                return found
            after = found[-1].seq

    async def blob(self, run_id: str, number: int) -> str | None:
        """See the port."""
        with mapped():
            value = await self._redis.get(keys.blob(run_id, number))
        return value.decode() if isinstance(value, bytes) else value

    async def put_blob(self, run_id: str, number: int, value: str) -> None:
        """See the port."""
        with mapped():
            await self._redis.set(keys.blob(run_id, number), value, px=self._ttl_ms)

    async def signal(
        self, run_id: str, kind: str, data: Mapping[str, Any], signal_id: str
    ) -> Literal["sent", "woken", "finished", "missing"]:
        """See the port."""
        call = signal_call(run_id, kind, data, signal_id, ttl_s=self._timing.live_ttl_s)
        with mapped():
            return _SIGNALLED[await run(self._redis, call)]

    async def claim(self, run_id: str) -> Claimed | None:
        """See the port."""
        with mapped():
            reply = await run(self._redis, self._claim(run_id))
        return _claimed(run_id, reply)

    async def claim_due(self, limit: int) -> list[Claimed]:
        """See the port. Looks at every slot's index in one pipeline, then claims run by run."""
        with mapped():
            seconds, micros = await self._redis.time()
            now = int(seconds) * 1000 + int(micros) // 1000
            pipe = self._redis.pipeline(transaction=False)
            for slot in keys.SLOTS:
                pipe.zrangebyscore(keys.due(slot), 0, now, start=0, num=limit)
            due = [run_id.decode() for ids in await pipe.execute() for run_id in ids][:limit]
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

    def _claim(self, run_id: str) -> ScriptCall:
        first, longest = self._timing.lost_message_s, self._timing.longest_look_s
        return ScriptCall(
            CLAIM,
            (keys.lease(run_id), keys.due(run_id[-1]), *_waiting(run_id)),
            (run_id, int(first * 1000), int(longest * 1000)),
        )


def _claimed(run_id: str, reply: list[bytes]) -> Claimed | None:
    if reply[0] != b"claimed":
        return None
    return Claimed(run_id, reply[1].decode() or None, cancelled=reply[2] == b"1")


def _waiting(run_id: str) -> tuple[str, ...]:
    return tuple(keys.waiting(run_id[-1], queue) for queue in names.QUEUES)


def _all_keys(run_id: str) -> tuple[str, ...]:
    """Return the run's lease, its due index, then every other key of the run."""
    blobs = (keys.blob(run_id, number) for number in BLOBS)
    streams = (keys.events(run_id), keys.inbox(run_id), keys.audio(run_id))
    return keys.lease(run_id), keys.due(run_id[-1]), *streams, *blobs
