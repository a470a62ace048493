"""What ends a loop of tools: the same call again and again, too many calls, too many rounds; and calls of tools that
there are not (TOOL-16, TOOL-02)."""

from typing import Any

import pytest

from api_contracts import chat
from tests.unit.core.turns import Life, check, kinds, local, remote, request, says, wants
from workers.core.chat.acts import AskModel, RunTool
from workers.core.chat.cards import CATCH_ALL, ToolCard

LOOK = ToolCard("look", "", {"type": "object"}, "pure")
OTHER = ToolCard(CATCH_ALL, "", {"type": "object"}, "keyed", 5.0)
ONCE_MORE = "This call was made 3 times already and is not made again; answer with what is known."


def life_of(*cards: ToolCard, **fields: Any) -> Life:
    return Life(request(**fields), cards or (LOOK, remote("pay"))).begin()


def choice(life: Life) -> str:
    return str(life.last(AskModel).body["tool_choice"])


def loop(life: Life, times: int, *arguments: str) -> None:
    """Have the model make the same call in so many rounds, written in these ways."""
    for number in range(times):
        call_id = f"{life.machine.state.round}.0"
        life.answered(wants(("look", arguments[number % len(arguments)])))
        if life.ledger()[call_id] == "running":
            life.settled(call_id)


# -- identical repeats -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-16")
@pytest.mark.parametrize("ways", [("{}",), ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}'), ("", "{}", " { } ")])
def test_the_fourth_identical_call_is_refused_and_the_model_has_to_answer_without_tools(ways: tuple[str, ...]) -> None:
    life = life_of()
    loop(life, 3, *ways)
    assert choice(life) == "auto"
    loop(life, 1, ways[0])
    assert life.last(chat.CallFailed).code == "repeated"
    assert life.told()[-1] == ONCE_MORE
    assert choice(life) == "none"
    life.answered(says("I give up"))
    assert life.result["status"] == "completed"
    assert [call["state"] for call in life.result["tool_calls"]] == ["succeeded"] * 3 + ["failed"]
    check(life)


@pytest.mark.requirement("TOOL-16")
def test_identical_calls_of_one_answer_count_alike() -> None:
    life = life_of()
    life.answered(wants(*["look"] * 5))
    assert list(life.ledger().values()) == ["running"] * 3 + ["failed"] * 2


@pytest.mark.requirement("TOOL-16")
def test_other_arguments_and_other_tools_are_other_calls() -> None:
    life = life_of(LOOK, local("see"))
    for round_ in range(1, 6):
        life.answered(wants(("look", f'{{"page": {round_}}}')))
        life.settled(f"{round_}.0")
    assert choice(life) == "auto"
    life.answered(wants("see", "see", "see", "look", "look", "look"))
    assert set(life.ledger().values()) == {"succeeded", "running"}


@pytest.mark.requirement("TOOL-16")
def test_the_request_says_how_often() -> None:
    life = life_of(limits={"repeats": 1})
    loop(life, 2, "{}")
    assert life.ledger() == {"1.0": "succeeded", "2.0": "failed"}
    assert life_of(limits={"repeats": 5}).request.limits.repeats == 5
    assert chat.Limits().model_dump() | {"rounds": 16, "repeats": 3} == chat.Limits().model_dump()


@pytest.mark.requirement("TOOL-16", "RUN-04")
def test_a_successor_counts_what_was_made_before() -> None:
    life = life_of()
    loop(life, 2, "{}")
    again = Life(life.request, life.cards, list(life.journal)).begin()
    loop(again, 1, "{}")
    third = Life(life.request, life.cards, list(again.journal)).begin()
    loop(third, 1, "{}")
    assert third.last(chat.CallFailed).code == "repeated"
    fourth = Life(life.request, life.cards, list(third.journal)).begin()
    assert choice(fourth) == "none"
    check(fourth)


@pytest.mark.requirement("TOOL-16")
@pytest.mark.parametrize(("limits", "rounds"), [({"rounds": 3}, 2), ({"calls": 2}, 2)])
def test_at_the_other_limits_one_last_turn_without_tools_answers(limits: dict[str, int], rounds: int) -> None:
    life = life_of(limits=limits)
    for round_ in range(1, rounds + 1):
        assert choice(life) == "auto"
        life.answered(wants(("look", f'{{"page": {round_}}}')))
        life.settled(f"{round_}.0")
    assert choice(life) == "none"
    life.answered(says("done"))
    assert life.result["status"] == "completed"


# -- tools that there are not ------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-02")
def test_a_handler_of_unknown_tools_is_shown_to_nobody_and_gets_their_calls() -> None:
    life = life_of(LOOK, OTHER)
    assert [each["function"]["name"] for each in life.last(AskModel).body["tools"]] == ["look"]
    life.answered(wants(("fly", '{"to": "Oslo"}'), "look"))
    ran = [action for action in life.trace if isinstance(action, RunTool)]
    assert [(run.name, run.arguments) for run in ran] == [
        (CATCH_ALL, {"name": "fly", "arguments": {"to": "Oslo"}}), ("look", {}),
    ]  # fmt: skip
    reserved = next(event for event in life.events if isinstance(event, chat.CallReserved))
    assert (reserved.name, reserved.effect) == ("fly", "keyed")
    life.settled("1.0", "flown")
    life.settled("1.1")
    assert life.told() == ["flown", "done"]
    check(life)


@pytest.mark.requirement("TOOL-02", "TOOL-11")
def test_a_successor_runs_it_again_under_the_same_key() -> None:
    life = life_of(LOOK, OTHER)
    life.answered(wants("fly"))
    again = Life(life.request, life.cards, list(life.journal)).begin()
    assert kinds(again.trace) == ["run.resumed", "RunTool"]
    assert again.last(RunTool) == life.last(RunTool)


@pytest.mark.requirement("TOOL-02")
def test_without_one_the_model_is_told_and_the_refusal_has_a_word_that_can_be_counted() -> None:
    life = life_of()
    life.answered(wants("fly"))
    assert life.told() == ["The tool fly is not available."]
    assert life.last(chat.CallFailed).code == "not_available"


# -- late results ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-07", "TOOL-17")
@pytest.mark.parametrize(
    ("data", "ok", "content"), [({"value": {"eur": 5}}, True, '{"eur": 5}'), ({"ok": False}, False, "The tool failed.")]
)
def test_a_late_result_is_kept_with_what_it_said(data: dict[str, Any], ok: bool, content: str) -> None:
    life = life_of()
    life.answered(wants("pay"))
    life.at(life.machine.deadline or 0.0)
    life = Life(life.request, life.cards, list(life.journal), life.now + 60)
    life.begin()
    assert life.ledger() == {"1.0": "timed_out"}
    life.feed(life.letter("1.0", "4-0", **data))
    late = life.last(chat.CallLateResult)
    assert (late.ok, late.content, late.inbox) == (ok, content, "4-0")
    assert life.told() == ["The tool did not answer in time."]
    check(life)
