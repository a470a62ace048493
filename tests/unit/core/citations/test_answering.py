"""A cited answer step by step: resolved, asked, judged, checked, or asked once more under a tighter grammar."""

from typing import Any

import pytest

from api_contracts import chat, citations, runs
from api_contracts.chat import Usage
from api_contracts.keys import cache_namespace
from tests.unit.core.citations.lives import (
    BUSY,
    GOOD,
    REFUSED,
    SOURCES,
    STALL,
    T0,
    UNCITED,
    Life,
    check,
    is_tight,
    kinds,
    request,
    says,
)
from workers.core.chat.acts import AskModel, ModelAnswered, ModelFailed, ModelSaid
from workers.core.grammar import parse
from workers.core.retry import BUDGET
from workers.core.runs.frame import Begin, Draining, SignalArrived, Woke

CANCEL = SignalArrived("5-0", "cancel", {"reason": "changed my mind"})
DRAIN = Draining(force_at=T0 + 15)


def asking(**fields: Any) -> Life:
    return Life(request(**fields)).begin()


def again() -> Life:
    """A run that was asked again under the tighter grammar."""
    life = asking()
    life.answered(UNCITED)
    return life


# -- the straight way --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-01", "CITE-03", "CITE-04")
def test_the_sources_are_resolved_before_the_model_is_asked_under_their_grammar() -> None:
    life = asking(credential="key-1")
    assert kinds(life.trace) == ["run.started", "cite.resolved", "chat.requested", "AskModel"]
    resolved = life.last(citations.CiteResolved)
    assert resolved.passages == [(1, 0, 22), (2, 0, 18)]
    ask = life.last(AskModel)
    assert ask.body["prompt_cache_isolation_key"] == cache_namespace(request().tenant)
    assert (ask.attempt, ask.credential) == (1, "key-1")
    assert ask.body["response_format"]["type"] == "grammar"
    assert parse(ask.body["response_format"]["grammar"]).matches(GOOD)
    assert SOURCES[0]["content"] in ask.body["messages"][1]["content"]
    assert life.last(chat.ChatRequested).round == 1
    check(life)


@pytest.mark.requirement("CITE-06", "CITE-07", "CITE-08", "CITE-13")
def test_an_answer_that_holds_is_checked_and_finishes_the_run() -> None:
    life = asking()
    life.now = T0 + 2
    life.said(GOOD[:9], GOOD[9:])
    assert kinds(life.answered(GOOD)) == ["cite.generated", "chat.usage", "cite.checked", "Finish"]
    result = life.result
    assert (result.status, result.text, result.kind) == ("completed", GOOD, "cite")
    assert [(c.numbers, c.source_ids, c.quote) for c in result.citations] == [
        ([1], ["water"], "boils at 100 °C"), ([2], ["ice"], None),
    ]  # fmt: skip
    assert [v.verdict for v in result.citations[0].verdicts] == ["exists", "verbatim"]
    assert [r.text for r in result.references] == ["[1] On Water.", "[2] ice."]
    assert (result.uncited, result.revisions, result.coverage.share) == ([], [], 1.0)
    assert (result.passages, result.unread) == (2, [])
    assert result.usage == Usage(prompt_tokens=10, completion_tokens=5)
    assert result.timings == {"queued_s": 0.0, "first_delta_s": 2.0, "total_s": 2.0}
    assert life.last(citations.CiteChecked) == citations.CiteChecked(
        attempt=1, tiers=["existence", "verbatim"], sentences=2, cited=2, citations=2, quotes=1, verbatim=1
    )
    check(life)


@pytest.mark.requirement("CITE-05")
def test_an_automatic_answer_may_have_no_citation_and_then_supports_nothing() -> None:
    life = asking(policy="auto")
    life.answered(UNCITED)
    result = life.result
    assert (result.status, result.text, result.citations, result.references) == ("completed", UNCITED, [], [])
    assert (result.coverage.share, [(s.start, s.end) for s in result.uncited]) == (0.0, [(0, len(UNCITED))])
    check(life)


