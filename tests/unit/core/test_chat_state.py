"""What a chat run knows is a fold over its journal (`state`)."""

import pytest

from api_contracts import chat, runs
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from workers.core.chat.state import SETTLED, ChatState
from workers.core.runs.frame import later_id

BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
RESERVED = chat.CallReserved(
    call_id="1.0", provider_id="p0", name="look", arguments="{}", effect="pure", where="worker", deadline_at=60.0
)
ENDS: list[EventData] = [
    chat.CallResult(call_id="1.0", content="a result"),
    chat.CallFailed(call_id="1.0", content="a failure"),
    chat.CallCancelled(call_id="1.0", content="a stop"),
    chat.CallTimedOut(call_id="1.0", content="a delay"),
    chat.CallOutcomeUnknown(call_id="1.0", content="a doubt"),
]


def folded(*events: EventData) -> ChatState:
    state = ChatState(queued_at=0.0)
    for at, event in enumerate(events, 1):
        state.fold(event, float(at))
    return state


def requested(attempt: int, round_: int = 1) -> chat.ChatRequested:
    return chat.ChatRequested(round=round_, attempt=attempt, model="m")


@pytest.mark.requirement("TOOL-12")
@pytest.mark.parametrize("later", [*ENDS, chat.CallStarted(call_id="1.0")], ids=lambda event: event.TYPE)
@pytest.mark.parametrize("end", ENDS, ids=lambda event: event.TYPE)
def test_nothing_leaves_a_settled_state(end: EventData, later: EventData) -> None:
    settled = folded(chat.BatchStarted(round=1, calls=["1.0"]), RESERVED, end).calls["1.0"]
    after = folded(chat.BatchStarted(round=1, calls=["1.0"]), RESERVED, end, later).calls["1.0"]
    assert settled.state in SETTLED
    assert after == settled


def test_every_way_to_settle_has_its_own_state() -> None:
    states = {folded(RESERVED, end).calls["1.0"].state for end in ENDS}
    assert states == SETTLED


def test_a_call_is_open_from_its_reservation_to_its_end() -> None:
    batch = chat.BatchStarted(round=1, calls=["1.0", "1.1"])
    assert folded(batch).open_calls() == []
    assert [c.state for c in folded(batch, RESERVED).open_calls()] == ["reserved"]
    assert [c.state for c in folded(batch, RESERVED, chat.CallStarted(call_id="1.0")).open_calls()] == ["running"]
    assert folded(batch, RESERVED, ENDS[0]).open_calls() == []


def test_joining_turns_the_results_into_messages_in_the_order_of_the_batch() -> None:
    other = RESERVED.model_copy(update={"call_id": "1.1", "provider_id": "p1"})
    state = folded(
        chat.BatchStarted(round=1, calls=["1.0", "1.1"]),
        RESERVED,
        other,
        chat.CallResult(call_id="1.1", content="second"),
        chat.CallResult(call_id="1.0", content="first"),
        chat.BatchJoined(round=1),
    )
    assert state.messages == [
        {"role": "tool", "tool_call_id": "p0", "content": "first"},
        {"role": "tool", "tool_call_id": "p1", "content": "second"},
    ]
    assert state.batch == []


def test_what_was_said_belongs_to_the_present_attempt() -> None:
    speaking = [requested(1), chat.ChatReasoning(attempt=1, text="hm"), chat.ChatDelta(attempt=1, text="a")]
    state = folded(*speaking)
    assert (state.said, state.visible, state.asking, state.first_delta_at) == (["a"], True, True, 3.0)
    state = folded(*speaking, chat.ChatReplaced(attempt=1, reason="x", failure=BUSY))
    assert (state.said, state.visible, state.asking, state.tries.failures) == ([], False, False, 1)
    state = folded(*speaking, chat.ChatReplaced(attempt=1, reason="x"), requested(2))
    assert (state.attempt, state.tries.failures, state.first_delta_at) == (2, 0, 3.0), "a lost worker is no failure"


def test_only_an_answer_without_calls_is_the_answer() -> None:
    plain = chat.ChatMessage(round=1, attempt=1, message={"role": "assistant", "content": "a"}, finish_reason="stop")
    calling = plain.model_copy(update={"message": {"role": "assistant", "tool_calls": [{}]}})
    assert folded(requested(1), plain).answer == plain
    assert folded(requested(1), calling).answer is None
    assert folded(requested(1), calling).messages == [calling.message]


def test_the_cursor_is_the_latest_letter_that_became_an_event() -> None:
    late = chat.CallLateResult(call_id="1.0", inbox="1700000000000-2")
    failed = chat.CallFailed(call_id="1.0", content="", inbox="1700000000000-10")
    state = folded(RESERVED, failed, late, runs.RunConflicted(inbox="99-0", digest="d"))
    assert state.cursor == "1700000000000-10"


@pytest.mark.parametrize(
    ("one", "other", "later"),
    [
        ("0", "1-0", "1-0"),
        ("10-0", "9-99", "10-0"),
        ("5-2", "5-10", "5-10"),
        ("5", "5-1", "5-1"),
        ("7-7", "7-7", "7-7"),
    ],
)
def test_stream_ids_are_compared_as_numbers(one: str, other: str, later: str) -> None:
    assert later_id(one, other) == later_id(other, one) == later


@pytest.mark.requirement("RUN-24")
def test_events_that_mean_nothing_to_a_chat_are_passed_over() -> None:
    class FromTheFuture(EventData):
        TYPE = "chat.dreamt"

    assert folded(FromTheFuture(), runs.RunParked(why="w")) == ChatState(queued_at=0.0)
