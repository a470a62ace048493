"""The chat endpoint's answers as bytes, turned into chunks (WIRE 1.6): an event stream, or one JSON body.

Pure: bytes in, values out. It knows no socket, no clock and nothing of what the chunks say.
"""

from typing import Any

import orjson

from api_contracts.failure import Failure
from workers.adapters.fireworks.errors import stream_failure

LIMIT_BYTES = 4 * 1024 * 1024
"""Longest event, and longest plain body, that is kept; a token's chunk has about 300 bytes."""

Chunk = dict[str, Any]

# Looked for as numbers, which is a memchr and five times as fast as looking for bytes of length one.
_LF, _CR = 10, 13
_BOM = b"\xef\xbb\xbf"
_HEARTBEATS = (b"ping", b"heartbeat", b"keepalive")
_NO_ERROR = (None, "", False)


def _protocol_failure(code: str, message: str) -> Failure:
    return Failure(code=code, category="protocol", message=message, retryable=True, at_fault="provider")


_GARBLED = _protocol_failure("provider_bad_stream", "the provider sent an event that is not a JSON object")
_ENDLESS = _protocol_failure("provider_bad_stream", f"the provider sent an event of over {LIMIT_BYTES} bytes")
_NOT_JSON = _protocol_failure("provider_bad_stream", "the provider answered 200 with a body that is not a completion")


class SseDecoder:
    """Turns an event stream into chunks, wherever the network cut it.

    `done` after `[DONE]`. `failure` when the provider put an error into the stream or broke its form: the chunks
    before it have been returned, and whatever follows either of the two is ignored.
    """

    __slots__ = ("_after_cr", "_held", "_limit", "_parts", "done", "failure")

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.done = False
        self.failure: Failure | None = None
        self._parts: list[bytes] = []
        self._held = 0
        self._limit = limit_bytes
        self._after_cr = False

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks that `data` completes."""
        if self.done or self.failure is not None or not data:
            return []
        if self._after_cr or _CR in data:
            data = self._with_plain_ends(data)
        if _LF not in data:  # no event can end here; joining now would make a long line quadratic
            self._hold(data)
            return []
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts.clear()
            self._held = 0
        if data.find(_LF) == len(data) - 2 and data.endswith(b"\n\n"):
            return self._chunks([data[:-2]])  # a read usually brings one event, and nothing else
        events = data.split(b"\n\n")
        rest = events.pop()
        chunks = self._chunks(events)
        if rest:
            self._hold(rest)
        return chunks

    def finish(self) -> list[Chunk]:
        """Return the chunk of an event that lacks only its blank line; one cut in its middle is dropped."""
        if self.failure is not None:
            return []
        chunks = self.feed(b"\n\n")
        if self.failure is _GARBLED:
            self.failure = None
        return chunks

    def _chunks(self, events: list[bytes]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for event in events:
            payload: bytes | None = event[6:]
            # Nearly every event is the one line `data: {...}`; the rest takes the slow way.
            if event[:6] != b"data: " or _LF in event:
                payload = self._payload(event)
            if not payload:
                if self.failure is not None:
                    break
                continue
            try:
                chunk = orjson.loads(payload)
            except orjson.JSONDecodeError:
                self._stop_at(payload)
                break
            if type(chunk) is not dict or ("error" in chunk and chunk["error"] not in _NO_ERROR):
                self.failure = stream_failure(chunk) if isinstance(chunk, dict) else _GARBLED
                break
            chunks.append(chunk)
        return chunks

    def _payload(self, event: bytes) -> bytes | None:
        """Read an event line by line; None when it carries no chunk."""
        name, lines = b"", []
        for line in event.split(b"\n"):
            field, _, value = line.removeprefix(_BOM).partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value
        payload = b"\n".join(lines)
        if name == b"error":
            self.failure = stream_failure(_value_or_text(payload))
            return None
        return None if name in _HEARTBEATS else payload

    def _stop_at(self, payload: bytes) -> None:
        if payload.lstrip().startswith(b"[DONE]"):
            self.done = True
        else:
            self.failure = _GARBLED

    def _hold(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        if self._held > self._limit:
            self.failure = _ENDLESS
            self._parts.clear()

    def _with_plain_ends(self, data: bytes) -> bytes:
        """Make CRLF and CR to LF. A CR at the very end counts at once; the LF that may follow it does not."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class BodyDecoder:
    """Takes a plain JSON completion, which some gateways send instead of a stream, for one chunk."""

    __slots__ = ("_held", "_parts", "done", "failure")

    def __init__(self) -> None:
        self.done = False
        self.failure: Failure | None = None
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[Chunk]:
        """Keep `data`: a body says nothing before its end."""
        self._held += len(data)
        if self._held > LIMIT_BYTES:
            self.failure = _ENDLESS
        else:
            self._parts.append(data)
        return []

    def finish(self) -> list[Chunk]:
        """Return the completion as the one chunk of a stream."""
        value = _value_or_text(b"".join(self._parts))
        if isinstance(value, dict) and value.get("error") not in _NO_ERROR:
            self.failure = stream_failure(value)
        elif isinstance(value, dict) and isinstance(value.get("choices"), list):
            self.done = True
            return [{**value, "choices": [_as_delta(choice) for choice in value["choices"]]}]
        else:
            self.failure = _NOT_JSON
        return []


def decoder_for(content_type: str) -> SseDecoder | BodyDecoder:
    """Return the decoder for a 200 answer; what names itself neither JSON nor a page is taken for a stream."""
    is_body = "json" in content_type or "html" in content_type
    return BodyDecoder() if is_body else SseDecoder()


def _as_delta(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    return {"delta": choice.get("message"), **{name: choice[name] for name in choice if name != "message"}}


def _value_or_text(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload[:8192].decode(errors="replace")
