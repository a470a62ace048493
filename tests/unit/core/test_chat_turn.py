"""The way of a chat without its tools: asking, answers, retries, limits of time."""

import pytest

from api_contracts.chat import ChatDelta, ChatReasoning, ChatReplaced, ChatResult, FinishReason, Usage
from api_contracts.failure import Failure
from api_contracts.keys import cache_namespace
from tests.unit.core.turns import BUSY, REFUSED, T0, Life, check, kinds, local, request, says, wants
from workers.adapters.fireworks.deadlines import timed_out
from workers.core.chat.acts import AskModel, CallSettled, ModelAnswered, ModelFailed, ModelSaid
from workers.core.retry import BUDGET
from workers.core.runs.frame import Woke


def test_a_plain_answer_completes_the_run() -> None:
    life = Life(request(temperature=0.2)).begin()
    assert life.types == ["run.started", "chat.requested"]
    ask = life.last(AskModel)
    assert (ask.attempt, ask.credential) == (1, None)
    assert ask.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.2,
        "context_length_exceeded_behavior": "error",
        "prompt_cache_isolation_key": cache_namespace("default"),
    }
    life.feed(ModelSaid(1, "hel", ""), ModelSaid(1, "lo", ""))
    done = life.answered(says("hello"))
    assert kinds(done) == ["chat.message", "chat.usage", "Finish"]
    result = ChatResult.model_validate(life.result)
    assert (result.status, result.message) == ("completed", {"role": "assistant", "content": "hello"})
    assert (result.finish_reason, result.rounds, result.tool_calls) == ("stop", 1, [])
    assert result.usage == Usage(prompt_tokens=10, completion_tokens=5)
    check(life)


@pytest.mark.requirement("OPS-13")
def test_the_body_carries_nothing_of_ours_and_the_key_only_by_its_name() -> None:
    asked = request(
        tenant="t", labels={"a": "b"}, lane="background", deadline_s=9, credential="theirs", idempotency_key="k",
        parallel_tools=2, limits={"rounds": 3}, extra={"speculation": "x"},
    )  # fmt: skip
    ask = Life(asked).begin().last(AskModel)
    assert ask.credential == "theirs"
    ours = {"model", "messages", "context_length_exceeded_behavior", "speculation", "prompt_cache_isolation_key"}
    assert set(ask.body) == ours


@pytest.mark.requirement("CHAT-11")
@pytest.mark.parametrize("what", ["connect", "first_token", "gap", "total"])
def test_each_deadline_that_passes_is_told_by_an_event_with_its_own_code(what: str) -> None:
    life = Life(request()).begin()
    life.failed(timed_out(what, 7.0))
    told = life.last(ChatReplaced)
    assert (told.attempt, told.failure.code, told.failure.category) == (1, f"provider_{what}_timeout", "timeout")
    assert (life.end is not None) is (what == "total"), "too long for its total once is too long twice"
    if life.end:
        assert life.result["failure"]["code"] == "provider_total_timeout"
    check(life)


@pytest.mark.requirement("CHAT-02")
def test_what_the_model_says_is_told_at_once_with_its_attempt() -> None:
    life = Life(request()).begin()
    assert kinds(life.feed(ModelSaid(1, "text", "thought"))) == ["chat.reasoning", "chat.delta"]
    assert life.events[2:] == [ChatReasoning(attempt=1, text="thought"), ChatDelta(attempt=1, text="text")]
    assert life.feed(ModelSaid(1, "", "")) == []


@pytest.mark.requirement("CHAT-06")
def test_a_thought_is_kept_apart_from_the_answer() -> None:
    life = Life(request()).begin()
    life.feed(ModelSaid(1, "", "hm"), ModelSaid(1, "yes", ""))
    life.answered(says("yes", reasoning="hm"))
    assert life.result["reasoning"] == "hm"
    assert life.result["message"] == {"role": "assistant", "content": "yes"}


@pytest.mark.requirement("CHAT-05")
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_every_finish_reason_is_passed_on(reason: FinishReason) -> None:
    life = Life(request()).begin()
    life.answered(says("so far", finish=reason))
    assert (life.result["status"], life.result["finish_reason"]) == ("completed", reason)


