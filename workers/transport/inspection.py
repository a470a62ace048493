"""What a task message must be before anybody reads it: small, plain, JSON, signed if signing is on, of protocol 2.

Pure, and the same for every broker. Written against what Celery reads without a guard in the consumer's thread.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from kombu.utils.json import loads

from api_contracts.names import DELIVER
from api_contracts.signing import HEADER, NO_KEYS, SigningKeys
from workers.transport.envelope import HEADER_BYTES, kind_of
from workers.transport.letters import Refused

MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Default bound of a body."""

MAX_DEPTH: Final = 128
"""Lists and objects within each other. A JSON schema of a tool needs a dozen; each level costs every reader a frame."""

MAX_NAME: Final = 512
"""Characters of a task's name or id. A run's id has 128; whoever comes near is told so in a failure of his own."""

MAX_CONTAINERS: Final = 1_000_000
"""Lists and objects in a body: each costs its reader fifty times its two bytes."""

_JSON: Final = "application/json"
_TEXTS: Final = ("shadow", "eta", "expires", "root_id", "parent_id", "group", "argsrepr", "kwargsrepr", "origin")

_BRACKETS: Final = b"[{]}"
_STEPS: Final = bytes.maketrans(_BRACKETS, b"\x01\x01\xff\xff")
"""Of each bracket the signed byte that it adds to the depth."""
_ALL_ELSE: Final = bytes(set(range(256)) - set(_BRACKETS + b'"'))


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as it came: nothing decoded but the transport's own wrapping."""

    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    content_type: object
    body: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """`check` raises `Refused` for a message that must not be taken. Cheap rules come first, the parser last."""

    message_bytes: int = MESSAGE_BYTES
    keys: SigningKeys = NO_KEYS

    def check(self, arrived: Arrived) -> None:
        """See the class."""
        if len(arrived.body) > self.message_bytes:
            raise Refused("too_large", f"the body has {len(arrived.body)} bytes, over {self.message_bytes}")
        if arrived.headers.get("compression"):
            raise Refused("compressed", "headers.compression: compressed messages are not taken")
        _check_headers(arrived.headers, arrived.properties)
        if arrived.content_type != _JSON:
            raise Refused("not_json", f"content-type is not {_JSON}")
        is_signed = self._check_signature(arrived)
        _check_arguments(arrived.body, may_ring_on=is_signed)

    def _check_signature(self, arrived: Arrived) -> bool:
        """Return whether the sender is trusted; raise `Refused` unless he may go unsigned.

        A tool's result comes from a service that has no key of ours; its token says which call it may settle.
        """
        if not self.keys:
            return True
        task, task_id, signature = arrived.headers["task"], arrived.headers["id"], arrived.headers.get(HEADER)
        if signature is None:
            if task == DELIVER:
                return False
            raise Refused("unsigned", f"unsigned: headers.{HEADER} is missing (FW_SIGNING_KEYS)")
        if not self.keys.accept(task, task_id, arrived.body, signature):
            raise Refused("bad_signature", f"bad signature: no key of FW_SIGNING_KEYS made headers.{HEADER}")
        return True


def shape_of(body: bytes) -> tuple[int, int]:
    """Return how many lists and objects a JSON text has and how deep they go, without reading it.

    What is no JSON has some numbers, too; so has one with few brackets: zeros. So many strings that hold brackets count
    as what they pretend to be. The work is done by passes over the
    bytes that never look at one alone, because the consumer's thread waits for it.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return 0, 0
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes in a row may go: what is inside of a string stays inside, though of another one.
    steps = body.translate(_STEPS, _ALL_ELSE).replace(b'""', b"")
    if (quotes := steps.count(b'"')) > MAX_CONTAINERS:
        return quotes, 0
    if quotes:
        steps = b"".join(steps.split(b'"')[::2])
    containers = steps.count(b"\x01")
    if containers > MAX_CONTAINERS:
        return containers, 0
    return containers, max(accumulate(memoryview(steps).cast("b"), initial=0))


def _check_headers(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> None:
    for name in ("task", "id"):
        if name not in headers:
            raise _malformed(f"headers.{name} is missing")
        if not isinstance(headers[name], str):
            raise _malformed(f"headers.{name} is {kind_of(headers[name])}")
        if not headers[name]:
            raise _malformed(f"headers.{name} is empty")
        if len(headers[name]) > MAX_NAME:
            # It would be a part of keys and log lines, in our Redis and in others'.
            raise _malformed(f"headers.{name} has {len(headers[name])} characters, over {MAX_NAME}")
    _check_size(headers)
    for name in _TEXTS:
        _allow(headers, name, str, "headers.")
    for name in ("correlation_id", "reply_to"):
        _allow(properties, name, str, "properties.")
    _allow(headers, "stamps", dict, "headers.")
    stamped = _allow(headers, "stamped_headers", list, "headers.") or []
    if not all(isinstance(each, str) for each in stamped):
        raise _malformed("headers.stamped_headers is not a list of strings")
    retries = headers.get("retries")
    if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int)):
        raise _malformed(f"headers.retries is {kind_of(retries)}")
    _check_limits(_allow(headers, "timelimit", list, "headers."))


def _check_size(headers: Mapping[str, Any]) -> None:
    """Celery copies headers into events, logs and whatever the task sends."""
    try:
        # Encoded, because what is in here becomes a part of keys: halves of surrogate pairs cannot.
        size = len(json.dumps(dict(headers), default=repr, skipkeys=True, ensure_ascii=False).encode())
    except (ValueError, RecursionError) as exc:
        raise _malformed(f"headers: {type(exc).__name__}") from exc
    if size > HEADER_BYTES:
        raise Refused("too_large", f"the headers have {size} bytes, over {HEADER_BYTES}")


def _check_limits(limits: list[Any] | None) -> None:
    if limits is None or not limits:
        return
    numbers = [each for each in limits if each is not None]
    if len(limits) != 2 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise _malformed("headers.timelimit is not [hard, soft]")


def _check_arguments(body: bytes, *, may_ring_on: bool) -> None:
    """Check `[args, kwargs, embed]`."""
    containers, depth = shape_of(body)
    if containers > MAX_CONTAINERS:
        raise Refused("too_large", f"the body has {containers} lists and objects, over {MAX_CONTAINERS}")
    if depth > MAX_DEPTH:
        raise Refused("too_deep", f"the body is nested over {MAX_DEPTH} deep")
    try:
        arguments = loads(body.decode("utf-8"))
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError, RecursionError) as exc:
        raise _malformed(f"body is not JSON: {type(exc).__name__}") from exc
    if not isinstance(arguments, list) or len(arguments) != 3:
        raise _malformed("body is not [args, kwargs, embed]")
    args, kwargs, embed = arguments
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed, dict | None)):
        raise _malformed("body is not [args, kwargs, embed]: wrong types inside")
    if not may_ring_on and any((embed or {}).values()):
        # What is linked to a task our worker sends, and signs: a way around the signature. Celery takes whatever else
        # is in here for a part of the message's head.
        raise Refused("unsigned", "unsigned: it has links, which need a signature")


def _allow(holder: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    value = holder.get(name)
    if value is not None and not isinstance(value, kind):
        raise _malformed(f"{where}{name} is {kind_of(value)}")
    return value


def _malformed(why: str) -> Refused:
    return Refused("malformed", why)
