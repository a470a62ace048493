"""Reading one entry of a broker list: an envelope, or the reason why it is none.

Pure. Written against what kombu reads without a guard (`reference: Celery protocol 2 over Redis`): an entry that passes
here makes it raise nothing in the consumer's thread. What is in the envelope is `inspection`'s.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from kombu.utils.json import loads

from workers.transport.letters import Refused

Message = dict[str, Any]

DecodeBody = Callable[[str, str | None], bytes | str]
"""The channel's: it undoes `body_encoding`."""

HEADER_BYTES: Final = 64 * 1024
"""What an entry may have beside its body."""

_GLIMPSE_BYTES: Final = 16 * 1024
_NAMED: Final = re.compile(rb'"(task|id)": ?"([^"\\]{1,256})"')


class Undecodable(Refused):
    """The entry is no message; the text says why, without its content."""

    def __init__(self, why: str) -> None:
        super().__init__("malformed", why)


def most_entry_bytes(message_bytes: int) -> int:
    """Return the size that a list entry with a body of this size may have: base64 makes four bytes of three."""
    return message_bytes * 4 // 3 + HEADER_BYTES


def glimpse(entry: bytes) -> tuple[str, str]:
    """Return the task and the id in an entry that is too large to be read, as far as they are near its ends."""
    found = dict(_NAMED.findall(entry[:_GLIMPSE_BYTES]) + _NAMED.findall(entry[-_GLIMPSE_BYTES:]))
    return found.get(b"task", b"").decode(errors="replace"), found.get(b"id", b"").decode(errors="replace")


def read_entry(entry: bytes, decode_body: DecodeBody) -> Message:
    """Return the message in a list entry, or raise `Undecodable`."""
    try:
        message = loads(entry.decode("utf-8"))
    except (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError) as exc:
        raise Undecodable(f"not JSON: {type(exc).__name__}") from exc
    check_envelope(message, decode_body)
    return message  # type: ignore[no-any-return]  # kombu's loads is not typed


def check_envelope(message: Any, decode_body: DecodeBody) -> None:
    """Raise `Undecodable` for what is no envelope."""
    if not isinstance(message, dict):
        raise Undecodable(f"not an object but {kind_of(message)}")
    _need(message, "headers", dict)
    properties = _need(message, "properties", dict)
    if not _need(properties, "delivery_tag", str, "properties."):
        raise Undecodable("properties.delivery_tag is empty")
    delivery_info = _need(properties, "delivery_info", dict, "properties.")
    for name in ("exchange", "routing_key"):
        if delivery_info.get(name, "") is not None:
            _need(delivery_info, name, str, "properties.delivery_info.")
    for name in ("content-type", "content-encoding"):
        _need(message, name, str)
    _check_body(message, properties, decode_body)


def _check_body(message: Message, properties: Message, decode_body: DecodeBody) -> None:
    body = _need(message, "body", str)
    encoding = properties.get("body_encoding")
    if encoding is not None and not isinstance(encoding, str):
        raise Undecodable(f"properties.body_encoding is {kind_of(encoding)}")
    try:
        decode_body(body, encoding)
    except (ValueError, TypeError, AttributeError, LookupError) as exc:
        raise Undecodable(f"body is not {encoding}") from exc


def _need(holder: Mapping[str, Any], name: str, kind: type, where: str = "") -> Any:
    if name not in holder:
        raise Undecodable(f"{where}{name} is missing")
    if not isinstance(holder[name], kind):
        raise Undecodable(f"{where}{name} is {kind_of(holder[name])}")
    return holder[name]


def kind_of(value: object) -> str:
    """Return what a JSON value is, for a person."""
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number" if isinstance(value, int | float) else "something else"
    )
