"""What a lost MCP server means to a run: a call of unknown outcome, or a run that waits until its tools are there."""

import pytest

from api_contracts.chat import CallOutcomeUnknown
from api_contracts.runs import Event, RunStarted
from workers.core.chat.acts import CallSettled
from workers.core.chat.calls import outcome
from workers.core.runs.frame import Begin, Emit, Finish, Park
from workers.core.runs.later import PATIENCE_S, NeedsAbsent, Waiting

pytestmark = pytest.mark.requirement("TOOL-18")


def event(seq: int, kind: str, at: float, **data: object) -> Event:
    return Event(seq=seq, type=kind, at=int(at * 1000), epoch=1, data=data)


def test_a_call_that_was_lost_and_must_not_be_repeated_is_settled_as_of_unknown_outcome() -> None:
    lost = CallSettled("1.0", ok=False, content="x", detail="the MCP server was lost", code="outcome_unknown")
    assert isinstance(outcome(lost, told=False), CallOutcomeUnknown)


def test_a_run_whose_tools_are_away_parks_says_for_whom_and_gives_up_after_a_day() -> None:
    queued = [event(1, "run.queued", 0.0)]
    needs = NeedsAbsent("the MCP server docs")
    started, parked = Waiting("run-1", "chat", needs, queued, None).receive(Begin("w"), 10.0)
    assert isinstance(started, Emit)
    assert isinstance(started.event, RunStarted)
    assert isinstance(parked, Park)
    assert (parked.why, parked.until) == ("waits for the MCP server docs", 15.0)
    journal = [*queued, event(2, "run.started", 10.0), event(3, "run.parked", 10.0, why=parked.why)]
    *_, end = Waiting("run-1", "chat", needs, journal, None).receive(Begin("w"), 10.0 + PATIENCE_S)
    assert isinstance(end, Finish)
    assert end.failure is not None
    assert end.failure.code == "tools_away"
