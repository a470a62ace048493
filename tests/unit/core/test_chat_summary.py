"""What is summarised, when, and what stays (CHAT-17)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.conversations import Summaries
from workers.core.chat import summary
from workers.core.chat.background import RUNS, news
from workers.core.runs.turns import Opened

pytestmark = pytest.mark.requirement("CHAT-17")


def message(role: str, text: Any = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


def calls(*ids: str) -> dict[str, Any]:
    made = [{"id": each, "type": "function", "function": {"name": "look", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "tool_calls": made}


def result(call_id: str, text: str = "done") -> dict[str, Any]:
    return message("tool", text, tool_call_id=call_id)


@st.composite
def talks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conversation with calls of which some have no result (they run), and some have it far behind."""
    made: list[dict[str, Any]] = [message("system")] * draw(st.integers(0, 2))
    waiting: list[str] = []
    for number in range(draw(st.integers(0, 12))):
        match draw(st.sampled_from(["say", "call", "tell"])):
            case "say":
                made += [message("user", f"u{number}"), message("assistant", f"a{number}")]
            case "call":
                ids = [f"c{number}.{n}" for n in range(draw(st.integers(1, 3)))]
                made.append(calls(*ids))
                waiting += ids
            case "tell" if waiting:
                made.append(result(waiting.pop(draw(st.integers(0, len(waiting) - 1)))))
            case _:
                pass
    return made


@given(talks(), st.integers(0, 6))
def test_no_call_is_parted_from_its_result_and_none_that_runs_is_lost(
    messages: list[dict[str, Any]], keep: int
) -> None:
    place = summary.stretch(messages, keep)
    if place is None:
        return
    start, end = place
    gone, left = messages[start:end], [*messages[:start], *messages[end:]]
    called = {call["id"] for each in gone for call in each.get("tool_calls", ())}
    answered = {each["tool_call_id"] for each in gone if each["role"] == "tool"}
    assert called == answered
    assert all(each["role"] == "system" for each in left[:start])
    assert end - start >= summary.LEAST
    assert len(messages) - end >= min(keep, len(messages) - start)
    shown = summary.with_summary(messages, place, "short")
    wanted = {call["id"] for each in shown for call in each.get("tool_calls", ())}
    assert {each["tool_call_id"] for each in shown if each["role"] == "tool"} <= wanted


def test_the_system_prompt_and_the_newest_stay_and_all_between_goes() -> None:
    messages = [message("system"), *(message("user", str(n)) for n in range(8))]
    assert summary.stretch(messages, 4) == (1, 5)
    assert summary.stretch(messages, 0) == (1, 9)
    assert summary.stretch(messages, 7) is None, "one message is no shorter for a summary"
    assert summary.stretch([], 4) is None


def test_before_a_call_that_runs_the_stretch_ends() -> None:
    messages = [message("user"), message("assistant"), calls("a", "b"), result("a"), message("user"), message("user")]
    assert summary.stretch(messages, 0) == (0, 2)
    messages.append(result("b"))
    assert summary.stretch(messages, 0) == (0, 7)
    assert summary.stretch(messages, 1) == (0, 2), "its result is among those that stay"


@pytest.mark.requirement("TOOL-13")
def test_a_call_in_the_background_runs_until_there_is_news_of_it() -> None:
    messages = [message("user"), message("assistant"), calls("a", "b"), result("a", RUNS), result("b")]
    messages += [message("assistant"), news("ab", "look", "another's"), message("user", [])]
    assert summary.stretch(messages, 0) == (0, 2)
    messages.append(news("a", "look", "done"))
    assert summary.stretch(messages, 0) == (0, 9)
    assert summary.stretch(messages, 1) == (0, 2), "the news is among what stays"


@pytest.mark.parametrize(
    ("tokens", "floor", "due"),
    [
        (999, 10, False),
        (1000, 10, True),
        (1000, None, True),
        (5000, 4800, False),
        (5050, 4800, True),
        (None, None, False),
    ],
)
def test_it_is_due_by_the_models_own_count_and_not_at_every_turn(
    tokens: int | None, floor: int | None, due: bool
) -> None:
    """The floor is what was counted right after the last summary: a system prompt over the bound must not loop."""
    found = Opened(3, (), {}, 1, tokens, floor)
    assert summary.is_due(found, Summaries(at_tokens=1000)) is due
    assert not summary.is_due(found, Summaries(at_tokens=None))
    assert not summary.is_due(found, None)


def test_the_model_is_shown_what_was_said_called_and_told() -> None:
    picture = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:..."}}]
    messages = [message("user", picture), calls("a"), result("a", "noon")]  # type: ignore[arg-type]
    body = summary.asked(messages, Summaries(at_tokens=1000, target_tokens=2000), "m")
    assert body["messages"][1]["content"] == "USER: look [image_url]\n\nCALL a look: {}\n\nRESULT of a: noon"
    assert body["max_tokens"] == 800, "at most 80 % of the bound"
    assert (body["model"], body["context_length_exceeded_behavior"]) == ("m", "error")
    own = summary.asked(messages, Summaries(instructions="Only names."), "m")
    assert own["messages"][0]["content"] == "Only names."
