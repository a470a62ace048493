"""Where a follower stands in a journal (`client.submission.Cursor`)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts import keys
from api_contracts.chat import ChatResult
from api_contracts.client.submission import Cursor, result_in
from api_contracts.keys import BadRunId
from api_contracts.runs import Event

pytestmark = pytest.mark.requirement("RUN-02", "RUN-14")

RESULT = {"run_id": "run-1", "kind": "chat", "status": "completed"}


def entry(seq: int, kind: str = "chat.delta", data: str = "{}") -> tuple[bytes, dict[bytes, bytes]]:
    fields = {"seq": seq, "type": kind, "at": 1, "epoch": 1, "data": data}
    return f"{seq}-0".encode(), {key.encode(): str(value).encode() for key, value in fields.items()}


def reply(*entries: Any) -> list[Any]:
    return [[keys.events("run-1").encode(), list(entries)]]


def test_it_asks_for_what_comes_after_the_last_event() -> None:
    cursor = Cursor("run-1", 4)
    assert cursor.position == {keys.events("run-1"): "4-0"}
    assert [event.seq for event in cursor.take(reply(entry(5), entry(6)))] == [5, 6]
    assert cursor.position == {keys.events("run-1"): "6-0"}


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_an_empty_reply_moves_nothing(nothing: Any) -> None:
    cursor = Cursor("run-1", 4)
    assert cursor.take(nothing) == []
    assert (cursor.seq, cursor.ended) == (4, False)


@pytest.mark.parametrize("kind", ["run.completed", "run.failed", "run.cancelled"])
def test_the_terminal_event_is_the_end(kind: str) -> None:
    cursor = Cursor("run-1", 0)
    cursor.take(reply(entry(1)))
    assert not cursor.ended
    cursor.take(reply(entry(2), entry(3, kind)))
    assert cursor.ended


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(0, 30))
def test_however_often_it_reads_again_each_event_comes_once_and_in_order(starts: list[int], after: int) -> None:
    """A reader that lost its connection may get what it has had already."""
    journal = [entry(seq) for seq in range(1, 31)]
    cursor = Cursor("run-1", after)
    seen = []
    for start in starts:
        again = min(start, cursor.seq)
        seen += [event.seq for event in cursor.take(reply(*journal[again : again + 7]))]
    seen += [event.seq for event in cursor.take(reply(*journal[cursor.seq :]))]
    assert seen == list(range(after + 1, 31))


def test_only_runs_can_be_followed() -> None:
    with pytest.raises(BadRunId):
        Cursor("../etc", 0)


def test_a_result_is_in_the_event_or_in_the_blob_that_it_names() -> None:
    event = Event(seq=9, type="run.completed", at=1, epoch=1, data={"result": RESULT})
    assert result_in(event) == (ChatResult.model_validate(RESULT), None)
    assert result_in(event.model_copy(update={"data": {"result_blob": 1}})) == (None, 1)
