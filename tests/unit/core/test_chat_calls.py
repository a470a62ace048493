"""Tool calls of a chat: in the worker and in other services, their results, refusals, deadlines."""

from typing import Any

import pytest

from api_contracts import chat
from api_contracts.chat import Effect
from api_contracts.keys import derived_task_id
from tests.unit.core.turns import RUN, T0, Life, check, kinds, local, remote, request, says, wants
from workers.core.chat.acts import AskModel, CallSent, CallSettled, RunTool, SendCall, StopTool
from workers.core.chat.calls import Wanted, reservation
from workers.core.runs.frame import SignalArrived

LOOK, PAY = local("look"), remote("pay", "at_most_once")


def with_calls(*names: Any, cards: Any = (LOOK, PAY), **fields: Any) -> Life:
    life = Life(request(**fields), cards).begin()
    life.answered(wants(*names))
    return life


# -- in the worker -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-17")
def test_a_tool_of_the_worker_is_reserved_started_run_and_joined() -> None:
    life = with_calls(("look", '{"at": "sky"}'))
    assert life.types[2:] == [
        "chat.message", "chat.usage", "tool.batch_started", "tool.call_reserved", "tool.call_started",
    ]  # fmt: skip
    assert life.last(RunTool) == RunTool("1.0", "look", {"at": "sky"}, derived_task_id(RUN, "1.0"))
    assert kinds(life.settled("1.0", "blue")) == ["tool.call_result", "tool.batch_joined", "chat.requested", "AskModel"]
    assert life.last(AskModel).body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "p0", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "p0", "content": "blue"},
    ]
    life.answered(says("It is blue."))
    assert life.result["tool_calls"] == [
        {
            "call_id": "1.0", "name": "look", "arguments": '{"at": "sky"}', "state": "succeeded", "effect": "pure",
            "content": "blue",
        }
    ]  # fmt: skip
    check(life)


@pytest.mark.requirement("TOOL-05", "TOOL-06")
def test_several_calls_run_at_once_and_the_model_waits_for_the_last() -> None:
    life = with_calls("look", "look", "look")
    assert [a.call_id for a in life.trace if isinstance(a, RunTool)] == ["1.0", "1.1", "1.2"]
    assert kinds(life.settled("1.2", "c")) == ["tool.call_result"]
    assert kinds(life.settled("1.0", "a")) == ["tool.call_result"]
    life.settled("1.1", "b")
    assert life.told() == ["a", "b", "c"], "results stand in the order of the calls, not of their ends"
    check(life)


@pytest.mark.requirement("TOOL-05")
def test_no_more_calls_run_at_once_than_the_request_allows() -> None:
    life = with_calls("look", "look", "look", parallel_tools=2)
    assert life.ledger() == {"1.0": "running", "1.1": "running"}
    assert life.settled("1.1")[-1] == RunTool("1.2", "look", {}, derived_task_id(RUN, "1.2"))
    check(life)


@pytest.mark.requirement("TOOL-05")
def test_one_at_a_time_keeps_the_models_order_across_worker_and_services() -> None:
    life = with_calls("look", "pay", "look", parallel_tools=1)
    assert life.ledger() == {"1.0": "running"}
    life.settled("1.0")
    assert life.ledger() == {"1.0": "succeeded", "1.1": "reserved"}
    life.feed(CallSent("1.1"), life.letter("1.1"))
    assert life.ledger() == {"1.0": "succeeded", "1.1": "succeeded", "1.2": "running"}
    check(life)


@pytest.mark.requirement("TOOL-07")
def test_waiting_for_its_turn_takes_none_of_a_calls_time() -> None:
    life = with_calls("look", "look", parallel_tools=1)
    life.now = T0 + 50
    life.settled("1.0")
    assert life.machine.deadline == T0 + 50 + 60


@pytest.mark.requirement("TOOL-16")
def test_the_next_round_numbers_its_calls_anew() -> None:
    life = with_calls("look")
    life.settled("1.0")
    life.answered(wants("look", "look"))
    assert list(life.ledger()) == ["1.0", "2.0", "2.1"]


