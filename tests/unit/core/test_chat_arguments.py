"""Arguments are held against the tool's schema before anything runs, and go back to the model once (TOOL-04)."""

from typing import Any

import pytest

from api_contracts import chat
from tests.unit.core.turns import RUN, Life, check, kinds, request, says, wants
from workers.core.chat.acts import CallSettled, RunTool, SendCall
from workers.core.chat.arguments import MOST_DEPTH
from workers.core.chat.cards import ToolCard
from workers.core.chat.schema import BadSchema
from workers.core.chat.turn import ChatTurn

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "to": {"$ref": "#/$defs/to"}},
    "$defs": {"to": {"enum": ["ann", "bob"]}},
    "required": ["n"],
    "additionalProperties": False,
}
ANY = {"type": "object", "properties": {}}
LOOK = ToolCard("look", "looks", SCHEMA, "pure")
PAY = ToolCard("pay", "pays", SCHEMA, "at_most_once", task="svc.pay", queue="svc")
FREE = ToolCard("free", "takes all", ANY, "pure")
AGAIN = "The arguments were refused again, and the call failed. Go on without it."


def life_with(*cards: ToolCard, **fields: Any) -> Life:
    return Life(request(**fields), cards or (LOOK, PAY, FREE)).begin()


def nested(depth: int) -> str:
    return '{"a": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


@pytest.mark.requirement("TOOL-04")
@pytest.mark.parametrize("tool", ["look", "pay"])
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ('{"n": "3"}', "at n: '3' is not of type 'integer'"),
        ("{}", "'n' is a required property"),
        ("", "'n' is a required property"),
        ('{"n": 1, "to": "eve"}', "at to: 'eve' is not one of ['ann', 'bob']"),
        ('{"n": 1, "m": 2}', "Additional properties are not allowed ('m' was unexpected)"),
        ("{", "they are not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"n": NaN}', "they are not JSON: NaN is not JSON"),
        ("[1]", "they are not a JSON object"),
        ('"text"', "they are not a JSON object"),
        ("null", "they are not a JSON object"),
        ('{"n": ' + "1" * 5000 + "}", "they are not JSON: "),
    ],
)
def test_what_does_not_fit_runs_nowhere_and_goes_back_to_the_model(tool: str, arguments: str, why: str) -> None:
    life = life_with()
    life.answered(wants((tool, arguments)))
    (told,) = life.told()
    assert told.startswith(f"The arguments were refused: {why}")
    assert told.endswith(". Call the tool again with arguments that fit its schema.")
    failed = life.last(chat.CallFailed)
    assert (failed.code, life.last(chat.CallReserved).where) == ("invalid_arguments", "nowhere")
    assert not {"RunTool", "SendCall"} & set(kinds(life.trace))
    check(life)


@pytest.mark.requirement("TOOL-04")
def test_what_fits_is_made() -> None:
    life = life_with()
    life.answered(wants(("look", '{"n": 3}'), ("pay", '{"n": 4, "to": "bob"}')))
    assert life.last(RunTool).arguments == {"n": 3}
    assert life.last(SendCall).arguments == {"n": 4, "to": "bob"}


@pytest.mark.requirement("TOOL-04")
@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 500, 900, 10_000, 200_000])
@pytest.mark.parametrize("name", ["free", "look"])
def test_arguments_that_are_nested_too_deeply_harm_nobody(name: str, depth: int) -> None:
    life = life_with()
    life.answered(wants((name, nested(depth)), ("free", nested(MOST_DEPTH))))
    assert "it is nested too deeply" in life.last(chat.CallFailed).content
    assert life.last(RunTool).call_id == "1.1"
    assert kinds(Life(life.request, life.cards, journal=list(life.journal)).begin().trace)[-1] == "RunTool"
    life.settled("1.1")
    check(life)


@pytest.mark.requirement("TOOL-04")
def test_a_second_refusal_is_for_good_and_the_run_goes_on() -> None:
    life = life_with()
    life.answered(wants("look", "look"))
    assert all(told.endswith("arguments that fit its schema.") for told in life.told()), "one answer, one chance"
    life.answered(wants("look", ("look", '{"n": 1}')))
    life.settled("2.1", "one")
    assert life.told()[2:] == [AGAIN, "one"]
    life.answered(says("that is all"))
    assert life.result["status"] == "completed"
    assert [call["state"] for call in life.result["tool_calls"]] == ["failed", "failed", "failed", "succeeded"]
    check(life)


@pytest.mark.requirement("TOOL-04")
def test_a_tool_that_ran_since_has_its_chance_again_and_others_have_their_own() -> None:
    life = life_with()
    life.answered(wants("look"))
    life.answered(wants(("look", '{"n": 1}'), "pay"))
    life.settled("2.0")
    assert "Call the tool again" in life.told()[-1]
    life.answered(wants("look", "pay"))
    assert "Call the tool again" in life.told()[-2]
    assert life.told()[-1] == AGAIN
    check(life)


@pytest.mark.requirement("TOOL-04", "RUN-04")
@pytest.mark.parametrize("upto", range(5, 11))
def test_a_successor_gives_the_model_no_second_chance(upto: int) -> None:
    life = life_with()
    life.answered(wants("look"))
    again = Life(life.request, life.cards, journal=life.journal[:upto]).begin()
    assert "Call the tool again" in again.told()[0]
    again.answered(wants("look"))
    assert again.told()[1] == AGAIN
    check(again)


@pytest.mark.requirement("TOOL-04")
def test_what_the_tools_own_checks_refuse_counts_the_same() -> None:
    """A schema cannot say everything that a pydantic model checks."""
    life = life_with()
    for round_ in (1, 2):
        life.answered(wants(("look", '{"n": 3}')))
        life.feed(CallSettled(f"{round_}.0", ok=False, content="n: is odd", code="invalid_arguments"))
    first, second = life.told()
    assert first == "The arguments were refused: n: is odd. Call the tool again with arguments that fit its schema."
    assert second == AGAIN
    check(life)


@pytest.mark.requirement("TOOL-04")
@pytest.mark.parametrize("parameters", [{"type": "object", "properties": 3}, {"type": "object", "required": "n"}])
def test_parameters_that_are_no_schema_are_refused_before_anything_is_asked(parameters: dict[str, Any]) -> None:
    card = ToolCard("look", "", parameters, "pure")
    with pytest.raises(BadSchema, match="the parameters of tool 'look': the JSON schema is none"):
        ChatTurn(RUN, request(), {"look": card}, 0.0, "secret")
