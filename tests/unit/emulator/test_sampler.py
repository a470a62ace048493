"""Unscripted answers: reproducible from the seed, and sensible about tools."""

import json
from typing import Any

import pytest

from tests.unit.emulator.making import ADD, CLASSIC, REASONING, WEATHER, accepted, chat, director, take, with_results
from workers.emulator.config import EmulatorConfig
from workers.emulator.direction import Ask

pytestmark = pytest.mark.requirement("EMU-06")


def _calls(body: dict[str, Any]) -> list[tuple[str, Any]]:
    completion = take(body).completions[0]
    return [(call.name, json.loads(completion.arguments(index))) for index, call in enumerate(completion.calls)]


def test_the_same_seed_and_request_give_the_same_answer() -> None:
    body = chat(tools=[ADD], tool_choice="required")
    assert take(body) == take(body)


def test_another_seed_gives_another_answer() -> None:
    assert (
        take(chat(), config=EmulatorConfig(seed=1)).completions
        != take(chat(), config=EmulatorConfig(seed=2)).completions
    )


@pytest.mark.parametrize("change", [{"seed": 3}, {"temperature": 0.1}, {"model": CLASSIC.replace("classic", "new")}])
def test_another_request_gives_another_answer(change: dict[str, Any]) -> None:
    assert take(chat(**change)).completions[0].content != take(chat()).completions[0].content


@pytest.mark.parametrize("change", [{"stream": True}, {"user": "u"}, {"max_tokens": 999}, {"prompt_cache_key": "k"}])
def test_how_an_answer_travels_does_not_change_its_words(change: dict[str, Any]) -> None:
    assert take(chat(**change)).completions[0].content == take(chat()).completions[0].content


def test_a_repeated_request_says_the_same_under_new_ids() -> None:
    stage, body = director(), accepted(chat(tools=[ADD], tool_choice="required"))
    first, second = (stage.direct(body, Ask("r", 0.0)) for _ in range(2))
    assert first.completions[0].pieces == second.completions[0].pieces
    assert first.envelope.id != second.envelope.id
    assert first.completions[0].calls[0].id != second.completions[0].calls[0].id


def test_choices_differ() -> None:
    answer = take(chat(n=3))
    assert len({completion.content for completion in answer.completions}) == 3
    assert answer.envelope.usage["completion_tokens"] == sum(completion.tokens for completion in answer.completions)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Use get_weather please", ["get_weather"]),
        ("How is the weather?", ["get_weather"]),
        ("Please add 2 and 3", ["add"]),
        ("Add 2 and 3, and the weather too", ["get_weather", "add"]),
        ("Get me some tea", []),
        ("An additional question", []),
    ],
)
def test_tools_are_called_when_the_user_speaks_of_them(text: str, names: list[str]) -> None:
    assert [name for name, _ in _calls(chat(text, tools=[WEATHER, ADD]))] == names


def test_arguments_come_from_what_the_user_said() -> None:
    assert _calls(chat("Please add 2 and -30", tools=[ADD])) == [("add", {"a": 2, "b": -30})]
    assert _calls(chat("What is the weather in New York?", tools=[WEATHER])) == [("get_weather", {"city": "New York"})]
    assert _calls(chat("weather for 'são paulo'", tools=[WEATHER])) == [("get_weather", {"city": "são paulo"})]


def test_an_enumerated_argument_prefers_the_word_that_was_said() -> None:
    tool = {
        "type": "function",
        "function": {"name": "paint", "parameters": {"properties": {"colour": {"enum": ["red", "blue", "green"]}}}},
    }
    assert _calls(chat("paint it green", tools=[tool])) == [("paint", {"colour": "green"})]


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object", "properties": {}}, {"type": "string"}])
def test_a_tool_without_a_proper_schema_is_called_with_an_object(parameters: Any) -> None:
    tool = {"type": "function", "function": {"name": "ping", "parameters": parameters}}
    assert _calls(chat("ping", tools=[tool])) == [("ping", {})]


def test_calls_made_in_parallel_can_be_forbidden() -> None:
    body = chat("add 2 and 3 and the weather", tools=[WEATHER, ADD], parallel_tool_calls=False)
    assert len(_calls(body)) == 1


def test_no_tool_is_called_when_the_choice_forbids_it() -> None:
    assert _calls(chat("weather", tools=[WEATHER], tool_choice="none")) == []


@pytest.mark.parametrize("choice", ["required", "any"])
def test_a_required_call_is_made_unasked_and_even_after_results(choice: str) -> None:
    assert len(_calls(chat("x", tools=[WEATHER, ADD], tool_choice=choice))) == 1
    assert len(_calls(with_results("x", "mild", tools=[WEATHER, ADD], tool_choice=choice))) == 1


@pytest.mark.parametrize(
    "choice", [{"type": "function", "name": "add"}, {"type": "function", "function": {"name": "add"}}]
)
def test_a_named_tool_is_called_whatever_was_said(choice: dict[str, Any]) -> None:
    assert [name for name, _ in _calls(chat("weather", tools=[WEATHER, ADD], tool_choice=choice))] == ["add"]


def test_results_are_reported_instead_of_called_for_again() -> None:
    said = take(with_results("add 2 and 3", "5", name="add", tools=[ADD])).completions[0]
    assert said.content == "According to add: 5."
    assert said.calls == ()


def test_a_reasoning_model_reasons_more_with_more_effort() -> None:
    low, high = (take(chat(model=REASONING, reasoning_effort=effort)) for effort in ("low", "high"))
    assert 0 < low.completions[0].reasoning_tokens < high.completions[0].reasoning_tokens
    details = high.envelope.usage["completion_tokens_details"]
    assert details["reasoning_tokens"] == high.completions[0].reasoning_tokens
    assert high.completions[0].pieces[0].kind == "reasoning"


def test_reasoning_stops_at_its_cap() -> None:
    model = CLASSIC.replace("classic", "new")
    completion = take(chat(model=model, reasoning_effort=5)).completions[0]
    assert completion.reasoning_tokens == 5
    assert completion.content
