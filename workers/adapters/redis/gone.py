"""Entries that somebody trimmed from a stream before we read them, as a producer does who bounds it (MAXLEN).

XREAD says nothing of them: it goes on with the first that is left. They can be gone only where all that is left is
unread. A reader that keeps up gets one entry at a time, so it looks when it gets several at once, or one after a long
while: is what it read last, or anything before it, still there? If not, what the stream counts (`entries-added`, from
Redis 7 on) says how many are gone.

What goes unnoticed: that a single entry is left, within a second of the one before it (MAXLEN 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from workers.adapters.redis.connection import TRANSIENT
from workers.core.stt.gone import gone_between
from workers.core.stt.timeline import order_of

Fields = dict[bytes, bytes]
Entry = tuple[bytes, Fields]

_log = structlog.get_logger(__name__)

_LONG_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Look:
    """What a stream said of itself: its first and last entries, how many were ever added, how many before the first.

    The counts are None where the server keeps none.
    """

    first: str
    last: str
    added: int | None
    before: int | None


@dataclass(slots=True)
class Place:
    """How far a stream was read: `after` is the last entry, `read` how many were ever added up to it, if that is known.

    What is gone behind an entry where somebody else left off is not known until we looked: that place is not `sure`.
    From `"0"` on nobody has read, so nobody of ours has trimmed.
    """

    after: str
    read: int | None = None
    sure: bool = False

    def __post_init__(self) -> None:
        if self.after == "0":
            self.read, self.sure = 0, True

    def pass_by(self, entry: bytes) -> str:
        """Take an entry as read; return its id."""
        self.after, self.sure = entry.decode(), True
        if self.read is not None:
            self.read += 1
        return self.after

    def doubts(self, entries: Sequence[Entry]) -> bool:
        """Return whether entries before these may be gone."""
        return not self.sure or len(entries) > 1 or _ms(entries[0][0].decode()) - _ms(self.after) >= _LONG_MS

    def missed(self, entries: Sequence[Entry], look: Look | None) -> int | None:
        """Return how many entries before these are gone, and learn the place; None: nobody knows.

        The look came after the read: what begins the stream by now may stand among these entries, or behind them. The
        latter is rare enough to take all that is gone for gone before them.
        """
        if look is None:
            return 0 if self.sure else None
        if order_of(look.first) <= order_of(self.after):
            if look.before is not None and look.first == self.after:
                self.read = look.before + 1
            elif look.added is not None and look.last == entries[-1][0].decode():
                self.read = look.added - len(entries)
            return 0
        before = look.before
        if before is not None:
            before -= sum(order_of(entry.decode()) < order_of(look.first) for entry, _ in entries)
        missed = gone_between(self.read, before)
        self.read = self.read if before is None else before
        return missed


async def look_at(redis: Redis, keys: Sequence[str]) -> dict[str, Look]:
    """Ask streams what they have; those that do not say are left out. Raise what a Redis that is away raises."""
    pipe = redis.pipeline(transaction=False)
    for key in keys:
        pipe.xinfo_stream(key)
    found = {}
    for key, said in zip(keys, await pipe.execute(raise_on_error=False), strict=True):
        if isinstance(said, TRANSIENT):
            raise said
        if isinstance(said, ResponseError):
            _log.warning("reader.not_looked", key=key, error=str(said))
        elif said["first-entry"]:
            found[key] = _look(said)
    return found


def _look(said: Mapping[str, Any]) -> Look:
    added = said.get("entries-added")
    before = None if added is None else added - said["length"]
    return Look(said["first-entry"][0].decode(), said["last-entry"][0].decode(), added, before)


def _ms(entry: str) -> int:
    return order_of(entry)[0]
