"""What any release began, this one goes on with: from every event of every journal that a release left."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pytest

from api_contracts.runs import Event
from api_contracts.vocabulary import typed, typed_result
from tests.acceptance.journal import is_right
from tests.golden import record
from tests.golden.files import Golden, parsed, path_of, read, releases, stories_of, written
from tests.golden.stage import RUN_ID, stage_of
from tests.golden.stories import STORIES, played
from workers.runners.outcome import Ended

GOLDEN = [(release, story) for release in releases() for story in stories_of(release)]
_SAME: dict[str, tuple[str, ...]] = {
    "chat": ("message", "finish_reason", "rounds", "usage", "failure"),
    "cite": ("text", "citations", "references", "coverage", "usage", "failure"),
    "stt": ("text", "coverage", "failure"),
    "batch": ("rows", "usage", "failure"),
}
"""What must come out the same, wherever a run was cut."""


def ledger(result: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what became of each call, by its arguments, which name the tool."""
    return {call["arguments"]: (call["state"], call.get("content", "")) for call in result.get("tool_calls", ())}


def unknown(result: Mapping[str, Any]) -> set[str]:
    """Return the tools of which nobody knows whether they took effect, and so the model was told just that."""
    return {call["name"] for call in result.get("tool_calls", ()) if call["state"] == "outcome_unknown"}


def differences(golden: Golden, upto: int, result: Mapping[str, Any]) -> list[str]:
    """Say in what a run that was cut after event `upto`, and went on, differs from the golden one.

    A cancelled run ends where its cancel met it. An answer and its usage are one append: between them no worker dies.
    How a usage is estimated is no promise.
    """
    wanted = golden.result
    if result["status"] != wanted["status"]:
        return [f"it is {result['status']}: {result.get('failure')}"]
    if wanted["status"] == "cancelled":
        return []
    if doubt := unknown(result) | unknown(wanted):
        same = doubt == {"fire"} and ledger(result).keys() == ledger(wanted).keys()
        return [] if same else [f"{doubt} unknown: {ledger(result)}"]
    told = {field: (result.get(field), wanted.get(field)) for field in _SAME[golden.kind]}
    told["tool_calls"] = (ledger(result), ledger(wanted))
    if golden.journal[upto].type in ("chat.usage", "batch.cost") or _is_estimated(result):
        told.pop("usage")
    return [f"{field} is {now}, was {then}" for field, (now, then) in told.items() if now != then]


def _is_estimated(result: Mapping[str, Any]) -> bool:
    return bool((result.get("usage") or {}).get("estimated"))


def calls_reserved_twice(events: list[Event]) -> list[str]:
    reserved = [str(event.data["call_id"]) for event in events if event.type == "tool.call_reserved"]
    return [call for call in set(reserved) if reserved.count(call) > 1]


def test_there_are_journals_of_this_release() -> None:
    """A release that left none could not be gone on with."""
    assert set(stories_of(version("fireworks-workers"))) == {story.name for story in STORIES}


@pytest.mark.requirement("RUN-24")
@pytest.mark.parametrize(("release", "story"), GOLDEN)
def test_every_event_of_a_golden_journal_is_understood(release: str, story: str) -> None:
    golden = read(release, story)
    assert all(typed(event) is not None for event in golden.journal)
    assert is_right(golden.journal)
    assert typed_result(golden.result).kind == golden.kind


@pytest.mark.requirement("RUN-24", "RUN-04")
@pytest.mark.parametrize(("release", "story"), GOLDEN)
async def test_a_run_goes_on_from_every_event_of_a_golden_journal(release: str, story: str) -> None:
    golden = read(release, story)
    for upto in range(1, len(golden.journal)):
        stage = stage_of(golden, upto)
        outcome = await stage.finish()
        events = await stage.journal(RUN_ID)
        assert events[:upto] == golden.journal[:upto], f"cut after {upto}"
        assert is_right(events), f"cut after {upto}"
        assert isinstance(outcome, Ended)
        assert differences(golden, upto, outcome.result) == [], f"cut after {upto}, {golden.journal[upto - 1].type}"
        assert calls_reserved_twice(events) == [], f"cut after {upto}"


@pytest.mark.requirement("RUN-24", "RUN-10")
@pytest.mark.parametrize(("release", "story"), GOLDEN)
async def test_what_a_release_finished_and_did_not_announce_is_announced(release: str, story: str) -> None:
    golden = read(release, story)
    stage = stage_of(golden, len(golden.journal))
    outcome = await stage.finish()
    assert isinstance(outcome, Ended)
    assert outcome.result == golden.result
    assert await stage.journal(RUN_ID) == golden.journal


# -- the recorder ------------------------------------------------------------------------------------------------------


def test_what_a_release_left_is_never_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    release, story = version("fireworks-workers"), STORIES[0].name
    before = path_of(release, story).read_bytes()
    assert record.main([story]) == 1
    assert "is never written again" in capsys.readouterr().out
    assert path_of(release, story).read_bytes() == before


async def test_a_journal_is_read_as_it_was_recorded() -> None:
    golden = await played(next(story for story in STORIES if story.name == "stt-cancelled"))
    again = parsed(written(golden))
    assert (again.journal, again.letters, again.audio, again.blobs) == (
        golden.journal, golden.letters, golden.audio, golden.blobs,
    )  # fmt: skip