@pytest.mark.requirement("TOOL-06")
def test_ids_that_the_provider_leaves_out_or_uses_again_are_replaced() -> None:
    life = with_calls(("look", "{}", ""), ("look", "{}", "same"), ("look", "{}", "same"), ("look", "{}", "call_1_0"))
    shown = [call["id"] for call in life.last(chat.ChatMessage).message["tool_calls"]]
    assert shown[1] == "same"
    assert all(shown)
    assert len(set(shown)) == 4
    for call_id in life.ledger():
        life.settled(call_id)
    life.answered(wants(("look", "{}", "same")))
    assert life.last(chat.ChatMessage).message["tool_calls"][0]["id"] not in shown
    life.settled("2.0")
    check(life)


def test_an_id_of_the_conversation_so_far_is_not_used_again() -> None:
    before = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_1_0", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "blue", "tool_call_id": "call_1_0"},
    ]
    life = with_calls(("look", "{}", ""), messages=before)
    assert life.last(chat.CallReserved).provider_id not in {"", "call_1_0"}


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-02", "TOOL-12")
def test_an_unknown_tool_is_answered_as_not_available_and_runs_nowhere() -> None:
    life = with_calls("fly", "look")
    assert life.last(chat.CallFailed).content == "The tool fly is not available."
    assert (life.events[5].TYPE, life.ledger()) == ("tool.call_reserved", {"1.0": "failed", "1.1": "running"})
    life.settled("1.1")
    assert life.told() == ["The tool fly is not available.", "done"]
    check(life)


@pytest.mark.requirement("TOOL-06")
def test_a_round_of_refusals_only_asks_again_at_once() -> None:
    life = with_calls("fly", "fly")
    assert life.types[-2:] == ["tool.batch_joined", "chat.requested"]
    assert life.attempt == 2
    check(life)


@pytest.mark.requirement("CHAT-04")
@pytest.mark.parametrize("arguments", ["", "{}", " { } "])
def test_empty_arguments_are_no_arguments(arguments: str) -> None:
    assert with_calls(("look", arguments)).last(RunTool).arguments == {}


# -- in another service ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-03", "TOOL-17")
def test_a_call_to_another_service_is_reserved_before_and_started_after_it_was_sent() -> None:
    life = with_calls(("pay", '{"eur": 5}'))
    assert kinds(life.trace)[-2:] == ["tool.call_reserved", "SendCall"]
    sent = life.last(SendCall)
    assert (sent.run_id, sent.call_id, sent.task_id) == (RUN, "1.0", derived_task_id(RUN, "1.0"))
    assert (sent.task, sent.queue, sent.arguments) == ("svc.pay", "svc", {"eur": 5})
    assert sent.token == life.last(chat.CallReserved).token
    assert kinds(life.feed(CallSent("1.0"))) == ["tool.call_started"]
    assert life.feed(CallSent("1.0")) == []
    life.feed(life.letter("1.0", "7-0", value="paid"))
    assert life.told() == ["paid"]
    assert life.machine.cursor == "7-0"
    check(life)


@pytest.mark.requirement("TOOL-03", "OPS-14")
def test_the_token_of_a_call_cannot_be_told_from_its_names() -> None:
    """Run and call are named in every message, and anyone can work out the task's id from them."""
    wanted = Wanted("1.0", "call_1", "pay", "{}")
    tokens = set[str]()
    for secret in ("one", "another"):
        (reserved,) = reservation(RUN, wanted, PAY, 0.0, refusal=None, secret=secret)
        assert isinstance(reserved, chat.CallReserved)
        assert reserved.token
        tokens.add(reserved.token)
    assert len(tokens) == 2


@pytest.mark.requirement("TOOL-03")
def test_a_result_may_be_faster_than_the_news_that_its_call_was_sent() -> None:
    life = with_calls("pay", "look")
    assert kinds(life.feed(life.letter("1.0", value=1))) == ["tool.call_result"]
    assert life.feed(CallSent("1.0")) == []
    check(life)


