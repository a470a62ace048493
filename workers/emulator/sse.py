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
from workers.emulator.told import Told

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
    told: Told = field(default_factory=Told)

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
        yield _chunk(envelope, index, _opening(envelope.card), part="opening", beside=envelope.told.at_opening())
    turns = zip_longest(*(_deltas(completion, envelope) for completion in completions))
    for turn in turns:
        for index, step in enumerate(turn):
            if step is not None:
                yield _chunk(envelope, index, step.delta, tokens=step.tokens, beside=step.beside)
    yield from _ending(completions, envelope)
    yield DONE


def _ending(completions: Sequence[Completion], envelope: Envelope) -> Iterator[Frame]:
    for index, completion in enumerate(completions):
        beside, finish = envelope.told.at_finish(completion), _finish(completion, envelope.faults)
        chunk = _chunk(envelope, index, {}, part="finish", finish=finish, beside=beside)
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
            **envelope.told.of_run(completion.pieces, len(completion.echo)),
            **envelope.told.at_finish(completion),
        }
        for index, completion in enumerate(completions)
    ]
    whole = _shared(envelope) | {
        "object": "chat.completion",
        "choices": [] if envelope.faults.has("empty_choices") else choices,
        **envelope.told.at_opening(),
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
    } | ({"service_tier": tier} if (tier := envelope.told.service_tier) else {})


def _chunk(
    envelope: Envelope,
    index: int,
    delta: Json,
    *,
    tokens: int = 0,
    part: Literal["opening", "delta", "finish"] = "delta",
    finish: str | None = None,
    beside: Json | None = None,
) -> Chunk:
    choice = {"index": index, "delta": delta, "finish_reason": finish} | (beside or {})
    payload = _shared(envelope) | {"choices": [choice]}
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


@dataclass(frozen=True)
class _Step:
    """A delta, how many tokens it carries, and what its choice says beside it."""

    delta: Json
    tokens: int
    beside: Json = field(default_factory=dict)


def _deltas(completion: Completion, envelope: Envelope) -> Iterator[_Step]:
    """The deltas of one choice; the echo of the prompt is none of its tokens."""
    joined, told, offset = envelope.faults.has("two_calls_one_delta"), envelope.told, len(completion.echo)
    if completion.echo:
        yield _Step({"content": completion.echo}, 0)
    for run in _runs(completion.pieces, envelope.tokens_per_chunk):
        first, text = run[0], "".join(piece.text for piece in run)
        match first.kind:
            case "content":
                yield _Step({"content": text}, len(run), told.of_run(run, offset))
                offset += len(text)
            case "reasoning":
                yield _Step({"reasoning_content": text}, len(run), told.of_run(run, offset))
            case "arguments":
                fragment = _fragment(completion, first, envelope.faults)
                yield _Step({"tool_calls": [fragment]}, 1, told.of_run(run, offset))
            case "call" if not joined:
                yield from _opened(completion, run, envelope)
            case "call" if first.call == 0:
                heads = [_head(completion, index, envelope.faults) for index in range(len(completion.calls))]
                named = [piece for piece in completion.pieces if piece.kind == "call"]
                yield _Step({"tool_calls": heads}, len(heads), told.of_run(named, offset))


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


def _opened(completion: Completion, run: Sequence[Piece], envelope: Envelope) -> Iterator[_Step]:
    """The first fragment of a call, or its two halves."""
    head, beside = _head(completion, run[0].call, envelope.faults), envelope.told.of_run(run, 0)
    if not envelope.faults.has("id_name_split"):
        yield _Step({"tool_calls": [head]}, 1, beside)
        return
    yield _Step({"tool_calls": [{"index": head["index"], "id": head["id"], "type": "function"}]}, 0)
    yield _Step({"tool_calls": [{"index": head["index"], "function": head["function"]}]}, 1, beside)


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
