"""The way in: what the worker takes from a broker, and what it refuses.

kombu's Redis transport with two repairs (`channel`): an outage of Redis ends no worker, and neither does a bad list
entry. Celery's consumer with a guard before it (`consumer`, `inspection`), on every broker. `install` puts the
transport in the place of the stock one for `redis://` and `rediss://`, failover lists included; other brokers keep
theirs.
"""

import kombu.compression
import kombu.transport

from workers.transport.channel import Channel, QoS, Transport
from workers.transport.letters import MAX_LETTERS, message_refused

__all__ = ["MAX_LETTERS", "Channel", "QoS", "Transport", "install", "message_refused"]

_PATH = "workers.transport:Transport"


def install() -> None:
    """Have every `redis://` connection that is made from now on in this process use it. May be called again.

    Nothing that comes in is decompressed from now on: kombu would do that before anyone could look at the message, and
    a kilobyte may hold a gigabyte.
    """
    for kind in kombu.compression.encoders():
        encoder, _ = kombu.compression.get_encoder(kind)
        kombu.compression.register(encoder, _not_decompressed, kind)
    for alias in ("redis", "rediss"):
        kombu.transport.TRANSPORT_ALIASES[alias] = _PATH
        # kombu remembers what an alias meant when it was first used.
        kombu.transport._transport_cache.pop(alias, None)  # noqa: SLF001


def _not_decompressed(_body: bytes) -> bytes:
    raise ValueError("compressed messages are not taken")
