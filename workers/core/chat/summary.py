"""Summaries of long conversations: when, of what, and what the model is asked for. Pure.

What is summarised is a stretch of whole exchanges: a call is never parted from its result, and a call that has none yet
(it runs) stays as it is, with all that follows it. The originals stay in SQL, behind the version that hides them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from api_contracts.conversations import Summaries
from workers.core.chat.background import tells
from workers.core.runs.turns import Opened

Plain = Mapping[str, Any]

TIME_S: Final = 120.0
"""For a summary; after that the turn goes on without one (FEAT A1.2)."""
LEAST: Final = 2
"""Messages below which a summary saves nothing."""
GROWTH: Final = 0.25
"""So much of `at_tokens` a conversation grows at least between two summaries: where the system prompt and the kept
messages alone are over the bound, every turn would make one (FEAT A1.6)."""
_INSTRUCTIONS: Final = (
    "Summarise the conversation that follows, for an assistant who will go on with it and sees nothing of it but your "
    "summary. Keep facts, names, numbers, decisions, open questions, promises, what tools were called for and what "
    "they told. Do not answer anybody in it, and add nothing. Write the summary and nothing else."
)
_BEGINS: Final = "Summary of the conversation up to here:\n\n"


def is_due(found: Opened, summaries: Summaries | None) -> bool:
    """Whether a version is to be summarised before its next turn, by the tokens that the model counted of it."""
    if summaries is None or summaries.at_tokens is None or found.tokens is None:
        return False
    grown = found.tokens - (found.floor or 0) >= GROWTH * summaries.at_tokens
    return found.tokens >= summaries.at_tokens and grown


def stretch(messages: Sequence[Plain], keep: int) -> tuple[int, int] | None:
    """Return from where to where (exclusive) to summarise, None where there is too little."""
    start = 0
    while start < len(messages) and messages[start]["role"] in ("system", "developer"):
        start += 1
    end = max(start, len(messages) - keep)
    while (first := _unanswered(messages, start, end)) is not None:
        end = first
    return (start, end) if end - start >= LEAST else None


def _unanswered(messages: Sequence[Plain], start: int, end: int) -> int | None:
    """Return the first message of a stretch with a call of which nothing else there says what it came to."""
    for place in range(start, end):
        calls = [call["id"] for call in messages[place].get("tool_calls") or ()]
        if any(not any(tells(each, call) for each in messages[place:end]) for call in calls):
            return place
    return None


def asked(messages: Sequence[Plain], summaries: Summaries, model: str) -> dict[str, Any]:
    """Return the body that asks for the summary of a stretch."""
    bound = summaries.target_tokens
    if summaries.at_tokens is not None:
        bound = min(bound, int(0.8 * summaries.at_tokens))
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": summaries.instructions or _INSTRUCTIONS},
            {"role": "user", "content": "\n\n".join(map(_shown, messages))},
        ],
        "max_tokens": bound,
        "context_length_exceeded_behavior": "error",
    }


def with_summary(messages: Sequence[Plain], place: tuple[int, int], text: str) -> list[Plain]:
    """Return the messages with a summary where the stretch was."""
    start, end = place
    return [*messages[:start], {"role": "user", "content": _BEGINS + text}, *messages[end:]]


def _shown(message: Plain) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = " ".join(str(part["text"]) if "text" in part else f"[{part['type']}]" for part in content)
    lines = [f"{message['role'].upper()}: {content}"] if content else []
    lines += [
        f"CALL {call['id']} {call['function']['name']}: {call['function']['arguments']}"
        for call in message.get("tool_calls") or ()
    ]
    if message["role"] == "tool":
        lines = [f"RESULT of {message['tool_call_id']}: {content or ''}"]
    return "\n".join(lines)
