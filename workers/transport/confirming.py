"""kombu's AMQP transport with two repairs: what was not confirmed was not sent, and a bad message ends no worker.

The stock channel hands a message to the socket and calls it sent; with `confirm_publish` it waits without a bound, for
events too. Here what is persistent (tasks) waits for its confirm, and what is transient (events, replies to remote
control, which leave from Celery's hub) waits for nothing. A task's message whose body Celery would stumble over, out of
its hub and so out of the worker, is rejected before Celery sees it.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from amqp.exceptions import MessageNacked, RecoverableChannelError
from kombu.transport.pyamqp import Channel as AmqpChannel
from kombu.transport.pyamqp import Connection as AmqpConnection
from kombu.transport.pyamqp import SSLTransport as AmqpsTransport
from kombu.transport.pyamqp import Transport as AmqpTransport

from workers.transport.envelope import Undecodable, check_task

logger = logging.getLogger(__name__)

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

    def basic_consume(self, *args: Any, **kwargs: Any) -> Any:
        """Consume; messages that are no task although they say so are not handed on."""
        if callback := kwargs.get("callback"):
            kwargs["callback"] = self._checked(callback)
        return super().basic_consume(*args, **kwargs)

    def _checked(self, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def check(raw: Any) -> Any:
            try:
                _check(raw)
            except Undecodable as exc:
                # RabbitMQ's own dead letters: they go where a policy of the operator says, or nowhere.
                logger.error("a message in %s is dropped: %s", raw.delivery_info.get("routing_key"), exc)
                return self.basic_reject(raw.delivery_tag, requeue=False)
            return callback(raw)

        return check


def _check(raw: Any) -> None:
    headers = raw.properties.get("application_headers") or {}
    if "task" in headers:
        body = raw.body if isinstance(raw.body, str) else bytes(raw.body)
        check_task(headers, raw.properties, raw.properties.get("content_type"), body)


class Connection(AmqpConnection):
    """A connection that makes such channels."""

    Channel = Channel


class Transport(AmqpTransport):
    """For `amqp://` and `pyamqp://`."""

    Connection = Connection


class SSLTransport(AmqpsTransport):
    """For `amqps://`."""

    Connection = Connection
