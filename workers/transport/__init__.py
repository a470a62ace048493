"""kombu's Redis transport with two repairs: an outage of Redis ends no worker, and neither does a bad list entry.

`install` puts it in the place of the stock transport for `redis://` and `rediss://`, failover lists included; amqp and
everything else stay what they are.
"""

import kombu.transport

from workers.transport.channel import MAX_LETTERS, Channel, QoS, Transport, refused

__all__ = ["MAX_LETTERS", "Channel", "QoS", "Transport", "install", "refused"]

_PATH = "workers.transport:Transport"


def install() -> None:
    """Have every `redis://` connection that is made from now on in this process use it. May be called again."""
    for alias in ("redis", "rediss"):
        kombu.transport.TRANSPORT_ALIASES[alias] = _PATH
        # kombu remembers what an alias meant when it was first used.
        kombu.transport._transport_cache.pop(alias, None)  # noqa: SLF001
