"""From speech to a completion: tokens in the order in which they are generated, cut by stop sequences and the limit.

Pure. A completion knows what was said and why it ended, not how it travels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, Literal

from workers.emulator.faults import Faults
from workers.emulator.sampler import Speech
from workers.emulator.tokens import pieces


@dataclass(frozen=True)
class Piece:
    """One token. `call` numbers the tool call that a `call` (its head) or `arguments` piece belongs to."""

    kind: Literal["reasoning", "content", "call", "arguments"]
    text: str
    call: int = 0


@dataclass(frozen=True)
class Call:
    """The head of a tool call."""

    id: str
    name: str


@dataclass(frozen=True)
class Completion:
    """One choice. `finish_reason` None only by a fault; `echo` is the prompt's text ahead of the answer."""

    pieces: tuple[Piece, ...]
    calls: tuple[Call, ...]
    finish_reason: str | None
    echo: str = ""

    @property
    def tokens(self) -> int:
        """Completion tokens, reasoning and calls included."""
        return len(self.pieces)

    @property
    def reasoning_tokens(self) -> int:
        """Those of the reasoning."""
        return sum(1 for piece in self.pieces if piece.kind == "reasoning")

    @property
    def content(self) -> str | None:
        """The text, None if there is none."""
        return self.echo + (self._joined("content") or "") or None

    @property
    def reasoning(self) -> str | None:
        """The reasoning, None if there is none."""
        return self._joined("reasoning")

    def arguments(self, call: int) -> str:
        """The argument text of a call, as far as it was generated."""
        return "".join(piece.text for piece in self.pieces if piece.kind == "arguments" and piece.call == call)

    def _joined(self, kind: str) -> str | None:
        return "".join(piece.text for piece in self.pieces if piece.kind == kind) or None


@dataclass(frozen=True)
class Limits:
    """`tokens` may be generated, `reasoning` of them at most on reasoning. `padding` goes on after the text's end."""

    tokens: int
    reasoning: int | None = None
    stops: tuple[str, ...] = ()
    padding: Iterable[str] = ()


def disturbed(speech: Speech, faults: Faults) -> Speech:
    """The speech under the faults that change what is said rather than how it travels."""
    text, calls, reasoning = speech.text, speech.calls, speech.reasoning
    if faults.has("bad_tool_json"):
        calls = tuple((name, arguments.rstrip()[:-1]) for name, arguments in calls)
    if faults.has("empty_arguments"):
        calls = tuple((name, "") for name, _ in calls)
    if faults.has("unknown_tool"):
        calls = tuple((f"{name}_of_nobody", arguments) for name, arguments in calls)
    if faults.has("text_and_call") and calls:
        text = text or "Let me see."
    if faults.has("call_as_content") and calls:
        text, calls = "\n".join([*([text] if text else []), *(_as_text(*call) for call in calls)]), ()
    if faults.has("think_in_content") and reasoning:
        text, reasoning = f"<think>{reasoning}</think>\n{text or ''}", None
    return Speech(text, calls, reasoning, speech.interleave or faults.has("interleave"))


def _as_text(name: str, arguments: str) -> str:
    return '{"type": "function", "name": "' + name + '", "parameters": ' + (arguments or "{}") + "}"


def complete(speech: Speech, limits: Limits, call_ids: Iterator[str]) -> Completion:
    """What is generated of the speech before the limit, a stop sequence or its end."""
    text, stopped = _stopped(speech.text or "", limits.stops)
    calls = () if stopped else speech.calls
    generated = list(islice(_generate(speech, text, calls, limits, stopped), limits.tokens + 1))
    kept = tuple(generated[: limits.tokens])
    heads = sum(1 for piece in kept if piece.kind == "call")
    named = tuple(Call(call_id, name) for call_id, (name, _) in zip(call_ids, calls[:heads], strict=False))
    return Completion(kept, named, _reason(len(generated) > limits.tokens, named))


def _generate(
    speech: Speech, text: str, calls: tuple[tuple[str, str], ...], limits: Limits, stopped: bool
) -> Iterator[Piece]:
    yield from (Piece("reasoning", token) for token in islice(pieces(speech.reasoning or ""), limits.reasoning))
    yield from (Piece("content", token) for token in pieces(text))
    if not (calls or stopped):
        padding = _padding(limits)
        yield from (Piece("content", token) for token in padding)
    yield from _call_pieces(calls, speech.interleave)


def _padding(limits: Limits) -> Iterator[str]:
    """Text after the end; a stop sequence inside one of its sentences ends it."""
    for sentence in limits.padding:
        text, stopped = _stopped(sentence, limits.stops)
        yield from pieces(text)
        if stopped:
            return


def _call_pieces(calls: tuple[tuple[str, str], ...], interleave: bool) -> Iterator[Piece]:
    parts = [
        [Piece("call", name, index), *(Piece("arguments", token, index) for token in pieces(arguments))]
        for index, (name, arguments) in enumerate(calls)
    ]
    if interleave:
        yield from (piece for turn in zip_longest(*parts) for piece in turn if piece is not None)
    else:
        yield from (piece for part in parts for piece in part)


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The text before the first stop sequence in it; the sequence itself is not returned (WIRE 1.2)."""
    places = [text.find(stop) for stop in stops if stop in text]
    return (text[: min(places)], True) if places else (text, False)


def _reason(cut: bool, calls: tuple[Call, ...]) -> str:
    if cut:
        return "length"
    return "tool_calls" if calls else "stop"


def usage(
    prompt_tokens: int, cached: int, completions: Iterable[Completion], *, with_reasoning: bool
) -> dict[str, Any]:
    """The usage object (WIRE 1.5)."""
    said = tuple(completions)
    generated = sum(completion.tokens for completion in said)
    body: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + generated,
        "completion_tokens": generated,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    if with_reasoning:
        reasoning = sum(completion.reasoning_tokens for completion in said)
        body["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return body