@pytest.mark.requirement("CITE-10")
def test_the_stream_joined_is_the_text_also_when_the_model_thinks_aloud() -> None:
    life = asking()
    content = f" <think>Is it [99]?</think>\n\n{GOOD} \n"
    life.feed(*(ModelSaid(1, piece, "") for piece in (content[:4], content[4:20], content[20:40], content[40:])))
    life.feed(ModelSaid(1, "", "more thought"))
    life.answered(says(content, reasoning="more thought"))
    assert "".join(e.text for e in life.events if isinstance(e, chat.ChatDelta)) == GOOD == life.result.text
    assert "".join(e.text for e in life.events if isinstance(e, chat.ChatReasoning)) == "Is it [99]?more thought"
    assert life.result.reasoning == "more thoughtIs it [99]?"
    check(life)


def test_what_looked_like_a_thought_and_was_none_is_told_at_the_end() -> None:
    life = asking(policy="auto")
    life.said("<thin")
    assert "chat.delta" not in life.types
    life.answered("<thin")
    assert life.result.text == "<thin" == life.last(chat.ChatDelta).text


def test_a_thought_that_was_cut_off_is_none_of_the_next_answers() -> None:
    life = asking().said("<think>never en")
    life.failed(BUSY)
    life.at(T0 + 60)
    life.said(GOOD).answered(GOOD)
    assert life.last(chat.ChatDelta).text == GOOD == life.result.text
    check(life)


# -- asked again -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-05", "CITE-09")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(GOOD, "length"), "truncated"),
        (says(""), "empty"),
        (says(None), "empty"),
        (says("[1]."), "empty"),
        (says(UNCITED), "mismatch"),
        (says("Water boils [3]."), "mismatch"),
        (says("Water boils [1"), "mismatch"),
        (says(" ".join([GOOD] * 3)), "mismatch"),
    ],
)
def test_an_answer_that_does_not_hold_is_asked_for_once_more_under_a_tighter_grammar(answer: Any, reason: str) -> None:
    life = asking()
    assert kinds(life.answered(answer)) == [
        "cite.generated", "chat.usage", "cite.repaired", "chat.replaced", "chat.requested", "AskModel",
    ]  # fmt: skip
    repaired = life.last(citations.CiteRepaired)
    assert (repaired.attempt, repaired.reason) == (1, reason)
    first, second = life.asked
    assert (is_tight(first), is_tight(second), second.attempt) == (False, True, 2)
    assert life.last(chat.ChatRequested).round == 2
    assert second.body["response_format"]["grammar"] != first.body["response_format"]["grammar"]
    life.answered("Water boils [1].")
    result = life.result
    assert (result.status, result.text) == ("completed", "Water boils [1].")
    assert [(r.attempt, r.reason) for r in result.revisions] == [(1, reason)]
    assert result.revisions[0].text == (answer.message["content"] or "")
    assert result.usage == Usage(prompt_tokens=20, completion_tokens=10), "both answers are paid for"
    check(life)


@pytest.mark.requirement("CITE-05")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (says(UNCITED), "answer_outside_grammar"),
        (says(GOOD, "length"), "answer_truncated"),
        (says(""), "answer_empty"),
        (says("word " * 40 + "word [1]."), "answer_outside_grammar"),
    ],
)
def test_a_second_answer_that_does_not_hold_fails_the_run(answer: Any, code: str) -> None:
    life = again()
    assert kinds(life.answered(answer)) == ["cite.generated", "chat.usage", "Finish"]
    result = life.result
    assert result.failure is not None
    assert (result.status, result.failure.code, result.failure.provider_request_id) == ("failed", code, "req-1")
    assert result.text == "", "what does not hold is no answer"
    assert [r.text for r in result.revisions] == [UNCITED, (answer.message["content"] or "").strip()]
    check(life)


