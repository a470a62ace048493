"""Summaries of conversations, from the count of one turn to the version that the next one goes on from (CHAT-17)."""

from typing import Any

import pytest

from tests.unit.runners.cell import Cell, chunk, says
from tests.unit.runners.test_conversations import KEY, asked
from tests.waiting import idle
from workers.adapters.memory.model import Hold, Step
from workers.runners.outcome import Ended

pytestmark = pytest.mark.requirement("CHAT-17")

BEGINS = "Summary of the conversation up to here:\n\n"
AUTOMATIC = {"id": KEY.id, "settings": {"summaries": {"at_tokens": 500, "keep": 2}}}


@pytest.fixture
def cell() -> Cell:
    return Cell()


def counted(text: str, tokens: int) -> list[Step]:
    """Return an answer of which the provider counts so many tokens, with all that was asked."""
    usage = {"prompt_tokens": tokens - 10, "completion_tokens": 10, "total_tokens": tokens}
    return [chunk({"content": text}), chunk({}, "stop") | {"usage": usage}]


async def turn(cell: Cell, text: str, answer: str, tokens: int, **fields: Any) -> dict[str, Any]:
    cell.model.add(counted(answer, tokens))
    outcome = await cell.worker().serve(await asked(cell, text, **fields))
    assert isinstance(outcome, Ended)
    return dict(outcome.result)


async def texts(cell: Cell) -> list[str]:
    found = await cell.archive.conversations.read(KEY)
    return [str(message["content"]) for message in found.messages] if found else []


async def long_talk(cell: Cell) -> None:
    """Have two turns, after which a summary is due."""
    await turn(cell, "a", "b", 300, conversation=AUTOMATIC)
    await turn(cell, "c", "d", 500)
    assert len(cell.model.asked) == 2


async def test_over_the_bound_the_next_turn_summarises_first_by_a_version_of_its_own(cell: Cell) -> None:
    await long_talk(cell)
    cell.model.add(counted("in short", 400))
    result = await turn(cell, "e", "f", 120)
    assert await texts(cell) == [f"{BEGINS}in short", "c", "d", "e", "f"]
    summary, answer = cell.model.asked[2:]
    assert summary.body["messages"][1]["content"] == "USER: a\n\nASSISTANT: b"
    assert [each["content"] for each in answer.body["messages"]] == [f"{BEGINS}in short", "c", "d", "e"]
    assert result["conversation_version"] == 4, "the summary is version 3"
    assert result["usage"]["prompt_tokens"] + result["usage"]["completion_tokens"] == 520, "both are paid"
    kept = cell.archive.conversations.talks[KEY].commits
    assert [each.kind for each in kept] == ["turn", "turn", "summary", "turn"]
    assert [message["content"] for message in kept[0].messages] == ["a", "b"], "the originals stay"
    await turn(cell, "g", "h", 150)
    assert len(cell.model.asked) == 5, "one summary"


async def test_the_event_says_before_and_after(cell: Cell) -> None:
    await long_talk(cell)
    cell.model.add(counted("in short", 400), says("f"))
    run_id = await asked(cell, "e")
    await cell.worker().serve(run_id)
    journal = await cell.journal(run_id)
    told_ = next(event for event in journal if event.type == "chat.summarised")
    assert told_.data == {
        "version": 3, "messages": 3, "messages_before": 4, "tokens_before": 500, "summary_tokens": 10,
        "asked_for": False,
    }  # fmt: skip
    assert "in short" not in str(told_.data)


async def test_where_the_system_prompt_alone_is_over_the_bound_not_every_turn_summarises(cell: Cell) -> None:
    await turn(cell, "a", "b", 2000, conversation=AUTOMATIC)
    await turn(cell, "c", "d", 2010)
    cell.model.add(counted("in short", 400))
    for number in range(5):
        await turn(cell, str(number), "x", 2020 + 25 * number)
    assert len(cell.model.asked) == 8, "one summary for five turns"
    await turn(cell, "y", "z", 2200)
    cell.model.add(counted("shorter", 400))
    await turn(cell, "y", "z", 2000)
    assert len(cell.model.asked) == 11, "when it has grown by a quarter of the bound, another"