@pytest.mark.requirement("TOOL-03")
@pytest.mark.parametrize(
    "forged",
    [{"token": "wrong"}, {"token": None}, {"token": 5}, {"call_id": "9.9"}, {"call_id": None}, {"call_id": ["1.0"]}],
)
def test_a_letter_without_the_right_token_and_call_is_not_believed(forged: dict[str, Any]) -> None:
    life = with_calls("pay")
    before = life.ledger()
    assert kinds(life.feed(life.letter("1.0", **forged))) == ["run.ignored"]
    assert kinds(life.feed(SignalArrived("2-0", "tool_result", {}))) == ["run.ignored"]
    assert life.ledger() == before


@pytest.mark.requirement("TOOL-12")
def test_no_letter_settles_a_call_of_the_worker() -> None:
    life = with_calls("look")
    for token in ({}, {"token": None}, {"token": ""}):
        letter = SignalArrived("1-0", "tool_result", {"call_id": "1.0", "ok": True, **token})
        assert kinds(life.feed(letter)) == ["run.ignored"]
    assert life.ledger() == {"1.0": "running"}


@pytest.mark.requirement("TOOL-07", "TOOL-12")
def test_a_second_result_is_noted_and_not_applied() -> None:
    life = with_calls("pay", "look")
    life.feed(life.letter("1.0", "1-0", value="first"))
    assert kinds(life.feed(life.letter("1.0", "2-0", value="second"))) == ["tool.call_late_result"]
    assert kinds(life.feed(life.letter("1.0", "3-0", ok=False))) == ["tool.call_late_result"]
    assert life.machine.cursor == "3-0"
    life.settled("1.1")
    assert life.told()[0] == "first"
    check(life)


@pytest.mark.requirement("TOOL-08")
def test_a_failing_service_gives_the_model_a_neutral_text_and_the_operator_the_detail() -> None:
    life = with_calls("pay")
    life.feed(life.letter("1.0", ok=False, detail="CardDeclined: 4111"))
    failed = life.last(chat.CallFailed)
    assert (failed.content, failed.detail) == ("The tool failed.", "CardDeclined: 4111")
    assert life.told() == ["The tool failed."]


@pytest.mark.requirement("TOOL-08")
@pytest.mark.parametrize("data", [{"ok": False}, {"ok": "yes"}, {"ok": None}, {"ok": False, "detail": ""}])
def test_a_failure_without_detail_points_to_the_services_own_task(data: dict[str, Any]) -> None:
    life = with_calls("pay")
    life.feed(life.letter("1.0", **data))
    assert life.last(chat.CallFailed).detail == f"failed, see task {derived_task_id(RUN, '1.0')} in the tool's service"


@pytest.mark.requirement("TOOL-09")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (False, "false"),
        ([], "[]"),
        ({}, "{}"),
        ("", ""),
        (None, "null"),
        ("ü", "ü"),
        ({"a": "ü"}, '{"a": "ü"}'),
    ],
)
def test_falsy_values_of_another_service_are_results_like_any_other(value: object, text: str) -> None:
    life = with_calls("pay")
    life.feed(life.letter("1.0", value=value))
    assert life.ledger() == {"1.0": "succeeded"}
    assert life.told() == [text]
    check(life)


@pytest.mark.requirement("TOOL-09")
def test_a_result_that_is_too_large_is_an_explicit_error() -> None:
    fits, over = with_calls("pay"), with_calls("pay")
    fits.feed(fits.letter("1.0", value="ü" * 32 * 1024))
    assert fits.ledger() == {"1.0": "succeeded"}
    over.feed(over.letter("1.0", value="ü" * 32 * 1024 + "."))
    assert over.last(chat.CallFailed).detail == "65537 bytes"
    assert over.told() == ["The tool's result is too large."]


@pytest.mark.requirement("TOOL-09")
def test_half_a_surrogate_pair_harms_no_run() -> None:
    life = with_calls("pay", "look", ("look", '{"x": "\\ud800"}'))
    life.feed(life.letter("1.0", value="a\ud800"))
    life.settled("1.1", "b\udfff")
    life.settled("1.2", "\ud800", ok=False, detail="\ud800")
    assert life.told() == ["a?", "b?", "?"]
    life.feed(
        SignalArrived("8-0", "conflict", {"digest": "\ud800"}), SignalArrived("9-0", "cancel", {"reason": "\ud800"})
    )
    check(life)


