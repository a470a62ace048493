"""Calls that a model writes as JSON text are made, for models of which that is known (TOOL-20)."""

import json
from typing import Any

import pytest

from api_contracts import chat
from tests.unit.core.turns import RUN, T0, Life, check, kinds, local, request, says, wants
from workers.core.chat.acts import AskModel, RunTool
from workers.core.chat.recovery import with_calls
from workers.core.chat.turn import ChatTurn

OLD = "accounts/fireworks/models/old"
CALL = '{"name": "look", "arguments": {"at": "sky"}}'


def recovered(text: str, **changes: Any) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in with_calls(says(text, **changes), {"look", "see"}).calls]


@pytest.mark.requirement("TOOL-20")
@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f"  {CALL}\n",
        '{"type": "function", "name": "look", "parameters": {"at": "sky"}}',
        '{"type": "function", "function": {"name": "look", "arguments": "{\\"at\\": \\"sky\\"}"}}',
        f"[{CALL}]",
        f"```json\n{CALL}\n```",
        f"```\n{CALL}```",
        f"<tool_call>\n{CALL}\n</tool_call>",
        f"<|python_tag|>{CALL}",
    ],
)
def test_a_text_that_is_a_call_is_one(text: str) -> None:
    assert recovered(text) == [("look", '{"at": "sky"}')]


@pytest.mark.requirement("TOOL-20")
@pytest.mark.parametrize(
    "text",
    [
        f'[{CALL}, {{"name": "see"}}]',
        f'<tool_call>{CALL}</tool_call>\n<tool_call>{{"name": "see"}}</tool_call>',
    ],
)
def test_several_calls_are_several(text: str) -> None:
    assert recovered(text) == [("look", '{"at": "sky"}'), ("see", "{}")]


@pytest.mark.requirement("TOOL-20")
@pytest.mark.parametrize(
    "text",
    [
        "", "hello", f"I call {CALL}", f"{CALL} now", '{"name": "fly", "arguments": {}}', '{"name": 3}', "{}", "[]",
        "[1]", "<tool_call>" * 20_000, "<tool_call></tool_call>" * 5_000 + "x", "```" * 50_000, "`", "<tool_call>",
        '{"name": "look", "arguments": [1]}', f'[{CALL}, {{"a": 1}}]', CALL[:-1], "[" * 100_000, "{" * 100_000,
        '{"name": "look", "arguments": {"at": NaN}}', '{"name": "look", "x": "' + "y" * 300_000 + '"}',
    ],
)  # fmt: skip
def test_any_other_text_stays_text(text: str) -> None:
    assert recovered(text) == []


@pytest.mark.requirement("TOOL-20")
def test_a_cut_answer_and_one_with_calls_stay_as_they_are() -> None:
    assert recovered(CALL, finish="length") == []
    answer = wants("look", text=CALL)
    assert with_calls(answer, {"look"}) is answer


def life_of(model: str, **fields: Any) -> Life:
    life = Life(request(model=model, **fields), [local("look")])
    life.machine = ChatTurn(RUN, life.request, {"look": local("look")}, T0, "secret", text_calls={OLD})
    return life.begin()


@pytest.mark.requirement("TOOL-20", "TOOL-06")
def test_a_recovered_call_is_a_call_like_any_other() -> None:
    life = life_of(OLD)
    life.answered(says(CALL))
    assert life.last(RunTool).arguments == {"at": "sky"}
    told = life.last(chat.ChatMessage)
    assert (told.finish_reason, told.message["content"]) == ("tool_calls", None)
    assert json.loads(told.message["tool_calls"][0]["function"]["arguments"]) == {"at": "sky"}
    life.settled("1.0", "blue")
    assert life.told() == ["blue"]
    check(life)


@pytest.mark.requirement("TOOL-20")
@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("another", {}),
        (OLD, {"response_format": {"type": "json_object"}}),
        (OLD, {"limits": {"rounds": 1}}),
    ],
)
def test_the_switch_is_of_the_model_and_not_for_answers_that_are_to_be_json(model: str, fields: Any) -> None:
    life = life_of(model, **fields)
    assert kinds(life.answered(says(CALL)))[-1] == "Finish"
    assert life.result["message"]["content"] == CALL
    assert isinstance(life.last(AskModel), AskModel)
