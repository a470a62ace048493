"""The system prompt, the roles, the parameters: what the model is shown under which settings."""

from typing import Any

import pytest

from api_contracts.chat import ChatRequest
from api_contracts.conversations import ChatSettings, changed_settings
from tests.unit.core.turns import BUSY, Life, request, says
from workers.core.chat import acts
from workers.core.chat.context import composed, parameters
from workers.core.runs.frame import SignalArrived

pytestmark = pytest.mark.requirement("CHAT-16")


def message(role: str, text: Any = "x") -> dict[str, Any]:
    return {"role": role, "content": text}


def test_the_prompt_is_base_then_what_the_messages_begin_with_then_additions() -> None:
    settings = {"system": "Base.", "additions": {"b": "Second.", "a": "Third."}}
    messages = [message("system", "Theirs."), message("developer", "Also."), message("user", "hi"), message("system")]
    assert composed(settings, messages) == [
        message("system", "Base.\n\nTheirs.\n\nAlso.\n\nSecond.\n\nThird."), message("user", "hi"), message("system"),
    ]  # fmt: skip


def test_composed_again_and_again_it_does_not_grow_and_changes_nothing_that_is_kept() -> None:
    settings, messages = {"additions": {"a": "More."}}, [message("system", "Theirs."), message("developer")]
    before = [dict(each) for each in messages]
    assert composed(settings, messages) == composed(settings, messages) == [message("system", "Theirs.\n\nx\n\nMore.")]
    assert messages == before


def test_without_base_and_additions_messages_keep_their_form() -> None:
    parts = [{"type": "text", "text": "look"}]
    messages = [message("system"), message("system"), message("user", parts)]
    assert composed({}, messages) == messages
    assert composed({"system": "Base."}, [message("system", parts), message("user")]) == [
        message("system", "Base."), message("system", parts), message("user"),
    ]  # fmt: skip


@pytest.mark.parametrize(("chosen", "role"), [(None, "system"), ("system", "system"), ("user", "user")])
def test_the_developer_goes_in_a_role_that_the_provider_knows(chosen: str | None, role: str) -> None:
    settings = {} if chosen is None else {"developer_as": chosen}
    messages = [message("user"), message("developer", "more")]
    assert composed(settings, messages) == [message("user"), message(role, "more")]
    if chosen == "user":
        assert composed(settings | {"system": "S"}, [message("developer")]) == [message("system", "S"), message("user")]


def test_what_the_request_says_goes_before_the_settings() -> None:
    settings = {
        "temperature": 0.5,
        "top_p": 0.1,
        "max_tokens": 5,
        "reasoning_effort": "low",
        "system": "S",
        "model": "m",
    }
    asked = ChatRequest.model_validate(
        {"conversation": "a1", "temperature": 1, "max_completion_tokens": 9, "extra": {"x": 1}}
    )
    assert parameters(asked, settings) == {"top_p": 0.1, "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("settings", "change", "after"),
    [
        ({}, {"top_p": 0.5}, {"top_p": 0.5}),
        ({"top_p": 0.5, "seed": 1}, {"top_p": None}, {"seed": 1}),
        (
            {"additions": {"a": "A", "b": "B"}},
            {"additions": {"a": None, "c": "C"}},
            {"additions": {"b": "B", "c": "C"}},
        ),
        ({"additions": {"a": "A"}}, {"additions": {"a": None}}, {}),
        ({"system": "S"}, {"summaries": {"keep": 2}}, {"system": "S", "summaries": {"keep": 2}}),
    ],
)
def test_a_change_changes_what_it_names(
    settings: dict[str, Any], change: dict[str, Any], after: dict[str, Any]
) -> None:
    before = repr(settings)
    assert changed_settings(settings, change) == after
    assert repr(settings) == before
    ChatSettings.model_validate(after)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"temprature": 1}, "temprature: "),
        ({"temperature": 3}, "temperature: "),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "are one setting"),
        ({"n": 2}, "belongs to a single request"),
        ({"additions": ["a"]}, "additions: "),
        ({"system": "half \ud800"}, "system: "),
        ({"summaries": {"keep": -1}}, "summaries: "),
    ],
)
def test_a_change_that_is_none_is_refused_and_says_where(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        changed_settings({}, change)
    with pytest.raises(ValueError, match=why):
        ChatRequest.model_validate({"conversation": {"id": "a1", "settings": change}})


def test_a_run_without_a_conversation_has_settings_too_once_they_change() -> None:
    life = Life(request()).begin()
    plain = life.last(acts.AskModel)
    life.feed(SignalArrived("1-0", "update_settings", {"settings": {"system": "Be brief.", "top_k": 7}, "by": "ann"}))
    life.failed(BUSY)
    life.at(life.machine.deadline or 0.0)
    again = life.last(acts.AskModel)
    assert "top_k" not in plain.body
    assert (again.body["top_k"], again.body["messages"][0]) == (7, message("system", "Be brief."))
    life.answered(says("hello"))
    assert life.result["settings_version"] == 2
    assert "conversation_version" not in life.result
