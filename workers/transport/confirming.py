"""kombu's AMQP transport with one repair: what was not confirmed was not sent.

The stock channel hands a message to the socket and calls it sent; with `confirm_publish` it waits without a bound, for
events too. Here what is persistent (tasks) waits for its confirm, and what is transient (events, replies to remote
control, which leave from Celery's hub) waits for nothing.
"""

from typing import Any, Final

from amqp.exceptions import MessageNacked, RecoverableChannelError
from kombu.transport.pyamqp import Channel as AmqpChannel
from kombu.transport.pyamqp import Connection as AmqpConnection
from kombu.transport.pyamqp import SSLTransport as AmqpsTransport
from kombu.transport.pyamqp import Transport as AmqpTransport

CONFIRM_S: Final = 5.0
"""A healthy broker confirms within milliseconds; under a memory or disk alarm it reads nothing from us."""

_PERSISTENT: Final = 2


class Channel(AmqpChannel):
    """A channel whose persistent messages are confirmed, or raise a connection error within `CONFIRM_S`."""

    def basic_publish(self, msg: Any, *args: Any, **kwargs: Any) -> Any:
        """Publish. A timeout's error makes kombu drop the connection, so no late confirm is taken for another's."""
        # Confirms are counted by channel: once they are on, every message must wait for its own.
        if not self._confirm_selected and msg.properties.get("delivery_mode") != _PERSISTENT:
            kwargs.pop("confirm_timeout", None)
            return self._basic_publish(msg, *args, **kwargs)
        kwargs["confirm_timeout"] = kwargs.get("confirm_timeout") or CONFIRM_S
        kwargs["timeout"] = kwargs.get("timeout") or CONFIRM_S
        try:
            return self.basic_publish_confirm(msg, *args, **kwargs)
        except MessageNacked as exc:  # which kombu does not know
            raise RecoverableChannelError("the broker refused the message") from exc


class Connection(AmqpConnection):
    """A connection that makes such channels."""

    Channel = Channel


class Transport(AmqpTransport):
    """For `amqp://` and `pyamqp://`."""

    Connection = Connection


class SSLTransport(AmqpsTransport):
    """For `amqps://`."""

    Connection = Connection
