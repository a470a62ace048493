"""kombu's transports with repairs. Redis: an outage ends no worker, and neither does a bad list entry. AMQP: a task's
message that the broker did not confirm was not sent.

`install` puts them in the place of the stock ones, failover lists included; whatever else there is stays what it is.
"""

import kombu.transport

from workers.transport.channel import MAX_LETTERS, Channel, QoS, Transport

__all__ = ["MAX_LETTERS", "Channel", "QoS", "Transport", "install"]

_PATHS = {
    "redis": "workers.transport:Transport",
    "rediss": "workers.transport:Transport",
    "amqp": "workers.transport.confirming:Transport",
    "pyamqp": "workers.transport.confirming:Transport",
    "amqps": "workers.transport.confirming:SSLTransport",
}


def install() -> None:
    """Have every connection that is made from now on in this process use them. May be called again."""
    for alias, path in _PATHS.items():
        kombu.transport.TRANSPORT_ALIASES[alias] = path
        # kombu remembers what an alias meant when it was first used.
        kombu.transport._transport_cache.pop(alias, None)  # noqa: SLF001