@pytest.mark.requirement("CITE-05")
def test_an_answer_that_was_filtered_is_not_asked_for_again() -> None:
    life = asking()
    life.answered(says("Water", "content_filter"))
    assert life.result.failure is not None
    assert life.result.failure.code == "answer_filtered"
    assert [r.reason for r in life.result.revisions] == ["filtered"]


@pytest.mark.requirement("CITE-05", "CITE-09")
def test_an_answer_that_stalls_half_way_is_asked_for_under_the_tighter_grammar() -> None:
    life = asking()
    life.said("Water is ", "is ", "is ")
    assert kinds(life.failed(STALL)) == ["cite.repaired", "chat.replaced"]
    assert life.last(citations.CiteRepaired).reason == "stalled"
    life.at(T0 + 60)
    assert is_tight(life.last(AskModel))
    life.answered(GOOD)
    assert [(r.reason, r.text) for r in life.result.revisions] == [("stalled", "Water is is is")]
    check(life)


def test_an_answer_that_never_began_is_asked_for_as_it_was() -> None:
    life = asking()
    assert kinds(life.failed(STALL)) == ["chat.replaced"]
    life.at(T0 + 60)
    assert not is_tight(life.last(AskModel))


# -- the provider fails ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-05")
@pytest.mark.parametrize("jitter", [0.5, 1.0])
def test_a_failed_attempt_is_tried_again_after_a_pause_and_not_for_ever(jitter: float) -> None:
    life = asking()
    for attempt in range(1, BUDGET):
        assert kinds(life.failed(BUSY, jitter)) == ["chat.replaced"]
        due = life.machine.deadline or 0.0
        assert due == life.now + min(0.5 * 2 ** (attempt - 1), 30) * jitter
        assert life.at(due - 0.01) == []
        assert kinds(life.at(due)) == ["chat.requested", "AskModel"]
    assert kinds(life.failed(BUSY)) == ["chat.replaced", "Finish"]
    assert (life.result.failure, life.result.status) == (BUSY, "failed")
    check(life)


def test_a_stall_counts_as_a_failed_attempt_also_when_it_stalls_again() -> None:
    life = asking()
    for _ in range(BUDGET):
        life.said("Wat")
        life.failed(STALL)
        if not life.end:
            life.at(life.machine.deadline or 0)
    assert life.result.failure == STALL
    assert [r.reason for r in life.result.revisions] == ["stalled"]
    check(life)


def test_a_refusal_of_the_provider_ends_the_run_at_once() -> None:
    life = asking()
    assert kinds(life.failed(REFUSED)) == ["chat.replaced", "Finish"]
    assert life.result.failure == REFUSED


def test_an_answer_after_failures_gives_the_second_try_its_own_budget() -> None:
    life = asking()
    life.failed(BUSY)
    life.at(T0 + 60)
    life.answered(UNCITED)
    assert life.machine.state.tries.failures == 0


@pytest.mark.parametrize("attempt", [0, 2])
def test_facts_of_another_attempt_change_nothing(attempt: int) -> None:
    life = asking()
    assert life.feed(ModelSaid(attempt, "x", "y"), ModelAnswered(attempt, says()), ModelFailed(attempt, BUSY, 1)) == []


# -- cancel, deadline, conflict ----------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-06")
def test_a_cancel_stops_the_model_and_gives_no_text() -> None:
    life = asking().said("Water boils")
    assert kinds(life.feed(CANCEL)) == ["run.cancelling", "StopAll", "Finish"]
    assert life.end is not None
    assert (life.end.reason, life.result.status, life.result.text) == ("changed my mind", "cancelled", "")
    check(life)


@pytest.mark.requirement("RUN-06")
def test_a_cancel_during_a_pause_has_nothing_to_stop() -> None:
    life = asking()
    life.failed(BUSY)
    assert kinds(life.feed(CANCEL)) == ["run.cancelling", "Finish"]


