"""What the provider's error answers mean (WIRE 1.7): any status and body in, a `Failure` out.

Pure: knows no socket and no clock. Nothing that it returns holds a key or a value that the caller sent.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import orjson

from api_contracts.failure import AtFault, Category, Failure

_SAID_CHARS = 500
_READ_CHARS = 8192
_MAX_WAIT_S = 30 * 86400.0
_REQUEST_ID_HEADERS = ("x-fireworks-request-id", "x-request-id", "x-fireworks-trace-id", "cf-ray")
_TOO_LONG = ("prompt is too long", "maximum context length", "context_length_exceeded")
_LOADING = "DEPLOYMENT_SCALING_UP"
_OVERLOADED = "first token before the given deadline"

_KEYS = re.compile(r"\b(?:fw_|fpk_|sk-)[\w*.\-]{3,}|\bBearer\s+[^\s\"',;<>]+", re.IGNORECASE)
# A refusal quotes what it refuses, and a quoted value may hold anything, also what looks like the end of the quote.
_ECHO = re.compile(r"[,;]?\s*(?:\b(?:input_)?value\b|['\"]input['\"])['\"]?\s*[:=].*", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class _Kind(NamedTuple):
    code: str
    category: Category
    retryable: bool
    at_fault: AtFault


_BAD_REQUEST = _Kind("provider_bad_request", "bad_request", False, "caller")
_TOO_LONG_PROMPT = _Kind("prompt_too_long", "limit", False, "caller")
_AUTHENTICATION = _Kind("provider_authentication", "authentication", False, "us")
_ACCOUNT = _Kind("provider_account", "account", False, "us")
_WAKING = _Kind("provider_loading", "overloaded", True, "provider")
_UNAVAILABLE = _Kind("provider_unavailable", "overloaded", True, "provider")
_UNEXPECTED = _Kind("provider_unexpected_answer", "protocol", False, "us")
_IN_STREAM = _Kind("provider_stream_error", "overloaded", True, "provider")

_KINDS: dict[int, _Kind] = {
    401: _AUTHENTICATION,
    402: _ACCOUNT,
    403: _AUTHENTICATION,
    404: _Kind("provider_model_not_found", "not_found", False, "caller"),
    405: _UNEXPECTED,
    408: _Kind("provider_timeout", "timeout", True, "provider"),
    412: _ACCOUNT,
    413: _Kind("provider_too_large", "limit", False, "caller"),
    425: _WAKING,
    429: _Kind("provider_rate_limited", "rate_limit", True, "provider"),
}


class _Said(NamedTuple):
    message: str = ""
    code: str = ""
    request_id: str | None = None


def failure_of(status: int, headers: Mapping[str, str], body: bytes, *, now: float, dedicated: bool = False) -> Failure:
    """Return what an answer that is not 200 means.

    `now` is in seconds since 1970, for a Retry-After that is a date. `dedicated` says that the request named a
    deployment: its 404 may mean that the weights are still being loaded, so it is worth another try.
    """
    said = _said(body)
    kind = _kind(status, said)
    if status == 404 and dedicated:
        kind = kind._replace(retryable=True)
    lower = {name.lower(): value for name, value in headers.items()}
    if (hint := lower.get("x-should-retry", "").lower()) in ("true", "false"):
        kind = kind._replace(retryable=hint == "true")
    request_id = said.request_id or next((lower[name] for name in _REQUEST_ID_HEADERS if lower.get(name)), None)
    return _failure(
        kind, f"the provider answered {status}", said.message, status, request_id, retry_after_s(lower, now)
    )


def stream_failure(error: Any) -> Failure:
    """Return what an error inside a 200 stream means; `error` is the JSON value found there, or text."""
    said = _said_in(error if isinstance(error, dict) and "error" in error else {"error": error})
    inner = error.get("error", error) if isinstance(error, dict) else error
    status = _status_of(inner if isinstance(inner, dict) else {})
    kind = _IN_STREAM if status is None else _kind(status, said)
    return _failure(kind, "the provider broke the stream off", said.message, status, said.request_id, None)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait that the headers (lower-case names) ask for, in seconds, or None; at most 30 days."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (value := headers.get(name)) is None:
            continue
        try:
            wait = float(value) * unit
        except ValueError:
            wait = _until(value, now)
        if math.isfinite(wait) and wait >= 0:
            return min(wait, _MAX_WAIT_S)
    return None


def without_secrets(text: str) -> str:
    """Return `text` on one line, without keys and without quoted values."""
    return " ".join(_ECHO.sub(" (the value is left out)", _KEYS.sub("[key]", text)).split())


def _until(date: str, now: float) -> float:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - now)


def _kind(status: int, said: _Said) -> _Kind:
    words = said.message.lower()
    if said.code == _LOADING:
        return _WAKING
    if status in (400, 413, 422) and (any(text in words for text in _TOO_LONG) or said.code in _TOO_LONG):
        return _TOO_LONG_PROMPT
    if status == 429 and _OVERLOADED in words:
        return _KINDS[429]._replace(category="overloaded")
    if kind := _KINDS.get(status):
        return kind
    if status >= 500:
        return _UNAVAILABLE
    return _BAD_REQUEST if status >= 400 else _UNEXPECTED


def _failure(
    kind: _Kind, opening: str, said: str, status: int | None, request_id: str | None, wait: float | None
) -> Failure:
    said = without_secrets(said[:_READ_CHARS])[:_SAID_CHARS]
    return Failure(
        code=kind.code,
        category=kind.category,
        message=f"{opening}: {said}" if said else opening,
        retryable=kind.retryable,
        at_fault=kind.at_fault,
        provider_status=status,
        provider_request_id=request_id[:200] if request_id else None,
        retry_after_s=wait,
    )


def _said(body: bytes) -> _Said:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _Said(_prose(body[:_READ_CHARS].decode(errors="replace")))
    return _said_in(value) if isinstance(value, dict) else _Said()


def _prose(text: str) -> str:
    """E6: a gateway's page. Of HTML only the title says anything."""
    if "<html" not in text.lower() and "<!doctype" not in text.lower():
        return text
    title = _TITLE.search(text)
    return title.group(1) if title else ""


def _said_in(value: dict[str, Any]) -> _Said:
    """Read E1 to E5. A body of another shape is not quoted: nobody knows what it repeats."""
    error, message = value.get("error"), _text(value.get("message"))
    request_id = _text(value.get("request_id")) or None
    if isinstance(error, dict):
        code = _text(error.get("code")) or _text(error.get("type"))
        return _Said(_text(error.get("message")) or message or code, code, request_id)
    if error := _text(error):
        return _Said(f"{error}: {message}" if message else error, "", request_id)
    if detail := value.get("detail"):
        return _Said(_details(detail), "", request_id)
    return _Said(message, _text(value.get("code")), request_id)


def _details(detail: Any) -> str:
    """E3: a list of places and what is wrong there; `input` and `ctx` hold the caller's own data."""
    if not isinstance(detail, list):
        return _text(detail)
    entries = [entry for entry in detail if isinstance(entry, dict)]
    return "; ".join(f"{_place(entry.get('loc'))}: {_text(entry.get('msg'))}" for entry in entries)


def _place(loc: Any) -> str:
    return ".".join(str(part) for part in loc) if isinstance(loc, list) else _text(loc)


def _status_of(error: dict[str, Any]) -> int | None:
    """An in-stream error names its status as `status`, `status_code` or a numeric `code` (WIRE 1.6)."""
    for name in ("status", "status_code", "code"):
        value = error.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value[:4])
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
