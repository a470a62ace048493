"""After a roll-back: what the next release wrote is gone on with, or left alone until it is back, and never lost."""

from typing import Any

import pytest

from api_contracts.runs import Event
from tests.acceptance.journal import is_right, types
from tests.golden.files import read, releases, stories_of
from tests.golden.next_release import LATER, as_next_writes, strange_letters
from tests.golden.stage import RUN_ID, Stage, stage_of
from tests.golden.test_golden_journals import differences
from workers.core.runs.later import LONGEST_LOOK_S, PATIENCE_S, WAITS
from workers.runners.outcome import Ended, Parked

GOLDEN = [(release, story) for release in releases() for story in stories_of(release)]
HERE = releases()[-1]


@pytest.mark.requirement("RUN-24", "RUN-15")
@pytest.mark.parametrize(("release", "story"), GOLDEN)
async def test_a_run_goes_on_when_the_next_release_added_events_fields_letters_and_controls(
    release: str, story: str
) -> None:
    plain = read(release, story)
    golden = as_next_writes(plain)
    for upto in range(2, len(golden.journal), 2):
        stage = stage_of(golden, upto)
        for letter in strange_letters(RUN_ID):
            await stage.store.signal(RUN_ID, letter.type, letter.data, letter.id)
        outcome = await stage.finish()
        events = await stage.journal(RUN_ID)
        assert events[:upto] == golden.journal[:upto]
        assert is_right(events)
        assert isinstance(outcome, Ended)
        assert differences(plain, upto // 2, outcome.result) == [], f"cut after {golden.journal[upto - 2].type}"


# -- what must not be passed over --------------------------------------------------------------------------------------


def changed(stage: Stage, seq: int, **data: Any) -> Event:
    """Have an event of the journal as the next release wrote it; return it as this release writes it."""
    events = stage.store._runs[RUN_ID].events
    old = events[seq - 1]
    events[seq - 1] = old.model_copy(update={"data": old.data | data})
    return old


async def waiting_run(story: str = "chat-tools", **data: Any) -> tuple[Stage, Event]:
    """Return a run whose last event but one is of the next release, and that event as this release writes it."""
    golden = as_next_writes(read(HERE, story))
    upto = next(event.seq for event in golden.journal if event.type == "chat.message") + 1
    stage = stage_of(golden, upto)
    return stage, changed(stage, upto - 1, **data)


async def parked(stage: Stage) -> Parked:
    """Have the run served once, by a worker that does not understand it."""
    worker, serving = await stage.life()
    outcome = serving.result()
    assert isinstance(outcome, Parked), outcome
    assert await worker.reception.park(outcome)
    return outcome


UNREADABLE = {
    "a value that is new": {"finish_reason": "bored"},
    "a field of another type": {"round": {"first": 1}},
    "what it says must be understood": {"needs": LATER},
}


@pytest.mark.requirement("RUN-24")
@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_run_that_cannot_be_understood_is_left_to_the_release_that_began_it(data: dict[str, Any]) -> None:
    stage, plain = await waiting_run(**data)
    before = await stage.journal(RUN_ID)
    for _ in range(3):
        told = await parked(stage)
        assert told.why.startswith(WAITS)
        assert "bored" not in told.why
        await stage.rung()
    events = await stage.journal(RUN_ID)
    assert events[: len(before)] == before
    assert set(types(events[len(before) :])) == {"run.resumed", "run.parked"}
    # The release that wrote it is back: for it the event is one like any other.
    stage.store._runs[RUN_ID].events[plain.seq - 1] = plain
    outcome = await stage.finish()
    assert isinstance(outcome, Ended)
    assert differences(read(HERE, "chat-tools"), len(before) // 2, outcome.result) == []


@pytest.mark.requirement("RUN-24")
async def test_a_run_that_nobody_understands_is_looked_at_less_and_less_and_fails_after_a_day() -> None:
    stage, _ = await waiting_run(needs=LATER)
    began = stage.clock.now()
    looks = 0
    while True:
        worker, serving = await stage.life()
        outcome = serving.result()
        if isinstance(outcome, Ended):
            break
        assert isinstance(outcome, Parked)
        assert await worker.reception.park(outcome)
        looks += 1
        stage.clock.advance(max(0.0, (outcome.until or 0.0) - stage.clock.now()))
        await stage.store.claim(RUN_ID)
    assert outcome.failure is not None
    assert (outcome.status, outcome.failure.code, outcome.failure.at_fault) == ("failed", "later_release", "us")
    assert PATIENCE_S <= stage.clock.now() - began < PATIENCE_S + LONGEST_LOOK_S
    assert looks < PATIENCE_S / LONGEST_LOOK_S + 20


@pytest.mark.requirement("RUN-24", "RUN-06")
async def test_a_run_that_waits_for_a_later_release_can_be_cancelled() -> None:
    stage, _ = await waiting_run(needs=LATER)
    await parked(stage)
    assert await stage.store.signal(RUN_ID, "cancel", {"reason": "enough"}, "cancel") == "woken"
    await stage.rung()
    outcome = await stage.finish()
    assert isinstance(outcome, Ended)
    assert outcome.status == "cancelled"
    assert types(await stage.journal(RUN_ID))[-2:] == ["run.cancelling", "run.cancelled"]


@pytest.mark.requirement("RUN-24", "RUN-12")
async def test_a_run_that_waits_for_a_later_release_ends_at_its_deadline() -> None:
    stage, _ = await waiting_run(needs=LATER)
    request = stage.store._runs[RUN_ID].events[0].data["request"]
    changed(stage, 1, request=request | {"deadline_s": 100, "wish": "a field of tomorrow"})
    assert (await parked(stage)).until is not None
    await stage.rung()
    outcome = await stage.finish()
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert outcome.failure.code == "deadline_exceeded"


@pytest.mark.requirement("RUN-24", "RUN-15")
async def test_a_request_of_a_later_schema_version_waits_and_one_of_this_is_refused() -> None:
    stage = stage_of(read(HERE, "chat-answered"), 1)
    request = stage.store._runs[RUN_ID].events[0].data["request"] | {"wish": "a field of tomorrow"}
    changed(stage, 1, request=request, version=LATER)
    assert f"schema version {LATER}" in (await parked(stage)).why
    stage = stage_of(read(HERE, "chat-answered"), 1)
    changed(stage, 1, request=request)
    outcome = await stage.finish()
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert outcome.failure.code == "bad_request"


@pytest.mark.requirement("RUN-24")
async def test_a_frame_of_a_later_schema_version_that_makes_no_sense_here_waits() -> None:
    stage = stage_of(read(HERE, "chat-answered"), 1)
    changed(stage, 1, lane="express", version=LATER)
    assert "run.queued" in (await parked(stage)).why


@pytest.mark.requirement("RUN-24")
async def test_what_follows_from_an_unknown_event_is_not_taken_for_a_defect() -> None:
    """The later release reserved a call in its own way: this one meets a call that it knows nothing of."""
    golden = as_next_writes(read(HERE, "chat-tools"))
    upto = next(event.seq for event in golden.journal if event.type == "tool.call_started")
    stage = stage_of(golden, upto)
    events = stage.store._runs[RUN_ID].events
    reserved = next(event for event in events if event.type == "tool.call_reserved")
    events[reserved.seq - 1] = reserved.model_copy(update={"type": "tool.call_reserved_anew"})
    assert "tool.call_started" in (await parked(stage)).why
