"""What kombu remembers on Redis of queues whose consumers died: forgotten here, member by member.

Each worker, each Flower and each `inspect` binds a queue of its own to an exchange of Celery's (remote control,
replies, events). A process that is killed leaves its member in the exchange's set. kombu 5.7 takes such a set away when
nobody has refreshed any member of it for an hour: never, where one worker lives. So each member has a time of its own
here, in a sorted set beside them: `keys.BINDINGS`, by the time (ms) at which it goes unless its process says again that
it lives.
"""

from collections.abc import Sequence
from typing import Any, Final

from api_contracts import keys

_FORGET: Final = """
-- Forget bindings whose time has come, oldest first.   KEYS the times   ARGV most of them in one go
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, each in ipairs(overdue) do
  local set, member = unpack(cjson.decode(each))
  redis.call('SREM', set, member)
  redis.call('ZREM', KEYS[1], each)
end
return #overdue
"""
_KEEP: Final = """
-- Give bindings their time.   KEYS the times   ARGV ttl (ms), then the bindings
local time = redis.call('TIME')
local till = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'GT', till, ARGV[i]) end
"""


def keep(client: Any, bindings: Sequence[str], ttl_ms: int) -> None:
    """Give bindings (`name_of`) their time from now. Before kombu writes them: one that was written has its time."""
    client.eval(_KEEP, 1, keys.BINDINGS, ttl_ms, *bindings)


def drop(client: Any, binding: str) -> None:
    """Forget the time of a binding that its process took away."""
    client.zrem(keys.BINDINGS, binding)


def forget(client: Any, most: int) -> int:
    """Take away bindings whose time has come, at most so many; return how many. A living process binds again."""
    return int(client.eval(_FORGET, 1, keys.BINDINGS, most))
