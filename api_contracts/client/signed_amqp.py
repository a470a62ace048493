"""Celery's message sender, signing. The one place where our apps sign: client, workers, beat, links and re-sends."""

from collections.abc import Callable
from typing import Any, Final

from celery.app.amqp import AMQP
from kombu.serialization import dumps
from kombu.utils.encoding import str_to_bytes

from api_contracts.signing import HEADER, NO_KEYS, SigningKeys

KEYS: Final = "fw_signing"
"""The app's configuration key that holds `SigningKeys`."""


class SignedAmqp(AMQP):
    """Selected by `Celery(amqp=SignedAmqp)`; without keys in the app's configuration nothing differs.

    The body is serialised here and handed on as text, so that what is signed is what is sent. A signature that came
    with the options, as in the stored message of a caller, is replaced: the body has changed since.
    """

    def _create_task_sender(self) -> Callable[..., Any]:
        send: Callable[..., Any] = super()._create_task_sender()  # type: ignore[no-untyped-call]
        keys = self.app.conf.get(KEYS) or NO_KEYS
        return _signing(send, keys) if keys else send


def _signing(send: Callable[..., Any], keys: SigningKeys) -> Callable[..., Any]:
    def send_signed(producer: Any, name: str, message: Any, headers: Any = None, **options: Any) -> Any:
        options |= {"compression": None, "serializer": None}
        content_type, encoding, body = dumps(message.body, serializer="json")
        known = {**message.headers, **(headers or {})}
        signature = keys.sign(known["task"], known["id"], str_to_bytes(body))
        typed = {**message.properties, "content_type": content_type, "content_encoding": encoding}
        signed = message._replace(body=body, properties=typed)
        return send(producer, name, signed, headers={**(headers or {}), HEADER: signature}, **options)

    return send_signed