async def test_on_request_it_is_summarised_however_short_it_is(cell: Cell) -> None:
    await turn(cell, "a", "b", 20)
    await turn(cell, "c", "d", 30)
    cell.model.add(counted("in short", 25))
    part = {
        "id": KEY.id,
        "summarise": True,
        "settings": {"summaries": {"at_tokens": None, "keep": 0, "model": "cheap"}},
    }
    outcome = await cell.worker().serve(await cell.submitted(messages=[], conversation=part, answer=False))
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    assert await texts(cell) == [f"{BEGINS}in short"]
    assert cell.model.asked[-1].body["model"] == "cheap"


@pytest.mark.parametrize("answer", [[], [chunk({"content": " "}), chunk({}, "stop")]], ids=["broken", "empty"])
async def test_without_a_summary_the_turn_goes_on_as_it_is(cell: Cell, answer: list[Step]) -> None:
    await long_talk(cell)
    cell.model.add(answer, counted("f", 600))
    run_id = await asked(cell, "e")
    outcome = await cell.worker().serve(run_id)
    assert isinstance(outcome, Ended)
    assert outcome.status == "completed"
    assert await texts(cell) == ["a", "b", "c", "d", "e", "f"]
    journal = await cell.journal(run_id)
    assert next(event for event in journal if event.type == "chat.summarised").data["failure"]["code"]


async def test_a_summary_that_was_asked_for_and_failed_fails_the_run(cell: Cell) -> None:
    await long_talk(cell)
    part = {"id": KEY.id, "summarise": True}
    outcome = await cell.worker().serve(await cell.submitted(messages=[], conversation=part, answer=False))
    assert isinstance(outcome, Ended)
    assert outcome.failure is not None
    assert await texts(cell) == ["a", "b", "c", "d"]


async def test_one_that_takes_too_long_is_given_up_and_stopped(cell: Cell) -> None:
    await long_talk(cell)
    cell.model.add([Hold()], counted("f", 600))
    run_id = await asked(cell, "e")
    serving = await cell.worker().begin(run_id)
    await cell.pass_time(119.0, step=7.0)
    assert not serving.done()
    await cell.pass_time(3.0)
    assert serving.result().status == "completed"  # type: ignore[union-attr]
    assert cell.model.open == 0
    assert await texts(cell) == ["a", "b", "c", "d", "e", "f"]


async def test_a_cancel_ends_the_run_in_the_middle_of_a_summary(cell: Cell) -> None:
    await long_talk(cell)
    cell.model.add([Hold()])
    run_id = await asked(cell, "e")
    serving = await cell.worker().begin(run_id)
    await cell.store.signal(run_id, "cancel", {}, "c")
    await idle()
    assert serving.result().status == "cancelled"  # type: ignore[union-attr]
    assert cell.model.open == 0
    assert await texts(cell) == ["a", "b", "c", "d"]


async def test_a_worker_that_dies_behind_its_summary_leaves_it_to_the_next_one(cell: Cell) -> None:
    await long_talk(cell)
    first, second = cell.worker("ann"), cell.worker("bob")
    first.line.cut_at = (4, "before")  # it is committed in SQL, the journal does not know
    cell.model.add(counted("in short", 400), counted("f", 120))
    run_id = await asked(cell, "e")
    await first.begin(run_id)
    assert first.line.cut.is_set()
    assert await texts(cell) == [f"{BEGINS}in short", "c", "d"]
    await first.die()
    await cell.pass_time(20.0)
    assert isinstance(await second.serve(run_id), Ended)
    assert await texts(cell) == [f"{BEGINS}in short", "c", "d", "e", "f"]
    assert len(cell.model.asked) == 4


async def test_who_waits_meanwhile_reads_the_summary(cell: Cell) -> None:
    """One summary at a time: it is made under the turn."""
    await long_talk(cell)
    hold = Hold()
    cell.model.add([hold, *counted("in short", 400)], counted("f", 120), counted("h", 150))
    worker = cell.worker()
    await worker.begin(await asked(cell, "e"))
    other = await worker.begin(await asked(cell, "g"))
    await cell.pass_time(1.0)
    assert len(cell.model.asked) == 3
    hold.go.set()
    await cell.pass_time(5.0)
    assert other.done()
    assert await texts(cell) == [f"{BEGINS}in short", "c", "d", "e", "f", "g", "h"]