@pytest.mark.requirement("RUN-04", "RUN-06")
def test_a_cancel_that_was_taken_is_finished_by_the_successor() -> None:
    life = asking()
    life.feed(CANCEL)
    successor = life.reborn().begin()
    assert kinds(successor.trace) == ["run.resumed", "StopAll", "Finish"]
    assert (successor.result.status, successor.machine.cursor) == ("cancelled", "5-0")


@pytest.mark.requirement("RUN-12")
def test_a_deadline_ends_the_run_whatever_it_waits_for() -> None:
    waiting, pausing = asking(deadline_s=10), asking(deadline_s=10)
    pausing.failed(BUSY.model_copy(update={"retry_after_s": 60.0}))
    for life in (waiting, pausing):
        assert life.at(T0 + 9) == []
        life.at(T0 + 10)
        assert life.result.failure is not None
        assert life.result.failure.code == "deadline_exceeded"
        check(life)


@pytest.mark.requirement("RUN-12")
def test_a_run_that_is_late_already_asks_nothing() -> None:
    life = Life(request(deadline_s=5), now=T0 + 5).begin()
    assert kinds(life.trace) == ["run.started", "Finish"]


@pytest.mark.requirement("RUN-01")
def test_a_conflict_is_noted_and_so_is_a_signal_that_changes_nothing() -> None:
    life = asking()
    assert kinds(life.feed(SignalArrived("3-0", "conflict", {"digest": "d2"}))) == ["run.conflict"]
    assert life.last(runs.RunConflicted) == runs.RunConflicted(inbox="3-0", digest="d2")
    assert kinds(life.feed(SignalArrived("4-0", "approve", {}), object())) == ["run.ignored"]
    life.answered(GOOD)
    assert life.result.status == "completed"
    check(life)


def test_after_the_end_nothing_changes_anything() -> None:
    life = asking()
    life.answered(GOOD)
    assert life.feed(CANCEL, Begin("x"), ModelSaid(1, "x", ""), ModelAnswered(1, says()), Woke(), DRAIN) == []


# -- draining ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-05")
def test_a_draining_worker_lets_the_model_finish() -> None:
    life = asking()
    assert life.feed(DRAIN) == []
    life.answered(GOOD)
    assert life.result.status == "completed"


@pytest.mark.requirement("RUN-05")
def test_a_draining_worker_does_not_ask_again() -> None:
    life = asking()
    life.feed(DRAIN)
    assert kinds(life.answered(UNCITED)) == [
        "cite.generated", "chat.usage", "cite.repaired", "chat.replaced", "StopAll", "Release",
    ]  # fmt: skip
    successor = life.reborn().begin()
    assert kinds(successor.trace) == ["run.resumed", "chat.requested", "AskModel"]
    assert is_tight(successor.last(AskModel))
    successor.answered(GOOD)
    assert [r.text for r in successor.result.revisions] == [UNCITED]
    check(successor)


@pytest.mark.requirement("RUN-05")
def test_a_pausing_run_is_handed_over_at_once_and_an_asking_one_when_time_is_over() -> None:
    pausing, stopped, life = asking(), asking(), asking()
    pausing.failed(BUSY)
    assert kinds(pausing.feed(DRAIN)) == ["StopAll", "Release"]
    stopped.feed(DRAIN)
    assert kinds(stopped.failed(BUSY)) == ["chat.replaced", "StopAll", "Release"]
    life.feed(DRAIN)
    assert life.machine.deadline == T0 + 15
    assert life.at(T0 + 14) == []
    assert kinds(life.at(T0 + 15)) == ["StopAll", "Release"]
    check(life)


@pytest.mark.requirement("RUN-05")
def test_a_run_that_comes_to_a_draining_worker_is_handed_over_before_it_begins() -> None:
    life = Life()
    assert kinds(life.feed(DRAIN, Begin("w"))) == ["StopAll", "Release"]
    assert life.types == []
