"""Puts the chunks of one streamed answer together (WIRE 1.6), whatever order and form its pieces have.

Pure. It judges how the answer ended; it does not know what is done with calls, text or failures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from api_contracts.chat import FinishReason, Usage
from api_contracts.failure import Category, Failure
from workers.core.chat.fragments import Call, CallFragments

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

    `has_output` is False for an answer without text, thought or call.
    """

    message: dict[str, Any]
    reasoning: str | None
    finish_reason: FinishReason
    calls: tuple[AssembledCall, ...]
    usage: Usage
    provider_request_id: str | None
    model: str | None
    has_output: bool


class DeltaAssembler:
    """Gathers one answer: `feed` each chunk, then `finish`.

    `prompt_chars` is the size of what was sent, for the estimate of a usage that the provider does not tell.
    Of several usages the last one counts. Answers beside the first (n > 1) are ignored.
    """

    __slots__ = ("_calls", "_id", "_model", "_prompt_chars", "_reason", "_reasoning", "_text", "_usage")

    def __init__(self, prompt_chars: int = 0) -> None:
        self._prompt_chars = prompt_chars
        self._id = ""
        self._model = ""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls = CallFragments()
        self._reason = ""
        self._usage: Mapping[str, Any] | None = None

    @property
    def has_output(self) -> bool:
        """Whether anything was said so far: a failure from now on voids what followers have seen."""
        return bool(self._text or self._reasoning or self._calls.begun)

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
        choices = chunk.get("choices")
        if not choices or not isinstance(choices, list):
            return None
        for choice in choices:
            if isinstance(choice, dict) and not choice.get("index"):
                return self._take(choice)
        return None

    def finish(self) -> Answer | Failure:
        """Return the answer, or why what came is none (CHAT-05)."""
        if not self._reason:
            return self._failure("provider_stream_cut", "transport", "the stream ended in the middle of the answer")
        reason = _REASONS.get(self._reason)
        if reason is None:
            said = f"the provider ended the answer with the unknown reason {self._reason[:64]!r}"
            return self._failure("provider_unknown_finish", "protocol", said)
        # What was filtered is not acted on either.
        calls = self._calls.ordered() if reason != "content_filter" else []
        if failure := self._fault(calls, reason):
            return failure
        if calls:
            reason = "tool_calls"  # whatever the provider calls it
        elif reason == "tool_calls":
            reason = "stop"
        return self._answer(reason, calls)

    def _take(self, choice: dict[str, Any]) -> Piece | None:
        if reason := choice.get("finish_reason"):
            self._reason = str(reason)
        delta = choice.get("delta")
        if not delta or not isinstance(delta, dict):
            return None
        text = delta.get("content") or ""
        if not isinstance(text, str):
            text = _parts(text)
        if text:
            self._text.append(text)
        reasoning = delta.get("reasoning_content") or ""
        if reasoning and (reasoning := _text(reasoning)):
            self._reasoning.append(reasoning)
        if "tool_calls" in delta or "function_call" in delta:
            self._calls.take(delta)
        return Piece(text, reasoning) if text or reasoning else None

    # -- the end ---------------------------------------------------------------------------------------------------

    def _fault(self, calls: list[Call], reason: FinishReason) -> Failure | None:
        """Judge an answer that has calls, or should have."""
        if not calls:
            if reason != "tool_calls" or self._text:
                return None
            return self._failure("tool_call_missing", "protocol", "the answer announces tool calls and holds none")
        if reason == "length":
            said = "the answer reached the token limit while it called tools"
            return self._failure("tool_call_truncated", "limit", said, retryable=False)
        if not all(call.name for call in calls):
            return self._failure("tool_call_without_name", "protocol", "the answer calls a tool without a name")
        return None

    def _answer(self, reason: FinishReason, found: list[Call]) -> Answer:
        calls = tuple(
            AssembledCall(place, call.provider_id, call.name, call.arguments_text()) for place, call in enumerate(found)
        )
        text = "".join(self._text)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        if calls:
            message["tool_calls"] = [
                {"id": c.provider_id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in calls
            ]
        reasoning = "".join(self._reasoning) or None
        return Answer(
            message=message,
            reasoning=reasoning,
            finish_reason=reason,
            calls=calls,
            usage=self.usage,
            provider_request_id=self._id or None,
            model=self._model or None,
            has_output=bool(text or reasoning or calls),
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
        thought = sum(map(len, self._reasoning))
        called = sum(len(call.name) + sum(map(len, call.arguments)) for call in self._calls.begun)
        return Usage(
            prompt_tokens=_tokens(self._prompt_chars),
            completion_tokens=_tokens(thought + called + sum(map(len, self._text))),
            reasoning_tokens=_tokens(thought),
            estimated=True,
        )


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
