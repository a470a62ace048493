"""The form that a request asks of its answer, checked again here: the provider's word for it is not taken (CHAT-07).

Pure. A reasoning model may think aloud before the answer (WIRE 4.2): a leading `<think>` block is passed over.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from api_contracts.chat import ChatMessage, FinishReason
from api_contracts.failure import Failure
from workers.core.chat.schema import LONGEST, TOO_DEEP, BadSchema, schema_of, strict_json
from workers.core.grammar import GrammarError, TooAmbiguous, compiled

Form = Callable[[str], str | None]
"""Takes a whole answer; returns None, or why it does not fit: what is wrong and where, at most 300 characters."""

_THOUGHT: Final = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)


class BadForm(ValueError):
    """The form itself is none: the text says what is wrong with it."""


def form_of(response_format: Mapping[str, Any] | None) -> Form | None:
    """Return the form, None for plain text. Raises BadForm."""
    match response_format:
        case {"type": "grammar", "grammar": grammar}:
            return _grammar(grammar)
        case {"type": "json_object", "schema": schema}:
            return _schema(schema)
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return _schema(schema)
        case {"type": "json_schema", "json_schema": schema}:
            return _schema(schema)
        case {"type": "json_object"}:
            return _any_object
        case _:
            return None


def fault_in(answer: ChatMessage, form: Form | None) -> str | None:
    """Return why the answer, or one of several, does not fit; None if all do."""
    said = [answer.message, *(choice.message for choice in answer.choices or ())]
    faults = [form(str(each["content"])) for each in said] if form else []
    return next((fault for fault in faults if fault), None)


def mismatch(finish_reason: FinishReason, why: str) -> Failure:
    """Return the failure of a run whose answer does not fit. `why` may quote it, so it stays out of the failure."""
    if finish_reason == "length":
        said = "the answer reached the token limit before it had the form that was asked for"
        return Failure(code="answer_truncated", category="limit", message=said, at_fault="caller")
    said = f"the answer has not the form that was asked for (it ended with {finish_reason!r}); chat.message holds it"
    return Failure(code="answer_mismatch", category="protocol", message=said, at_fault="provider")


def _grammar(text: str) -> Form:
    try:
        grammar = compiled(text)
    except GrammarError as exc:
        raise BadForm(f"the grammar cannot be read: {exc}") from None

    def fault(answer: str) -> str | None:
        answer = _without_thought(answer)
        try:
            place = grammar.mismatch(answer)
        except TooAmbiguous:
            return "it could not be matched with the grammar within bounds"
        if place is None:
            return None
        if place == len(answer):
            return f"it breaks off at character {place}: the grammar wants more"
        return f"the grammar does not allow character {place} of {len(answer)}"

    return fault


def _schema(of: Any) -> Form:
    try:
        schema = schema_of(of)
    except BadSchema as exc:
        raise BadForm(str(exc)) from None

    def fault(answer: str) -> str | None:
        try:
            return schema(_json(answer))
        except ValueError as exc:
            return f"it is not JSON: {exc}"[:LONGEST]
        except RecursionError:
            return TOO_DEEP

    return fault


def _any_object(answer: str) -> str | None:
    try:
        value = _json(answer)
    except ValueError as exc:
        return f"it is not JSON: {exc}"[:LONGEST]
    except RecursionError:
        return TOO_DEEP
    return None if isinstance(value, dict) else "it is not a JSON object"


def _json(answer: str) -> Any:
    return strict_json(_without_thought(answer))


def _without_thought(answer: str) -> str:
    return _THOUGHT.sub("", answer, count=1) if _THOUGHT.match(answer) else answer