def test_the_result_tells_how_long_it_took() -> None:
    life = Life(request(), now=T0 + 2).begin()
    life.now = T0 + 3.5
    life.feed(ModelSaid(1, "a", ""))
    life.now = T0 + 5
    life.answered(says("a"))
    assert life.result["timings"] == {"queued_s": 2.0, "first_delta_s": 3.5, "total_s": 5.0}


@pytest.mark.requirement("CHAT-03")
def test_the_usage_of_all_rounds_is_summed() -> None:
    life = Life(request(), [local("look")]).begin()
    life.answered(wants("look"))
    life.settled("1.0")
    life.answered(says())
    assert life.result["usage"] == {
        "prompt_tokens": 10, "completion_tokens": 8, "cached_tokens": 0, "reasoning_tokens": 0, "estimated": False,
    }  # fmt: skip
    assert life.result["rounds"] == 2


@pytest.mark.parametrize("offset", [-1, 1])
def test_facts_of_another_attempt_change_nothing(offset: int) -> None:
    life = Life(request()).begin()
    life.failed(BUSY)
    life.at(T0 + 60)
    assert life.attempt == 2
    attempt = 2 + offset
    other = [ModelSaid(attempt, "x", "y"), ModelAnswered(attempt, says()), ModelFailed(attempt, REFUSED, 1)]
    assert life.feed(*other) == []
    life.answered(says())
    assert life.feed(*other, ModelAnswered(2, says("again")), CallSettled("1.0", ok=True, content="")) == []
    check(life)


# -- retries -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-02", "CHAT-10")
def test_a_failure_that_may_pass_is_tried_again_after_a_pause() -> None:
    life = Life(request()).begin()
    life.feed(ModelSaid(1, "half", ""))
    assert kinds(life.failed(BUSY, jitter=0.5)) == ["chat.replaced"]
    replaced = life.events[-1]
    assert replaced.model_dump()["failure"]["code"] == "busy"
    assert life.machine.deadline == T0 + 0.25
    assert life.at(T0 + 0.2) == []
    assert kinds(life.at(T0 + 0.25)) == ["chat.requested", "AskModel"]
    assert life.attempt == 2
    assert life.feed(Woke()) == []
    assert not life.machine.deadline
    life.answered(says("whole"))
    assert life.result["message"]["content"] == "whole"
    check(life)


@pytest.mark.requirement("CHAT-10")
def test_the_pause_doubles_with_each_failure_in_a_row() -> None:
    life = Life(request()).begin()
    pauses = []
    for _ in range(BUDGET - 1):
        life.failed(BUSY, jitter=1.0)
        assert life.machine.deadline is not None
        pauses.append(life.machine.deadline - life.now)
        life.at(life.machine.deadline)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.requirement("CHAT-10")
def test_the_providers_own_wish_is_a_lower_bound() -> None:
    life = Life(request()).begin()
    life.failed(BUSY.model_copy(update={"retry_after_s": 7.0}), jitter=0.0)
    assert life.machine.deadline == T0 + 7


@pytest.mark.requirement("CHAT-10", "RUN-09")
def test_the_budget_ends_the_run_with_the_last_failure() -> None:
    life = Life(request()).begin()
    for _ in range(BUDGET):
        assert life.end is None
        life.failed(BUSY)
        life.at(life.machine.deadline or life.now)
    assert life.attempt == BUDGET
    assert life.result["status"] == "failed"
    assert Failure.model_validate(life.result["failure"]) == BUSY
    check(life)


@pytest.mark.requirement("CHAT-10")
def test_an_answer_fills_the_budget_again() -> None:
    life = Life(request(), [local("look")]).begin()
    for _ in range(BUDGET - 1):
        life.failed(BUSY, jitter=0)
        life.at(life.now)
    life.answered(wants("look"))
    life.settled("1.0")
    life.failed(BUSY)
    assert life.end is None


@pytest.mark.requirement("RUN-09")
def test_a_failure_that_does_not_pass_ends_the_run_at_once() -> None:
    life = Life(request()).begin()
    life.feed(ModelSaid(1, "half", ""))
    assert kinds(life.failed(REFUSED)) == ["chat.replaced", "Finish"]
    assert life.end is not None
    assert life.end.failure == REFUSED
    assert "message" not in life.result, "what was said belongs to an answer that is void"


