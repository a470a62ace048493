"""The channel, its acknowledgements, and the transport that makes them.

Owns what differs from kombu's: reading a list entry, closing, acknowledging after the close. The rest is inherited.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty
from typing import Any, Final

import redis
from kombu.transport.redis import Channel as RedisChannel
from kombu.transport.redis import QoS as RedisQoS
from kombu.transport.redis import Transport as RedisTransport
from kombu.transport.virtual import QoS as VirtualQoS
from kombu.utils.encoding import bytes_to_str, str_to_bytes
from kombu.utils.json import dumps

from api_contracts import keys
from workers.transport import bindings, letters
from workers.transport.envelope import Undecodable, check_envelope, glimpse, most_entry_bytes, read_entry
from workers.transport.inspection import MESSAGE_BYTES
from workers.transport.letters import Letter, Refused
from workers.transport.noting import Note

logger = logging.getLogger(__name__)

_LATE_ACK_S: Final = 1.0
"""An acknowledgement after the close is worth this much of the hub's time."""

_REPLIES: Final = ".reply.celery.pidbox"
_REPLY_MS: Final = 60_000
"""An asker reads replies for a second or some, and its queue lasts ten."""

# kombu counts KeyError as a lost connection, which a poison entry can raise just as well.
_OUTAGES: Final = tuple(
    each for each in (*RedisTransport.connection_errors, *RedisTransport.channel_errors) if each is not KeyError
)


class QoS(RedisQoS):
    """Acknowledgements. A message that is rejected for good becomes a dead letter.

    What is unacknowledged is noted in Redis, so that it can be delivered again. Used by the consumer's thread.
    """

    _defers = False
    _note: Note | None = None

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Have the notes of messages that are delivered within sent as ever, and Redis' answer read at the end: the
        task begins meanwhile. kombu waits for it, a trip to Redis for each message before anyone sees it.
        """
        self._defers = True
        try:
            yield
        finally:
            self._defers = False
            self._settle()

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message that is being delivered."""
        self._settle()
        if self._defers and (note := Note.sent(self.channel, message, delivery_tag)):
            self._note = note
            VirtualQoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def _settle(self) -> None:
        """See to it that what was delivered is noted. Where the line broke it is noted over another one."""
        note, self._note = self._note, None
        if note is not None and not note.is_kept():
            super().append(note.message, note.tag)

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
            self.channel.bury(message, Refused("rejected", "rejected by the worker: invalid or refused by its task"))
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

    # Ours alone: whoever looks for messages that were held for too long sees everybody's in kombu's own hash, and would
    # have a slow task of another service delivered twice.
    unacked_key = keys.UNACKED
    unacked_index_key = f"{keys.UNACKED}:index"
    unacked_mutex_key = f"{keys.UNACKED}:mutex"
    unacked_mutex_expire = 15
    # What a killed worker had fetched comes again after this, at the next of kombu's looks, which are 10 s apart. A
    # tool's result is in no journal yet, and must not come later than the call's deadline. Twice does no harm to us.
    visibility_timeout = 30
    unacked_restore_throttle = 1

    from_transport_options: Any = (*RedisChannel.from_transport_options, "message_bytes")
    message_bytes: int = MESSAGE_BYTES
    """A list entry that must hold a larger body is not read."""

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

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        """Put a message into a list. A reply to remote control goes with its asker, which may be dead by now."""
        super()._put(queue, message, **kwargs)
        if queue.endswith(_REPLIES) and queue not in self._expires:
            with self.conn_or_acquire() as client:
                client.pexpire(queue, _REPLY_MS)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Bind; a binding of a queue that expires is forgotten when its process is (`bindings`)."""
        if queue in self._expires:
            bindings.keep(
                self._plain_client(), [self._binding(exchange, routing_key, pattern, queue)], self._binding_ttl(queue)
            )
        super()._queue_bind(exchange, routing_key, pattern, queue)

    def _refresh_bindings(self, queues: Sequence[str]) -> None:
        """Say that the process lives."""
        for queue in queues:
            bound = [
                self._binding(exchange, *self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments))
                for exchange, routing_key, arguments in self.state.queue_bindings(queue)
            ]
            bindings.keep(self._plain_client(), bound, self._binding_ttl(queue))
        super()._refresh_bindings(queues)

    def sweep_bindings(self, limit: int = 100) -> int:
        """Forget what dead processes have bound: whole tables as kombu does, and their members in the others."""
        return int(super().sweep_bindings(limit)) + bindings.forget(self._plain_client(), limit)

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any) -> None:
        super()._delete(queue, exchange, routing_key, pattern, *args, **kwargs)
        bindings.drop(self._plain_client(), self._binding(exchange, routing_key, pattern, queue))

    def _binding(self, exchange: str, routing_key: str, pattern: str, queue: str) -> str:
        """Return the set of a binding and its name there, in kombu's words for them."""
        table = self.global_keyprefix + self.keyprefix_queue % (exchange,)
        return json.dumps([table, self.sep.join([routing_key or "", pattern or "", queue or ""])])

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
        if len(entry) > (most := most_entry_bytes(self.message_bytes)):
            self._bury_entry(queue, entry, Refused("too_large", f"the entry has {len(entry)} bytes, over {most}"))
            return
        try:
            message = read_entry(entry, self.decode_body)
        except Undecodable as exc:
            self._bury_entry(queue, entry, exc)
            return
        try:
            with self.qos.deferring():
                self.connection._deliver(message, queue)  # noqa: SLF001 - kombu's own way in
        except (*_OUTAGES, MemoryError):
            raise
        except Exception as exc:
            # Nothing above reads an entry without a guard any more, but one that found a way must not end the worker.
            logger.exception("a message of %s could not be taken", queue)
            self._bury_entry(queue, entry, Refused("malformed", f"the worker could not take it: {type(exc).__name__}"))
            self.qos.ack(message["properties"]["delivery_tag"])

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        """Deliver a broadcast; drop what is none, as there is no queue it was lost from."""
        try:
            check_envelope(message, self.decode_body)
        except Undecodable as exc:
            logger.warning("a broadcast on %s was dropped: %s", exchange, exc)
            return False
        return bool(super()._deliver_fanout_message(message, exchange))

    def bury(self, message: Any, refused: Refused) -> None:
        """Write the dead letter of a delivered message."""
        queue, headers = str(message.delivery_info.get("routing_key")), message.headers
        # What the list held, in kombu's own words for it; the body last, where a letter is cut.
        raw = dict(message._raw)  # noqa: SLF001
        body = raw.pop("body", "")
        entry = str_to_bytes(dumps(raw | {"body": body}))
        task, task_id = str(headers.get("task", "")), str(headers.get("id", ""))
        letters.bury(self._plain_client(), Letter(queue, entry, len(entry), task, task_id), refused)

    def _bury_entry(self, queue: str, entry: bytes, refused: Refused) -> None:
        letters.bury(self._plain_client(), Letter(queue, entry, len(entry), *glimpse(entry)), refused)

    def _plain_client(self) -> "redis.Redis":
        """Return a client without `global_keyprefix`: our own keys are the same everywhere."""
        return redis.Redis(connection_pool=self.pool)


class Transport(RedisTransport):
    """kombu's Redis transport with our channel."""

    Channel = Channel
