"""Scenes: which rule applies, what its templates become, how often it may be used."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.emulator.making import (
    ADD,
    CLASSIC,
    NEW,
    WEATHER,
    accepted,
    chat,
    dialogue,
    director,
    take,
    with_results,
)
from workers.emulator.config import EmulatorConfig
from workers.emulator.direction import Ask
from workers.emulator.errors import Refused
from workers.emulator.scenes import Reply, Rule, Scene, ScriptedCall, When, load_scene
from workers.emulator.templates import fill

pytestmark = pytest.mark.requirement("EMU-06")


def _config(*rules: dict[str, Any]) -> EmulatorConfig:
    return EmulatorConfig(scene=Scene.model_validate({"rules": rules}))


def _said(body: dict[str, Any], *rules: dict[str, Any]) -> str | None:
    return take(body, config=_config(*rules)).completions[0].content


@pytest.mark.parametrize(
    ("when", "body", "holds"),
    [
        ({}, chat(), True),
        ({"model": "emulated-classic"}, chat(), True),
        ({"model": CLASSIC}, chat(), True),
        ({"model": "emulated"}, chat(), False),
        ({"user": "SOMETHING"}, chat(), True),
        ({"user": "nothing"}, chat(), False),
        ({"user_regex": "^Tell"}, chat(), True),
        ({"user_regex": "^tell"}, chat(), False),
        ({"system": "brief"}, chat(), False),
        ({"tools": ["add"]}, chat(tools=[ADD, WEATHER]), True),
        ({"tools": ["add", "sub"]}, chat(tools=[ADD, WEATHER]), False),
        ({"tool_results": 0}, chat(), True),
        ({"tool_results": 2}, with_results("x", "a", "b"), True),
        ({"tool_results": 1}, with_results("x", "a", "b"), False),
        ({"tool_results": {"min": 1}}, with_results("x", "a", "b"), True),
        ({"tool_results": {"max": 1}}, with_results("x", "a", "b"), False),
        ({"tool_result": "b"}, with_results("x", "a", "B"), True),
        ({"tool_result": "c"}, with_results("x", "a", "B"), False),
        ({"free_form": True}, chat(), True),
        ({"free_form": True}, chat(response_format={"type": "json_object"}), False),
        ({"free_form": True}, chat(tools=[ADD], tool_choice="required"), False),
        ({"stream": True}, chat(), False),
        ({"user": "something", "model": "emulated-new"}, chat(), False),
    ],
)
def test_a_rule_applies_when_all_its_conditions_hold(when: dict, body: dict, holds: bool) -> None:
    assert When.model_validate(when).holds(dialogue(body)) is holds


def test_tool_results_before_the_last_user_message_do_not_count() -> None:
    body = with_results("first", "a")
    body["messages"].append({"role": "user", "content": "second"})
    assert dialogue(body).results == ()
    assert dialogue(body).user == "second"


def test_the_first_rule_that_matches_wins() -> None:
    assert (
        _said(
            chat(), {"when": {"user": "no"}, "reply": {"text": "1"}}, {"reply": {"text": "2"}}, {"reply": {"text": "3"}}
        )
        == "2"
    )


def test_templates_insert_results_matches_and_the_user() -> None:
    body = with_results("weather in Oslo", '{"temperature": {"c": 3}, "sky": "grey"}', "second")
    rule = {
        "when": {"user_regex": r"in (\w+)"},
        "reply": {
            "text": "{match:1}: {tool_result:0:temperature.c}, {tool_result:0:sky}, {tool_result:1} ({user}, {model})"
        },
    }
    assert _said(body, rule) == f"Oslo: 3, grey, second (weather in Oslo, {CLASSIC})"


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{tool_result:5}", "[no tool result 5]"),
        ("{tool_result:0:a.b}", "[no a.b in the tool result]"),
        ("{match:1}", "[no match 1]"),
        ('{"a": {user}, "b": {}}', '{"a": hello, "b": {}}'),
        ("{users} {tool_result}", "{users} {tool_result}"),
    ],
)
def test_what_a_template_cannot_find_is_shown_and_other_braces_stay(template: str, filled: str) -> None:
    assert fill(template, dialogue(with_results("hello", "no json")), ()) == filled


def test_templates_reach_into_arguments() -> None:
    rule = {"reply": {"tool_calls": [{"name": "f", "arguments": {"a": ["{user}", 1], "b": {"c": "{user}!"}}}]}}
    completion = take(chat("hey"), config=_config(rule)).completions[0]
    assert json.loads(completion.arguments(0)) == {"a": ["hey", 1], "b": {"c": "hey!"}}
    assert completion.finish_reason == "tool_calls"


def test_arguments_may_be_raw_text_or_left_to_the_schema() -> None:
    rule = {
        "reply": {"text": "So:", "tool_calls": [{"name": "f", "arguments": '{"a":'}, {"name": "add"}, {"name": "gone"}]}
    }
    completion = take(chat("2 and 3", tools=[ADD]), config=_config(rule)).completions[0]
    assert completion.content == "So:"
    assert completion.arguments(0) == '{"a":'
    assert json.loads(completion.arguments(1)) == {"a": 2, "b": 3}
    assert completion.arguments(2) == "{}"


def test_a_dialogue_of_two_rounds_is_scripted() -> None:
    rules = (
        {
            "when": {"tool_results": 0},
            "reply": {"tool_calls": [{"name": "get_weather", "arguments": {"city": "Oslo"}}]},
        },
        {"when": {"tool_results": 1}, "reply": {"text": "It is {tool_result:0}."}},
    )
    assert take(chat(tools=[WEATHER]), config=_config(*rules)).completions[0].calls[0].name == "get_weather"
    assert _said(with_results("x", "mild"), *rules) == "It is mild."


def test_a_rule_that_is_used_up_lets_the_next_one_answer() -> None:
    config = _config({"faults": ["503"], "times": 2}, {"reply": {"text": "at last"}})
    stage, body = director(config), accepted(chat(), config)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            stage.direct(body, Ask("r", 0.0))
        assert refused.value.reply.status == 503
    assert stage.direct(body, Ask("r", 0.0)).completions[0].content == "at last"


def test_a_rule_without_a_reply_leaves_the_words_to_the_sampler() -> None:
    answer = take(chat(), config=_config({"faults": ["no_done"], "pace": 5}))
    assert answer.completions[0].content == take(chat()).completions[0].content
    assert answer.pace == 5
    assert answer.faults.has("no_done")


def test_a_requests_own_faults_come_on_top_of_the_rules() -> None:
    answer = take(chat(), "pace=9", config=_config({"faults": ["no_done", "cut_after=3"], "pace": 5}))
    assert (answer.pace, answer.faults.cut_after) == (9, 3)


def test_reasoning_can_be_scripted_and_silenced() -> None:
    model = CLASSIC.replace("classic", "reasoning")
    assert (
        take(chat(model=model), config=_config({"reply": {"text": "a", "reasoning": "Hm."}})).completions[0].reasoning
        == "Hm."
    )
    assert (
        take(chat(model=model), config=_config({"reply": {"text": "a", "reasoning": ""}})).completions[0].reasoning
        is None
    )
    assert take(chat(model=model), config=_config({"reply": {"text": "a"}})).completions[0].reasoning
    assert (
        take(chat(model=NEW), config=_config({"reply": {"text": "a", "reasoning": "Hm."}})).completions[0].reasoning
        == "Hm."
    )


def test_a_scene_is_the_same_from_a_file_and_from_python(tmp_path: Path) -> None:
    scene = Scene(
        name="two",
        rules=(
            Rule(
                when=When(user="x", tool_results=1),
                reply=Reply(tool_calls=(ScriptedCall(name="f"),)),
                faults=("429=3",),
                times=2,
            ),
        ),
    )
    path = tmp_path / "scene.json"
    path.write_text(scene.model_dump_json(), encoding="utf-8")
    assert load_scene(path) == scene


@pytest.mark.parametrize(
    "rule",
    [
        {"when": {"usr": "x"}},
        {"when": {"user_regex": "("}},
        {"faults": ["explode"]},
        {"faults": ["stall_after"]},
        {"pace": -1},
        {"replies": []},
    ],
)
def test_a_scene_with_a_mistake_is_refused_when_loaded(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Scene.model_validate({"rules": [rule]})


def test_the_default_scene_talks_about_the_weather() -> None:
    question = "What is the weather in Oslo?"
    call = take(chat(question, tools=[ADD, WEATHER])).completions[0]
    assert [found.name for found in call.calls] == ["get_weather"]
    assert json.loads(call.arguments(0)) == {"city": "Oslo"}
    answer = take(with_results(question, "3 °C and grey", tools=[ADD, WEATHER])).completions[0]
    assert answer.content == "Here is the weather in Oslo: 3 °C and grey"
    assert answer.finish_reason == "stop"


def test_the_default_scene_greets() -> None:
    assert (take(chat("Hello!")).completions[0].content or "").startswith("Hello!")