def test_a_wake_call_that_nobody_ordered_does_nothing() -> None:
    life = Life(request()).begin()
    assert life.machine.deadline is None
    assert life.feed(Woke()) == []


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-16")
def test_the_last_round_is_asked_without_tools() -> None:
    life = Life(request(tools=["look"], limits={"rounds": 2}), [local("look")]).begin()
    assert life.last(AskModel).body["tool_choice"] == "auto"
    life.answered(wants("look"))
    life.settled("1.0")
    assert life.last(AskModel).body["tool_choice"] == "none"
    life.answered(says())
    assert life.result["rounds"] == 2


@pytest.mark.requirement("TOOL-16")
def test_tools_in_the_last_round_end_the_run_as_failed() -> None:
    life = Life(request(limits={"rounds": 1}), [local("look")]).begin()
    assert kinds(life.answered(wants("look"))) == ["chat.message", "chat.usage", "Finish"]
    assert life.result["failure"]["code"] == "rounds_exhausted"
    check(life)


@pytest.mark.requirement("TOOL-16")
def test_calls_over_the_limit_are_refused_and_then_the_model_must_answer() -> None:
    life = Life(request(tools=["look"], limits={"calls": 2}), [local("look")]).begin()
    life.answered(wants("look", "look", "look"))
    assert life.ledger() == {"1.0": "running", "1.1": "running", "1.2": "failed"}
    life.settled("1.0")
    life.settled("1.1")
    assert life.last(AskModel).body["tool_choice"] == "none"
    assert life.told() == ["done", "done", "This run may make no more tool calls; answer with what is known."]
    check(life)


@pytest.mark.requirement("TOOL-16")
def test_a_run_may_be_allowed_no_calls_at_all() -> None:
    life = Life(request(tools=["look"], limits={"calls": 0}), [local("look")]).begin()
    assert life.last(AskModel).body["tool_choice"] == "none"


def test_a_forced_tool_choice_holds_for_the_first_round_only() -> None:
    forced = {"type": "function", "function": {"name": "look"}}
    life = Life(request(tools=["look"], tool_choice=forced), [local("look")]).begin()
    assert life.last(AskModel).body["tool_choice"] == forced
    life.failed(BUSY, jitter=0)
    life.at(life.now)
    assert life.last(AskModel).body["tool_choice"] == forced, "a repeat of the first round is the first round"
    life.answered(wants("look"))
    life.settled("1.0")
    assert life.last(AskModel).body["tool_choice"] == "auto"


@pytest.mark.requirement("TOOL-01")
def test_the_model_is_shown_each_tool_in_the_providers_form() -> None:
    body = Life(request(tools=["look"]), [local("look")]).begin().last(AskModel).body
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "look",
                "description": "does look",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]


@pytest.mark.requirement("RUN-12")
def test_the_deadline_of_the_run_ends_it_wherever_it_is() -> None:
    life = Life(request(deadline_s=30)).begin()
    assert life.machine.deadline == T0 + 30
    life.feed(ModelSaid(1, "half", ""))
    assert life.at(T0 + 29.9) == []
    assert kinds(life.at(T0 + 30)) == ["StopAll", "Finish"]
    assert life.result["failure"]["code"] == "deadline_exceeded"
    assert life.result["message"]["content"] == "half", "what was said is kept"
    check(life)


@pytest.mark.requirement("RUN-12")
def test_a_run_whose_deadline_passed_while_it_waited_asks_nobody() -> None:
    life = Life(request(deadline_s=30), now=T0 + 31).begin()
    assert kinds(life.trace) == ["run.started", "Finish"]
    assert life.result["failure"]["code"] == "deadline_exceeded"


@pytest.mark.requirement("RUN-12")
def test_a_pause_never_outlasts_the_deadline() -> None:
    life = Life(request(deadline_s=3)).begin()
    life.failed(BUSY.model_copy(update={"retry_after_s": 60.0}))
    assert life.machine.deadline == T0 + 3
    life.at(T0 + 3)
    assert life.result["failure"]["code"] == "deadline_exceeded"
