"""Whether a result wants an answer of the model, and what is to follow from it (TOOL-14)."""

from typing import Any

import pytest

from api_contracts import chat
from api_contracts.client.envelope import opened, tool_reply
from tests.unit.core.turns import Life, check, kinds, local, remote, request, wants
from workers.core.chat.acts import CallSent, CallSettled

NO, YES, UNSAID = False, True, None


def calling(*names: str) -> Life:
    life = Life(request(), [local("look"), remote("pay")]).begin()
    life.answered(wants(*names, text="Let me see."))
    return life


def ended(call_id: str, run_llm: bool | None, content: str = "0", *, follows: bool = False) -> CallSettled:
    return CallSettled(call_id, ok=True, content=content, run_llm=run_llm, follows=follows)


@pytest.mark.requirement("TOOL-14")
@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ((NO,), False), ((YES,), True), ((UNSAID,), True), ((NO, NO), False), ((NO, YES), True), ((YES, NO), True),
        ((NO, UNSAID), True), ((UNSAID, NO), True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", ["0", "false", "[]", "{}", "", "null", "much"])
def test_the_model_is_asked_once_unless_every_result_says_no(
    said: tuple[bool | None, ...], asked: bool, content: str
) -> None:
    life = calling(*["look"] * len(said))
    for place, run_llm in enumerate(said):
        assert "AskModel" not in kinds(life.trace)[3:], "not before all of them have results"
        did = kinds(life.feed(ended(f"1.{place}", run_llm, content)))
    assert ("AskModel" in did) == asked
    if asked:
        assert life.told() == [content] * len(said)
    else:
        assert did[-2:] == ["tool.batch_joined", "Finish"]
        assert life.result["status"] == "completed"
        assert life.result["message"] == {"role": "assistant", "content": "Let me see."}
        assert not life.result["interrupted"]
    check(life)


@pytest.mark.requirement("TOOL-14", "TOOL-06")
def test_a_call_beside_it_that_failed_wants_an_answer() -> None:
    life = calling("look", "fly")
    assert "AskModel" in kinds(life.feed(ended("1.0", NO)))


@pytest.mark.requirement("TOOL-14", "RUN-04")
def test_a_successor_keeps_to_it() -> None:
    life = calling("look")
    life.feed(ended("1.0", NO))
    first = next(n for n, (event, _) in enumerate(life.journal, 1) if isinstance(event, chat.CallResult))
    for kept in range(first, len(life.journal) + 1):
        again = Life(life.request, life.cards, list(life.journal[:kept])).begin()
        assert again.result["status"] == "completed"
        assert "AskModel" not in kinds(again.trace)
        check(again)


@pytest.mark.requirement("TOOL-14")
@pytest.mark.parametrize("value", [0, False, [], {}, "", None, "paid"])
@pytest.mark.parametrize("run_llm", [True, False])
def test_another_service_says_so_in_what_its_task_returns(value: Any, run_llm: bool) -> None:
    letter = opened(tool_reply(value, run_llm=run_llm), "result")
    assert letter == {"ok": True, "value": value, "run_llm": run_llm}
    life = calling("pay")
    life.feed(CallSent("1.0"))
    assert ("AskModel" in kinds(life.feed(life.letter("1.0", **letter)))) == run_llm
    check(life)


@pytest.mark.requirement("TOOL-14")
def test_what_follows_from_a_result_stands_behind_it_and_before_the_next_question() -> None:
    life = calling("look")
    did = kinds(life.feed(ended("1.0", UNSAID, follows=True)))
    assert did == ["tool.call_result", "FollowUp", "tool.batch_joined", "chat.requested", "AskModel"]
