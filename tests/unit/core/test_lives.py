"""How often a run was begun without getting anywhere."""

from typing import Any

import pytest

from api_contracts.runs import Event
from api_contracts.vocabulary import EVENT_TYPES
from workers.core.runs.lives import lives_without_a_step, worn_out


def journal(*types: str, **data: Any) -> list[Event]:
    return [Event(seq=n, type=type_, at=0, epoch=1, data=data) for n, type_ in enumerate(types, 1)]


def test_a_new_run_had_no_life() -> None:
    assert lives_without_a_step(journal("run.queued")) == 0
    assert lives_without_a_step([]) == 0


def test_lives_that_said_half_an_answer_each_are_counted() -> None:
    half = ("chat.requested", "chat.delta", "chat.delta")
    lives = ("run.queued", "run.started", *half, "run.resumed", "chat.replaced", *half, "run.resumed")
    assert lives_without_a_step(journal(*lives)) == 3


@pytest.mark.parametrize("step", ["chat.message", "tool.call_result", "stt.final", "batch.submitted", "run.parked"])
def test_a_step_that_lasts_begins_the_count_anew(step: str) -> None:
    lives = ("run.queued", "run.started", "run.resumed", step, "run.resumed")
    assert lives_without_a_step(journal(*lives)) == 1


def test_an_event_of_a_newer_writer_counts_as_a_step() -> None:
    assert lives_without_a_step(journal("run.queued", "run.started", "chat.dreamt", "run.resumed")) == 1


def test_no_end_and_nothing_that_settles_a_call_is_repeated_by_each_life() -> None:
    for type_ in EVENT_TYPES:
        if type_.startswith(("run.completed", "run.failed", "tool.call_result", "batch.submitted", "cite.")):
            assert lives_without_a_step(journal("run.started", type_)) == 0


def test_the_failure_says_how_often() -> None:
    assert "10 times" in worn_out(10).message
    assert worn_out(10).at_fault == "us"