# -- a worker's tool that fails ----------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-08")
def test_a_raising_tool_is_told_to_the_model_neutrally_and_the_run_goes_on() -> None:
    life = with_calls("look")
    life.settled("1.0", "", ok=False, detail="ValueError: secret")
    assert life.last(chat.CallFailed).detail == "ValueError: secret"
    assert life.told() == ["The tool failed."]
    life.answered(says())
    assert life.result["status"] == "completed"
    assert "secret" not in str(life.result)


@pytest.mark.requirement("TOOL-09")
def test_an_empty_result_of_the_worker_stays_empty() -> None:
    life = with_calls("look")
    life.settled("1.0", "")
    assert life.told() == [""]


def test_facts_of_a_call_that_is_over_or_was_never_made_change_nothing() -> None:
    life = with_calls("look", "look")
    life.settled("1.0")
    stale = [CallSettled("1.0", ok=True, content="again"), CallSent("1.0"), CallSent("7.7")]
    assert life.feed(*stale, CallSettled("7.7", ok=True, content="")) == []
    check(life)


# -- deadlines of calls ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-07", "TOOL-08", "TOOL-12")
@pytest.mark.parametrize(
    ("effect", "state", "told"),
    [
        ("pure", "timed_out", "The tool did not answer in time."),
        ("idempotent", "timed_out", "The tool did not answer in time."),
        ("keyed", "timed_out", "The tool did not answer in time."),
        ("at_most_once", "outcome_unknown", "It is not known whether the tool took effect; it was not repeated."),
    ],
)
@pytest.mark.parametrize("make", [local, remote])
def test_a_call_that_does_not_answer_is_settled_by_its_deadline(
    make: Any, effect: Effect, state: str, told: str
) -> None:
    life = with_calls("slow", cards=[make("slow", effect, 5.0)])
    if make is remote:
        life.feed(CallSent("1.0"))
    assert life.machine.deadline == T0 + 5
    assert life.at(T0 + 4.9) == []
    stopped = [a for a in life.at(T0 + 5) if isinstance(a, StopTool)]
    assert len(stopped) == (make is local)
    assert life.ledger() == {"1.0": state}
    assert life.told() == [told]
    check(life)


@pytest.mark.requirement("TOOL-07")
def test_a_result_after_the_deadline_is_noted_and_not_applied() -> None:
    life = with_calls("pay")
    life.at(T0 + 60)
    assert kinds(life.feed(life.letter("1.0", value="paid"))) == ["tool.call_late_result"]
    assert life.told() == ["It is not known whether the tool took effect; it was not repeated."]
    life.answered(says())
    assert life.result["tool_calls"][0]["state"] == "outcome_unknown"
    check(life)


@pytest.mark.requirement("TOOL-07", "TOOL-12")
def test_a_call_that_could_not_be_sent_in_time_is_not_sent_later() -> None:
    life = with_calls("ask", cards=[remote("ask")])
    assert kinds(life.at(T0 + 60))[:2] == ["StopTool", "tool.call_timed_out"]


@pytest.mark.requirement("TOOL-07")
def test_the_deadline_of_one_call_leaves_the_others_alone() -> None:
    life = with_calls("slow", "look", cards=[local("slow", timeout_s=5.0), LOOK])
    assert kinds(life.at(T0 + 5)) == ["StopTool", "tool.call_timed_out"]
    assert life.ledger() == {"1.0": "timed_out", "1.1": "running"}
    assert life.machine.deadline == T0 + 60


@pytest.mark.requirement("TOOL-05", "TOOL-07")
def test_a_call_that_times_out_makes_room_for_the_next() -> None:
    life = with_calls("slow", "look", cards=[local("slow", timeout_s=5.0), LOOK], parallel_tools=1)
    assert kinds(life.at(T0 + 5)) == [
        "StopTool", "tool.call_timed_out", "tool.call_reserved", "tool.call_started", "RunTool",
    ]  # fmt: skip
    check(life)
