"""The way in and out: what the worker takes from a broker, what it refuses, and when a message counts as sent.

kombu's Redis transport with two repairs (`channel`): an outage of Redis ends no worker, and neither does a bad list
entry. Its AMQP transport with one (`confirming`): what the broker did not confirm was not sent. Celery's consumer with
a guard before it (`consumer`, `inspection`), on every broker. `install` puts the transports in the place of the stock
ones, failover lists included.
"""

import kombu.compression
import kombu.transport

from workers.transport.channel import Channel, QoS, Transport
from workers.transport.letters import MAX_LETTERS, message_refused

__all__ = ["MAX_LETTERS", "Channel", "QoS", "Transport", "install", "message_refused"]

_PATHS = {
    "redis": "workers.transport:Transport",
    "rediss": "workers.transport:Transport",
    "amqp": "workers.transport.confirming:Transport",
    "pyamqp": "workers.transport.confirming:Transport",
    "amqps": "workers.transport.confirming:SSLTransport",
}


def install() -> None:
    """Have every connection that is made from now on in this process use them. May be called again.

    Nothing that comes in is decompressed from now on: kombu would do that before anyone could look at the message, and
    a kilobyte may hold a gigabyte.
    """
    for kind in kombu.compression.encoders():
        encoder, _ = kombu.compression.get_encoder(kind)
        kombu.compression.register(encoder, _not_decompressed, kind)
    for alias, path in _PATHS.items():
        kombu.transport.TRANSPORT_ALIASES[alias] = path
        # kombu remembers what an alias meant when it was first used.
        kombu.transport._transport_cache.pop(alias, None)  # noqa: SLF001


def _not_decompressed(_body: bytes) -> bytes:
    raise ValueError("compressed messages are not taken")
