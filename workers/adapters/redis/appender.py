"""One appender per process: what all runs decided within a tick leaves in one pipeline.

Appends of one run keep their order, because only one pipeline is under way at a time. While Redis is away the appends
wait here and are sent again: the script skips what had already landed, so a lost reply costs nothing. The same is done
after an error that nobody foresaw: nobody starts the appender again, and without it no run of the process ends.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api_contracts import keys
from api_contracts.client.damage import is_damage
from api_contracts.client.scripts import ScriptCall
from api_contracts.runs import EventData, Status
from workers.adapters.redis.connection import TRANSIENT
from workers.adapters.redis.scripts import APPEND, run_all, unsettled
from workers.ports import Clock, KeysDamaged, Lease, LeaseLost, StoreUnavailable

_log = structlog.get_logger(__name__)

_MOST_PER_PIPELINE = 512
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


@dataclass(slots=True)
class _Pending:
    call: ScriptCall
    run_id: str
    done: "asyncio.Future[int]"


class Appender:
    """Appends for all runs of a process. `start` and `close` belong to the loop that uses it."""

    def __init__(self, redis: Redis, clock: Clock, *, unannounced_look_s: float) -> None:
        self._redis = redis
        self._clock = clock
        self._look_ms = int(unannounced_look_s * 1000)
        self._pending: list[_Pending] = []
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._loop(), name="appender")

    async def close(self) -> None:
        """Stop; whoever still waits gets `StoreUnavailable`."""
        self._closed = True
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        for item in self._pending:
            _fail(item, StoreUnavailable("the appender is closed"))
        self._pending.clear()

    def append(
        self, lease: Lease, base_seq: int, events: Sequence[EventData], *, terminal: Status | None
    ) -> "asyncio.Future[int]":
        """Append as the port says; wait as long as Redis is away."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(StoreUnavailable("the appender is closed"))
            return done
        run_id = lease.run_id
        args: list[str | int] = [lease.epoch, lease.owner, base_seq, run_id, terminal or "", self._look_ms]
        for event in events:
            args += (event.TYPE, event.to_json())
        call = ScriptCall(APPEND, (keys.lease(run_id), keys.events(run_id), keys.due(run_id[-1])), tuple(args))
        self._pending.append(_Pending(call, run_id, done))
        self._something.set()
        return done

    async def _loop(self) -> None:
        while not self._closed:  # a cancel may be lost, see StreamReader.close
            await self._something.wait()
            batch, self._pending = self._pending[:_MOST_PER_PIPELINE], self._pending[_MOST_PER_PIPELINE:]
            if not self._pending:
                self._something.clear()
            try:
                await self._deliver(batch)
            except Exception as exc:  # noqa: BLE001 - refused for good; the runs hear it, the appender goes on
                if not isinstance(exc, RedisError):
                    _log.exception("append.defect", runs=len(batch))
                for item in batch:
                    _fail(item, exc)
            finally:
                for item in batch:
                    _fail(item, StoreUnavailable("the appender is closed"))

    async def _deliver(self, batch: list[_Pending]) -> None:
        pause = _FIRST_PAUSE_S
        while batch:
            batch = await self._send(batch)
            if batch:
                _log.warning("append.waiting", runs=len(batch), pause_s=pause)
                await self._clock.sleep_until(self._clock.now() + pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _send(self, batch: list[_Pending]) -> list[_Pending]:
        """Send once; return what must be sent again, in order."""
        calls = [item.call for item in batch]
        try:
            replies = await run_all(self._redis, calls)
        except TRANSIENT:
            return batch
        except RedisError:
            raise
        except Exception:  # noqa: BLE001 - it may have landed or not: the script knows
            _log.exception("append.defect", runs=len(batch))
            return batch
        again = set(unsettled(calls, replies, TRANSIENT))
        for index, reply in enumerate(replies):
            if index not in again:
                _settle(batch[index], reply)
        return [item for index, item in enumerate(batch) if index in again]


def _settle(item: _Pending, reply: Any) -> None:
    if isinstance(reply, Exception):
        _fail(item, KeysDamaged(item.run_id) if is_damage(reply) else reply)
    elif reply[0] == b"ok":
        if not item.done.done():
            item.done.set_result(int(reply[1]))
    elif reply[0] == b"lost":
        _fail(item, LeaseLost(item.run_id))
    elif reply[0] == b"damaged":
        _fail(item, KeysDamaged(item.run_id))
    else:
        # The journal is shorter than what we wrote: Redis lost acknowledged writes. The lease cannot be trusted either.
        _log.error("append.gap", run_id=item.run_id, stored=int(reply[1]))
        _fail(item, LeaseLost(item.run_id))


def _fail(item: _Pending, exc: Exception) -> None:
    if not item.done.done():
        item.done.set_exception(exc)
