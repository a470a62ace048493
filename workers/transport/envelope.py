"""Reading one entry of a broker list: a message, or the reason why it is none.

Pure. Written against what kombu and Celery read without a guard (`reference: Celery protocol 2 over Redis`): an entry
that passes here makes neither of them raise in the consumer's thread.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from kombu.utils.json import loads

Message = dict[str, Any]

_JSON: Final = "application/json"


class Undecodable(ValueError):
    """The entry is no message; the text says why, without its content."""


def read_entry(entry: bytes, decode_body: Callable[[str, str | None], bytes | str]) -> Message:
    """Return the message in a list entry, or raise `Undecodable`.

    `decode_body` is the channel's: it undoes `body_encoding`. A message with a `task` header is read as a task of
    protocol 2; others (replies to remote control, for one) need only be an envelope.
    """
    try:
        message = loads(entry.decode("utf-8"))
    except (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError) as exc:
        raise Undecodable(f"not JSON: {type(exc).__name__}") from exc
    body = check_envelope(message, decode_body)
    if "task" in message["headers"]:
        check_task(message["headers"], message["properties"], message["content-type"], body)
    return message  # type: ignore[no-any-return]  # kombu's loads is not typed


def check_envelope(message: Any, decode_body: Callable[[str, str | None], bytes | str]) -> bytes | str:
    """Return the body of a message, still encoded as its content type says, or raise `Undecodable`."""
    if not isinstance(message, dict):
        raise Undecodable(f"not an object but {_kind(message)}")
    _need(message, "headers", dict)
    properties = _need(message, "properties", dict)
    if not _need(properties, "delivery_tag", str, "properties."):
        raise Undecodable("properties.delivery_tag is empty")
    delivery_info = _need(properties, "delivery_info", dict, "properties.")
    for name in ("exchange", "routing_key"):
        _allow(delivery_info, name, str, "properties.delivery_info.", required=True)
    for name in ("content-type", "content-encoding"):
        _need(message, name, str)
    return _body(message, properties, decode_body)


def _body(message: Message, properties: Message, decode_body: Callable[..., bytes | str]) -> bytes | str:
    body = _need(message, "body", str)
    encoding = _allow(properties, "body_encoding", str, "properties.")
    try:
        return decode_body(body, encoding)
    except (ValueError, TypeError, AttributeError, LookupError) as exc:
        raise Undecodable(f"body is not {encoding}") from exc


def check_task(headers: Message, properties: Message, content_type: Any, body: bytes | str) -> None:
    """Check a task of protocol 2, or raise `Undecodable`."""
    _check_headers(headers, properties)
    _check_arguments(content_type, body)


def _check_headers(headers: Message, properties: Message) -> None:
    for name in ("task", "id"):
        if not _need(headers, name, str, "headers."):
            raise Undecodable(f"headers.{name} is empty")
    for name in ("shadow", "eta", "expires", "root_id", "parent_id", "group", "compression"):
        _allow(headers, name, str, "headers.")
    for name in ("correlation_id", "reply_to"):
        _allow(properties, name, str, "properties.")
    _allow(headers, "stamps", dict, "headers.")
    stamped = _allow(headers, "stamped_headers", list, "headers.") or []
    if not all(isinstance(each, str) for each in stamped):
        raise Undecodable("headers.stamped_headers is not a list of strings")
    retries = headers.get("retries")
    if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int)):
        raise Undecodable(f"headers.retries is {_kind(retries)}")
    _check_limits(_allow(headers, "timelimit", list, "headers."))


def _check_limits(limits: list[Any] | None) -> None:
    if limits is None or not limits:
        return
    numbers = [each for each in limits if each is not None]
    if len(limits) != 2 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise Undecodable("headers.timelimit is not [hard, soft]")


def _check_arguments(content_type: Any, body: bytes | str) -> None:
    """Check `[args, kwargs, embed]`; only JSON is ever decoded here, as elsewhere in the service."""
    if content_type != _JSON:
        raise Undecodable("content-type is not application/json")
    try:
        arguments = loads(body.decode("utf-8") if isinstance(body, bytes) else body)
    except (ValueError, TypeError, ArithmeticError, AttributeError, RecursionError) as exc:
        raise Undecodable(f"body is not JSON: {type(exc).__name__}") from exc
    if not isinstance(arguments, list) or len(arguments) != 3:
        raise Undecodable("body is not [args, kwargs, embed]")
    args, kwargs, embed = arguments
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed, dict | None)):
        raise Undecodable("body is not [args, kwargs, embed]: wrong types inside")


def _need(holder: Mapping[str, Any], name: str, kind: type, where: str = "") -> Any:
    if name not in holder:
        raise Undecodable(f"{where}{name} is missing")
    if not isinstance(holder[name], kind):
        raise Undecodable(f"{where}{name} is {_kind(holder[name])}")
    return holder[name]


def _allow(holder: Mapping[str, Any], name: str, kind: type, where: str = "", *, required: bool = False) -> Any:
    if required and name not in holder:
        raise Undecodable(f"{where}{name} is missing")
    value = holder.get(name)
    if value is not None and not isinstance(value, kind):
        raise Undecodable(f"{where}{name} is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number" if isinstance(value, int | float) else "something else"
    )


def letter(queue: str, entry: bytes, reason: str, at_ms: int, max_bytes: int) -> str:
    """Return the dead letter of an entry, as JSON: `queue`, `reason`, `at`, `bytes`, `entry` (cut at `max_bytes`)."""
    return json.dumps(
        {
            "queue": queue,
            "reason": reason,
            "at": at_ms,
            "bytes": len(entry),
            "entry": entry[:max_bytes].decode("utf-8", errors="replace"),
        }
    )
