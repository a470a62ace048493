"""The service as its next release may be, by the rules of docs/decisions/0020: a schema version higher, more fields in
every event and in the lease, an event type of its own, messages with a header, references that say more.

More arguments of control tasks are passed over since this release only, so one that serves beside the one before sends
none yet.

In runs whose ids begin with `needs` it writes events that the present release must not pass over.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import api_contracts

api_contracts.SCHEMA_VERSION = LATER = api_contracts.SCHEMA_VERSION + 1  # before any class has it as a default

from api_contracts.runs import EventData, RunQueued, Status  # noqa: E402 - it is of the later version from here on
from workers.adapters.celery.bell import CeleryBell  # noqa: E402
from workers.adapters.redis import appender  # noqa: E402
from workers.adapters.redis.store import RedisRuns  # noqa: E402
from workers.app import app  # noqa: E402
from workers.ports import Lease  # noqa: E402

__all__ = ["app"]

_MORE: Final = {"later": {"deep": [1, None, "x"]}}
_MOOD: Final = "redis.call('HSET', KEYS[1], 'mood', 'good')\nreturn {'ok', seq}"


class Weighed(EventData):
    """What the present release has never heard of. `needs`: what of it must be understood, where something must."""

    TYPE = "run.weighed"
    grams: int
    needs: int | None = None


_plain_json = EventData.to_json
_plain_append = RedisRuns.append
_plain_ring = CeleryBell.ring


def _to_json(self: EventData) -> str:
    return json.dumps(json.loads(_plain_json(self)) | _MORE, ensure_ascii=False)


async def _append(
    self: RedisRuns, lease: Lease, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
) -> int:
    """Append news before what is to be appended, and have it say what must be understood."""
    needs = LATER if lease.run_id.startswith("needs") else None
    return await _plain_append(self, lease, base_seq, [Weighed(grams=7, needs=needs), *events], terminal=terminal)


async def _ring(self: CeleryBell, run_id: str, signature: str | None, queued: RunQueued, *more: Any) -> None:
    """Send a message that says more, in its headers and in its reference."""
    if signature:
        stored = json.loads(signature)
        stored["options"]["headers"] = {**(stored["options"].get("headers") or {}), **_MORE}
        stored["kwargs"]["request"] |= _MORE
        signature = json.dumps(stored)
    await _plain_ring(self, run_id, signature, queued, *more)


EventData.to_json = _to_json  # type: ignore[method-assign]
RedisRuns.append = _append  # type: ignore[method-assign]
CeleryBell.ring = _ring  # type: ignore[method-assign]
appender.APPEND = _script = appender.APPEND.replace("return {'ok', seq}", _MOOD)
