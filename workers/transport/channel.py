"""The channel, its acknowledgements, and the transport that makes them.

Owns what differs from kombu's: reading a list entry, closing, acknowledging after the close. The rest is inherited.
"""

import logging
import time
from queue import Empty
from typing import Any, Final

import redis
from celery.utils.dispatch import Signal
from kombu.transport.redis import Channel as RedisChannel
from kombu.transport.redis import QoS as RedisQoS
from kombu.transport.redis import Transport as RedisTransport
from kombu.utils.encoding import bytes_to_str, str_to_bytes
from kombu.utils.json import dumps

from api_contracts import keys
from workers.transport.envelope import Undecodable, check_envelope, letter, read_entry

logger = logging.getLogger(__name__)

MAX_LETTERS: Final = 10_000
"""The dead-letter list keeps the newest of them."""

MAX_ENTRY_BYTES: Final = 8_192
"""A dead letter carries this much of its entry: 80 MB for a full list."""

_LATE_ACK_S: Final = 1.0
"""An acknowledgement after the close is worth this much of the hub's time."""

# kombu counts KeyError as a lost connection, which a poison entry can raise just as well.
_OUTAGES: Final = tuple(
    each for each in (*RedisTransport.connection_errors, *RedisTransport.channel_errors) if each is not KeyError
)


refused: Final = Signal(name="message_refused", providing_args={"reason"})
"""Sent for each message that is not taken. `reason` is one of a few fixed words. Celery has signals of its own for what
it refuses later (`task_unknown`, `task_rejected`)."""


class QoS(RedisQoS):
    """Acknowledgements. A message that is rejected for good becomes a dead letter."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; on a channel that is gone, over a connection made for it, and quietly.

        The unacknowledged messages are kept in Redis by tag and not by connection, so this still works then and
        spares a redelivery after the visibility timeout.
        """
        if not self.channel.gone:
            try:
                super().ack(delivery_tag)
            except RedisTransport.connection_errors:
                super().ack(delivery_tag)  # a connection that was cut while it was idle fails once
            return
        try:
            super().ack(delivery_tag)
        except _OUTAGES as exc:
            logger.info("acknowledgement of %s dropped, its channel is gone: %r", delivery_tag, exc)
        finally:
            self.channel.disconnect()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put the message back, or bury it. On a channel that is gone it stays for the visibility timeout."""
        if self.channel.gone:
            logger.info("rejection of %s dropped, its channel is gone", delivery_tag)
            return
        message = self._delivered.get(delivery_tag)
        if not requeue and message is not None:
            queue = str(message.delivery_info.get("routing_key"))
            # What the list held, in kombu's own words for it.
            entry = str_to_bytes(dumps(message._raw))  # noqa: SLF001
            self.channel.bury(queue, entry, "rejected by the worker: unknown, invalid or refused by its task")
        super().reject(delivery_tag, requeue=requeue)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Put back what is unacknowledged, as the channel closes, if Redis can be asked.

        If not, the messages stay among the unacknowledged ones for the visibility timeout, and the jobs that this
        process has for them go on. kombu raises here, out of the consumer's reconnect, and so ends the worker.
        """
        try:
            if not self.channel.gone:
                super().restore_unacked_once(stderr)
        except _OUTAGES as exc:
            logger.warning("%d messages not put back, Redis is away: %r", len(self._delivered), exc)
        finally:
            self._on_collect.cancel()
            self._delivered.clear()


class Channel(RedisChannel):
    """A channel that survives the loss of its connection and the poison in its queues."""

    QoS = QoS

    _known_params: dict[str, Any] | None = None

    @property
    def gone(self) -> bool:
        """Whether the channel or its transport was closed, so that there is nobody to ask for a connection."""
        return self.connection is None or self.connection.client is None

    def close(self) -> None:
        """Close, whether or not Redis is there; a lost connection is no reason to stay half open."""
        try:
            super().close()
        except _OUTAGES as exc:
            logger.debug("the connection was lost before its channel was closed: %r", exc)
            self._in_poll = False
            # Deleting them asks Redis. They expire by themselves.
            self.auto_delete_queues.clear()
            super().close()
        finally:
            # Putting messages back made connections again, without the bound of a late acknowledgement.
            self.disconnect()

    def disconnect(self) -> None:
        """Drop all connections; the next use makes new ones."""
        self._disconnect_pools()

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Return how to connect; remembered, because a channel that is gone still has messages to acknowledge."""
        if self._known_params is not None and self.gone:
            late = {"socket_timeout": _LATE_ACK_S, "socket_connect_timeout": _LATE_ACK_S}
            return {**self._known_params, **late}
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        if not asynchronous:
            self._known_params = params
        return params

    def _brpop_read(self, **options: Any) -> bool:
        """Read the reply to BRPOP and deliver its entry. Raises Empty if there was none."""
        try:
            popped = self._read_popped(options)
            if not popped:
                raise Empty
            key, entry = popped
            queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._take(queue, str_to_bytes(entry))
            return True
        finally:
            self._in_poll = False
            self._flush_brpop_reauth()

    def _read_popped(self, options: dict[str, Any]) -> Any:
        connection = self.client.connection
        try:
            return self.client.parse_response(connection, "BRPOP", **options)
        except self.connection_errors:
            connection.disconnect()  # the next round connects again
            raise

    def _take(self, queue: str, entry: bytes) -> None:
        """Deliver an entry, or bury it."""
        try:
            message = read_entry(entry, self.decode_body)
        except Undecodable as exc:
            refused.send(sender=None, reason="undecodable")
            self.bury(queue, entry, str(exc))
            return
        try:
            self.connection._deliver(message, queue)  # noqa: SLF001 - kombu's own way in
        except (*_OUTAGES, MemoryError):
            raise
        except Exception as exc:
            # Nothing above reads an entry without a guard any more, but one that found a way must not end the worker.
            logger.exception("a message of %s could not be taken", queue)
            refused.send(sender=None, reason="not_taken")
            self.bury(queue, entry, f"the worker could not take it: {type(exc).__name__}")
            self.qos.ack(message["properties"]["delivery_tag"])

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        """Deliver a broadcast; drop what is none, as there is no queue it was lost from."""
        try:
            check_envelope(message, self.decode_body)
        except Undecodable as exc:
            logger.warning("a broadcast on %s was dropped: %s", exchange, exc)
            return False
        return bool(super()._deliver_fanout_message(message, exchange))

    def bury(self, queue: str, entry: bytes, reason: str) -> None:
        """Write a dead letter, newest first. The key is the same whatever `global_keyprefix` says."""
        logger.error("dead letter from %s, %d bytes: %s", queue, len(entry), reason)
        dead = letter(queue, entry, reason, int(time.time() * 1000), MAX_ENTRY_BYTES)
        client = redis.Redis(connection_pool=self.pool)
        with client.pipeline(transaction=False) as pipe:
            pipe.lpush(keys.DEAD_LETTERS, dead)
            pipe.ltrim(keys.DEAD_LETTERS, 0, MAX_LETTERS - 1)
            try:
                pipe.execute()
            except redis.ResponseError as exc:
                # A full server or a missing permission: the letter is lost, its reason is in the log.
                logger.error("the dead letter could not be written: %s", exc)


class Transport(RedisTransport):
    """kombu's Redis transport with our channel."""

    Channel = Channel
