"""A completion on the wire: the stream's events in order (WIRE 1.6) and the plain body (WIRE 1.5). Pure.

    opening (role) -> reasoning -> content -> tool fragments -> finish_reason [+ usage] -> [usage alone] -> [DONE]

With n > 1 the choices take turns, a token each. Tool arguments travel a token a fragment, whatever the chunk size.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

from workers.emulator.catalogue import ModelCard, UsageStyle
from workers.emulator.completion import Completion, Piece
from workers.emulator.faults import Faults

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Chunk:
    """A `data:` event. `tokens` is how many it carries; `part` is where it stands in the stream."""

    payload: Json
    tokens: int = 0
    part: Literal["opening", "delta", "finish", "usage"] = "delta"


@dataclass(frozen=True)
class Raw:
    """Lines that are no chunk: comments, other events, the end marker."""

    text: str
    part: Literal["extra", "done"] = "extra"


@dataclass(frozen=True)
class Pause:
    """Nothing for some seconds; None is for ever."""

    seconds: float | None


@dataclass(frozen=True)
class Hangup:
    """The connection closes here, in mid-stream."""


Frame: TypeAlias = Chunk | Raw | Pause | Hangup
DONE = Raw("data: [DONE]\n\n", "done")


@dataclass(frozen=True)
class Envelope:
    """What all parts of one response share. `asked_for_usage` None if the request did not say."""

    id: str
    created: int
    model: str
    card: ModelCard
    usage: Json
    asked_for_usage: bool | None = None
    perf: Json | None = None
    tokens_per_chunk: int = 1
    faults: Faults = field(default_factory=Faults)

    @property
    def classic_usage(self) -> bool:
        """Usage rides on the chunk that finishes the stream, unless the client opted out."""
        return self.card.usage_style is UsageStyle.CLASSIC and self.asked_for_usage is not False

    @property
    def separate_usage(self) -> bool:
        """Usage comes in a chunk of its own."""
        return self.card.usage_style is UsageStyle.INCLUDE_USAGE_ONLY and self.asked_for_usage is True

    @property
    def reports_usage(self) -> bool:
        """Whether no fault takes the usage away."""
        return not self.faults.has("no_usage")


def frames(completions: Sequence[Completion], envelope: Envelope) -> Iterator[Frame]:
    """The stream of a response, before the faults that disturb it."""
    for index in range(len(completions)):
        yield _chunk(envelope, index, _opening(envelope.card), part="opening")
    turns = zip_longest(*(_deltas(completion, envelope) for completion in completions))
    for turn in turns:
        for index, step in enumerate(turn):
            if step is not None:
                yield _chunk(envelope, index, step[0], tokens=step[1])
    yield from _ending(completions, envelope)
    yield DONE


def _ending(completions: Sequence[Completion], envelope: Envelope) -> Iterator[Frame]:
    for index, completion in enumerate(completions):
        chunk = _chunk(envelope, index, {}, part="finish", finish=_finish(completion, envelope.faults))
        if index == len(completions) - 1:
            if envelope.classic_usage and envelope.reports_usage:
                chunk.payload["usage"] = envelope.usage
            if envelope.perf is not None:
                chunk.payload["perf_metrics"] = envelope.perf
        yield chunk
    if envelope.separate_usage and envelope.reports_usage:
        yield Chunk(_shared(envelope) | {"choices": [], "usage": envelope.usage}, part="usage")


def body(completions: Sequence[Completion], envelope: Envelope) -> Json:
    """The response without a stream."""
    choices = [
        {
            "index": index,
            "message": _message(completion, envelope.faults),
            "finish_reason": _finish(completion, envelope.faults),
        }
        for index, completion in enumerate(completions)
    ]
    whole = _shared(envelope) | {
        "object": "chat.completion",
        "choices": [] if envelope.faults.has("empty_choices") else choices,
    }
    if envelope.reports_usage:
        whole["usage"] = envelope.usage
    return whole if envelope.perf is None else whole | {"perf_metrics": envelope.perf}


def _message(completion: Completion, faults: Faults) -> Json:
    first = int(faults.has("index_from_1"))
    calls = [
        {
            "index": index + first,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": completion.arguments(index)},
        }
        for index, call in enumerate(completion.calls)
    ]
    content = completion.content if calls else completion.content or ""
    message: Json = {"role": "assistant", "content": content, "reasoning_content": completion.reasoning}
    return message | {"tool_calls": calls} if calls else message


def _shared(envelope: Envelope) -> Json:
    return {
        "id": envelope.id,
        "object": "chat.completion.chunk",
        "created": envelope.created,
        "model": envelope.model,
    }


def _chunk(
    envelope: Envelope,
    index: int,
    delta: Json,
    *,
    tokens: int = 0,
    part: Literal["opening", "delta", "finish"] = "delta",
    finish: str | None = None,
) -> Chunk:
    payload = _shared(envelope) | {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}
    if envelope.classic_usage:
        payload["usage"] = None
    return Chunk(payload, tokens, part)


def _opening(card: ModelCard) -> Json:
    """The first delta has the role; `content` beside it may be absent, null or empty."""
    match card.opens_with:
        case "absent":
            return {"role": "assistant"}
        case "null":
            return {"role": "assistant", "content": None}
        case "empty":
            return {"role": "assistant", "content": ""}


def _finish(completion: Completion, faults: Faults) -> str | None:
    return None if faults.has("no_finish") else faults.finish_reason or completion.finish_reason


def _deltas(completion: Completion, envelope: Envelope) -> Iterator[tuple[Json, int]]:
    """The deltas of one choice with their token counts."""
    joined = envelope.faults.has("two_calls_one_delta")
    if joined:
        heads = [_head(completion, index, envelope.faults) for index in range(len(completion.calls))]
    for run in _runs(completion.pieces, envelope.tokens_per_chunk):
        first = run[0]
        match first.kind:
            case "content":
                yield {"content": "".join(piece.text for piece in run)}, len(run)
            case "reasoning":
                yield {"reasoning_content": "".join(piece.text for piece in run)}, len(run)
            case "arguments":
                yield {"tool_calls": [_fragment(completion, first, envelope.faults)]}, 1
            case "call" if not joined:
                yield from _opened(completion, first.call, envelope.faults)
            case "call" if first.call == 0:
                yield {"tool_calls": heads}, len(heads)


def _runs(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """Neighbouring text tokens, up to `size` of one kind; pieces of calls stay alone."""
    run: list[Piece] = []
    for piece in pieces:
        if run and (run[0].kind != piece.kind or piece.kind in ("call", "arguments") or len(run) >= size):
            yield run
            run = []
        run.append(piece)
    if run:
        yield run


def _head(completion: Completion, index: int, faults: Faults) -> Json:
    call = completion.calls[index]
    return {
        "index": index + int(faults.has("index_from_1")),
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": ""},
    }


def _opened(completion: Completion, index: int, faults: Faults) -> Iterator[tuple[Json, int]]:
    """The first fragment of a call, or its two halves."""
    head = _head(completion, index, faults)
    if not faults.has("id_name_split"):
        yield {"tool_calls": [head]}, 1
        return
    yield {"tool_calls": [{"index": head["index"], "id": head["id"], "type": "function"}]}, 0
    yield {"tool_calls": [{"index": head["index"], "function": head["function"]}]}, 1


def _fragment(completion: Completion, piece: Piece, faults: Faults) -> Json:
    head = _head(completion, piece.call, faults)
    if faults.has("resent_name"):
        return head | {"function": {"name": head["function"]["name"], "arguments": piece.text}}
    return {"index": head["index"], "function": {"arguments": piece.text}}


def encode(frame: Chunk | Raw) -> bytes:
    """One event as bytes. JSON keeps its characters: the wire is UTF-8, not escapes."""
    if isinstance(frame, Raw):
        return frame.text.encode("utf-8", "replace")
    return f"data: {dumps(frame.payload)}\n\n".encode("utf-8", "replace")


def dumps(payload: Json) -> str:
    """Compact JSON, characters unescaped."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
