"""Puts the chunks of one streamed answer together (WIRE 1.6), whatever order and form its pieces have.

Pure. It judges how the answer ended; it does not know what is done with calls, text or failures.
"""

import copy
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from api_contracts.chat import Choice, FinishReason, Usage
from api_contracts.failure import Category, Failure
from workers.core.chat.fragments import Call, CallFragments
from workers.core.chat.thought import ThoughtSplitter

_CHOICE_DETAILS: Final = frozenset(("logprobs", "token_ids", "raw_output", "prompt_token_ids"))
_DETAILS: Final = frozenset(("service_tier", "perf_metrics", "prompt_token_ids"))
"""What a request may ask for beside the answer, in a choice and in a chunk; `prompt_token_ids` is in either (WIRE 1.5,
1.6)."""

_CHARS_PER_TOKEN: Final = 4
"""The rough rule for English text and JSON. It only serves answers whose usage the provider does not tell."""

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "content_filter",
}


class Piece(NamedTuple):
    """What one chunk adds for people to see. Reasoning comes before text."""

    text: str
    reasoning: str


@dataclass(frozen=True, slots=True)
class AssembledCall:
    """A tool call of the answer. `index` counts from 0 in the model's order, however the provider counts.

    `provider_id` is empty when the provider gave none. `arguments` is text that should be JSON; none at all is `{}`.
    """

    index: int
    provider_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `message` has the provider's closed form (WIRE 1.3); reasoning is kept apart from it.

    `has_output` is False for an answer without text, thought or call. `details` is what else the provider told of it
    (`logprobs`, `service_tier` ..., WIRE 1.5), `others` are the choices beside the first (n > 1).
    """

    message: dict[str, Any]
    reasoning: str | None
    finish_reason: FinishReason
    calls: tuple[AssembledCall, ...]
    usage: Usage
    provider_request_id: str | None
    model: str | None
    has_output: bool
    details: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Choice, ...] = ()


class _Choice:
    """One of the answers of a stream, as far as it has come."""

    __slots__ = ("_opening", "calls", "details", "reason", "reasoning", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls = CallFragments()
        self.reason = ""
        self.details: dict[str, Any] = {}
        self._opening = ThoughtSplitter()

    def take(self, choice: dict[str, Any]) -> Piece | None:
        """Take in what one chunk adds; return what of it is for people to see."""
        if reason := choice.get("finish_reason"):
            self.reason = str(reason)
        if not _CHOICE_DETAILS.isdisjoint(choice):
            _gather_from(choice, _CHOICE_DETAILS, self.details)
        text, reasoning = self._said(choice.get("delta"))
        if self.reason and not self._opening.over:
            text, reasoning = self._with_held(text, reasoning)
        if text:
            self.text.append(text)
        if reasoning:
            self.reasoning.append(reasoning)
        return Piece(text, reasoning) if text or reasoning else None

    def _said(self, delta: Any) -> tuple[str, str]:
        if not delta or not isinstance(delta, dict):
            return "", ""
        text = delta.get("content") or ""
        if not isinstance(text, str):
            text = _parts(text)
        reasoning = delta.get("reasoning_content") or ""
        reasoning = reasoning and _text(reasoning)
        if text and not self._opening.over:
            text, thought = self._opening.take(text)
            reasoning += thought
        if "tool_calls" in delta or "function_call" in delta:
            self.calls.take(delta)
        return text, reasoning

    def _with_held(self, text: str, reasoning: str) -> tuple[str, str]:
        """The answer is over: what was held back was no mark after all."""
        held, thought = self._opening.flush()
        return text + held, reasoning + thought

    @property
    def chars(self) -> int:
        """The size of what was said, thought and called."""
        called = sum(len(call.name) + sum(map(len, call.arguments)) for call in self.calls.begun)
        return called + sum(map(len, self.text)) + sum(map(len, self.reasoning))

    def message(self, calls: Sequence[AssembledCall] = ()) -> dict[str, Any]:
        """Return the answer in the provider's form."""
        text = "".join(self.text)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        if calls:
            message["tool_calls"] = [
                {"id": c.provider_id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in calls
            ]
        return message


class DeltaAssembler:
    """Gathers one answer: `feed` each chunk, then `finish`.

    `prompt_chars` is the size of what was sent, for the estimate of a usage that the provider does not tell.
    Of several usages the last one counts. Of several choices (`n`, from 1) the first is for people to see as it comes;
    choices that were not asked for are passed over.
    """

    __slots__ = ("_details", "_first", "_id", "_model", "_others", "_prompt_chars", "_usage")

    def __init__(self, prompt_chars: int = 0, n: int = 1) -> None:
        self._prompt_chars = prompt_chars
        self._id = ""
        self._model = ""
        self._first = _Choice()
        self._others = {index: _Choice() for index in range(1, n)}
        self._details: dict[str, Any] = {}
        self._usage: Mapping[str, Any] | None = None

    @property
    def has_output(self) -> bool:
        """Whether anything was said so far: a failure from now on voids what followers have seen."""
        return bool(self._first.text or self._first.reasoning or self._first.calls.begun)

    @property
    def usage(self) -> Usage:
        """The tokens so far, as the provider told them or else estimated; also right for an answer that was cut."""
        return self._told() if self._usage is not None else self._estimated()

    def feed(self, chunk: Mapping[str, Any]) -> Piece | None:
        """Take a chunk in; return what it adds for people to see, if anything."""
        usage = chunk.get("usage")
        if usage and isinstance(usage, dict):
            self._usage = usage
        if not self._id:
            self._id = _text(chunk.get("id"))
            self._model = _text(chunk.get("model"))
        if not _DETAILS.isdisjoint(chunk):
            _gather_from(chunk, _DETAILS, self._details)
        choices = chunk.get("choices")
        if not choices or not isinstance(choices, list):
            return None
        piece = None
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            if not (index := choice.get("index")):
                piece = self._first.take(choice)
            elif isinstance(index, int) and (other := self._others.get(index)):
                other.take(choice)
        return piece

    def finish(self) -> Answer | Failure:
        """Return the answer, or why what came is none (CHAT-05)."""
        if any(not choice.reason for choice in (self._first, *self._others.values())):
            return self._failure("provider_stream_cut", "transport", "the stream ended in the middle of the answer")
        reason = _REASONS.get(self._first.reason)
        others = [self._chosen(choice) for choice in self._others.values()]
        if reason is None or None in others:
            unknown = next(c.reason for c in (self._first, *self._others.values()) if c.reason not in _REASONS)
            said = f"the provider ended the answer with the unknown reason {unknown[:64]!r}"
            return self._failure("provider_unknown_finish", "protocol", said)
        # What was filtered is not acted on either.
        calls = self._first.calls.ordered() if reason != "content_filter" else []
        if failure := self._fault(calls, reason):
            return failure
        if calls:
            reason = "tool_calls"  # whatever the provider calls it
        elif reason == "tool_calls":
            reason = "stop"
        return self._answer(reason, calls, [choice for choice in others if choice])

    # -- the end ---------------------------------------------------------------------------------------------------

    def _fault(self, calls: list[Call], reason: FinishReason) -> Failure | None:
        """Judge an answer that has calls, or should have."""
        if not calls:
            if reason != "tool_calls" or self._first.text:
                return None
            return self._failure("tool_call_missing", "protocol", "the answer announces tool calls and holds none")
        if reason == "length":
            said = "the answer reached the token limit while it called tools"
            return self._failure("tool_call_truncated", "limit", said, retryable=False)
        if not all(call.name for call in calls):
            return self._failure("tool_call_without_name", "protocol", "the answer calls a tool without a name")
        return None

    def _chosen(self, choice: _Choice) -> Choice | None:
        """Return a choice beside the first, None when its end is not known. Calls it has none: there are no tools."""
        if (reason := _REASONS.get(choice.reason)) is None:
            return None
        return Choice(
            message=choice.message(), finish_reason=reason, reasoning="".join(choice.reasoning) or None,
            details=choice.details,
        )  # fmt: skip

    def _answer(self, reason: FinishReason, found: list[Call], others: list[Choice]) -> Answer:
        calls = tuple(
            AssembledCall(place, call.provider_id, call.name, call.arguments_text()) for place, call in enumerate(found)
        )
        return Answer(
            message=self._first.message(calls),
            reasoning="".join(self._first.reasoning) or None,
            finish_reason=reason,
            calls=calls,
            usage=self.usage,
            provider_request_id=self._id or None,
            model=self._model or None,
            has_output=bool(self._first.text or self._first.reasoning or calls),
            details=self._details | self._first.details,
            others=tuple(others),
        )

    def _failure(self, code: str, category: Category, message: str, *, retryable: bool = True) -> Failure:
        at_fault: Literal["caller", "provider"] = "provider" if retryable else "caller"
        return Failure(
            code=code,
            category=category,
            message=message,
            retryable=retryable,
            at_fault=at_fault,
            provider_request_id=self._id[:200] or None,
        )

    # -- usage -----------------------------------------------------------------------------------------------------

    def _told(self) -> Usage:
        """Only `prompt_tokens` and `total_tokens` are sure to be there (WIRE 1.5)."""
        usage = self._usage or {}
        prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        if usage.get("completion_tokens") is None:
            completion = max(0, _count(usage, "total_tokens") - prompt)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
            reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        )

    def _estimated(self) -> Usage:
        choices = (self._first, *self._others.values())
        return Usage(
            prompt_tokens=_tokens(self._prompt_chars),
            completion_tokens=_tokens(sum(choice.chars for choice in choices)),
            reasoning_tokens=_tokens(sum(len(piece) for choice in choices for piece in choice.reasoning)),
            estimated=True,
        )


