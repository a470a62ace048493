"""The note that a message is under way to its task, while Redis has not answered yet.

kombu's own two commands, in kombu's words, on a line of the channel's pool that is held until the answer is read.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any, Final, Self

from kombu.transport.redis import Transport
from kombu.utils.json import dumps
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger(__name__)

_REPLIES: Final = 4
"""To MULTI, to each of the two commands, and to EXEC."""
_BROKEN: Final = (RedisError, *Transport.connection_errors)


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was sent."""

    message: Any
    tag: str
    _channel: Any
    _connection: Any

    @classmethod
    def sent(cls, channel: Any, message: Any, tag: str) -> Self | None:
        """Send the note of a message; return None when it could not be sent."""
        where, prefix = message.delivery_info, channel.global_keyprefix
        kept = dumps([message._raw, where["exchange"], where["routing_key"]])  # noqa: SLF001 - as kombu keeps it
        commands = (
            ("MULTI",),
            ("ZADD", f"{prefix}{channel.unacked_index_key}", time.time(), tag),
            ("HSET", f"{prefix}{channel.unacked_key}", tag, kept),
            ("EXEC",),
        )
        try:
            connection = channel.pool.get_connection()
        except _BROKEN:
            return None
        note = cls(message, tag, channel, connection)
        try:
            connection.send_packed_command(connection.pack_commands(commands))
        except _BROKEN:
            note._give_up()
            return None
        except BaseException:
            note._give_up()
            raise
        return note

    def is_kept(self) -> bool:
        """Read the answer; return False when there is none. A refusal, of a full server say, is an answer: the message
        is with its task, and would be lost only with this process.
        """
        try:
            *_, done = [self._connection.read_response() for _ in range(_REPLIES)]
        except ResponseError as exc:
            self._give_up()
            self._tell(exc)
            return True
        except _BROKEN:
            self._give_up()
            return False
        except BaseException:
            self._give_up()
            raise
        self._channel.pool.release(self._connection)
        for each in done:
            if isinstance(each, ResponseError):
                self._tell(each)
        return True

    def _tell(self, refusal: ResponseError) -> None:
        logger.warning("message %s is not noted as unacknowledged: %s", self.tag, refusal)

    def _give_up(self) -> None:
        """Close the line: an answer that nobody read would be the next one's."""
        self._connection.disconnect()
        self._channel.pool.release(self._connection)