def _gather_from(said: Mapping[str, Any], names: Container[str], into: dict[str, Any]) -> None:
    """Gather what is named, in the order in which it was said: that of a set differs from process to process."""
    for name, value in said.items():
        if value and name in names:
            _gather(into, name, value)


def _gather(into: dict[str, Any], name: str, new: Any) -> None:
    """Put a piece to those that came before: lists grow, of anything else the last one counts."""
    known = into.get(name)
    if isinstance(known, list) and isinstance(new, list):
        known.extend(new)
    elif isinstance(known, dict) and isinstance(new, dict):
        for each, value in new.items():
            _gather(known, each, value)
    else:
        into[name] = copy.deepcopy(new)


def estimated(prompt_chars: int, chars: int) -> Usage:
    """Return the usage of an answer that was broken off, by its characters."""
    return Usage(prompt_tokens=_tokens(prompt_chars), completion_tokens=_tokens(chars), estimated=True)


def _tokens(chars: int) -> int:
    return -(-chars // _CHARS_PER_TOKEN)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return max(0, int(value)) if isinstance(value, int | float) else 0


def _parts(content: Any) -> str:
    """Content as a list of parts: their texts."""
    parts = content if isinstance(content, list) else []
    return "".join(_text(part.get("text")) for part in parts if isinstance(part, dict))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
