"""Turns of a conversation, from message to commit: one after the other, once, and nothing of a turn that failed."""

from typing import Any

import pytest

from api_contracts.keys import new_run_id
from tests.unit.runners.cell import Cell, Worker, says, wants
from tests.waiting import idle
from workers.adapters.memory.model import Hold
from workers.adapters.tools import Registry, tool
from workers.core.chat.talk import MOVED, NO_MESSAGES
from workers.core.runs.turns import ConversationKey, Holder, Opened
from workers.runners.outcome import Ended, Parked

pytestmark = pytest.mark.requirement("CHAT-15")

KEY = ConversationKey("default", "order-17")


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def asked(cell: Cell, text: str, **fields: Any) -> str:
    """Submit a turn."""
    return await cell.submitted(messages=[user(text)], **{"conversation": KEY.id} | fields)


async def texts(cell: Cell) -> list[str]:
    found = await cell.archive.conversations.read(KEY)
    return [str(message["content"]) for message in found.messages] if found else []


@pytest.fixture
def cell() -> Cell:
    return Cell(tools=Registry([noon]))


@tool(effect="pure")
async def noon() -> str:
    """Tell the time."""
    return "noon"


async def told(cell: Cell, text: str, answer: str, worker: Worker | None = None, **fields: Any) -> dict[str, Any]:
    """Have a turn; return its result."""
    cell.model.add(says(answer))
    outcome = await (worker or cell.worker()).serve(await asked(cell, text, **fields))
    if len(cell.model._answers):
        cell.model._answers.clear()  # it was not asked
    assert isinstance(outcome, Ended)
    return dict(outcome.result)


async def test_each_turn_reads_what_those_before_it_left(cell: Cell) -> None:
    first = await told(cell, "I am Ann", "Hello Ann")
    second = await told(cell, "Who am I?", "Ann")
    assert (first["conversation_version"], second["conversation_version"]) == (1, 2)
    assert [each["content"] for each in cell.model.asked[-1].body["messages"]] == ["I am Ann", "Hello Ann", "Who am I?"]
    assert await texts(cell) == ["I am Ann", "Hello Ann", "Who am I?", "Ann"]


async def test_the_journal_says_which_version_the_turn_goes_on_from(cell: Cell) -> None:
    await told(cell, "a", "b")
    cell.model.add(says("d"))
    run_id = await asked(cell, "c")
    await cell.worker().serve(run_id)
    journal = await cell.journal(run_id)
    opened = next(event for event in journal if event.type == "chat.opened")
    assert opened.data == {"conversation": KEY.id, "version": 1, "messages": 2, "settings_version": 1}
    assert "prompt" not in str(opened.data)


async def test_two_turns_at_once_are_one_after_the_other(cell: Cell) -> None:
    hold = Hold()
    cell.model.add([*says("one")[:1], hold, *says()], says("two"))
    first, second = await asked(cell, "1"), await asked(cell, "2")
    worker = cell.worker()
    serving = await worker.begin(first)
    waiting = await worker.begin(second)
    await cell.pass_time(2.0)
    assert not waiting.done()
    assert len(cell.model.asked) == 1, "the second has asked nothing"
    hold.go.set()
    await idle()
    assert serving.done()
    await cell.pass_time(3.0)
    assert isinstance(waiting.result(), Ended)
    assert await texts(cell) == ["1", "one", "2", "two"]


async def test_behind_a_long_turn_the_next_one_parks(cell: Cell) -> None:
    await cell.archive.conversations.open(KEY, Holder(await cell.submitted(), 1.0, 1))
    worker, second = cell.worker(), await asked(cell, "2")
    waiting = await worker.begin(second)
    await cell.pass_time(30.0)
    outcome = waiting.result()
    assert isinstance(outcome, Parked)
    assert outcome.why == "waits for its turn in the conversation"
    for talk in cell.archive.conversations.talks.values():
        talk.holder = None
    cell.model.add(says("two"))
    assert await worker.reception.park(outcome)
    await cell.pass_time((outcome.until or 0.0) - cell.clock.now())
    await worker.sweeper.sweep()
    assert isinstance(await worker.serve(second), Ended)
    assert await texts(cell) == ["2", "two"]


async def test_who_does_not_want_to_wait_is_refused_and_who_is_cancelled_ends(cell: Cell) -> None:
    await cell.archive.conversations.open(KEY, Holder(await cell.submitted(), 1.0, 1))
    worker = cell.worker()
    refused = await worker.serve(await asked(cell, "2", conversation={"id": KEY.id, "wait": False}))
    assert isinstance(refused, Ended)
    assert refused.failure is not None
    assert refused.failure.code == "conversation_busy"
    third = await asked(cell, "3")
    serving = await worker.begin(third)
    await cell.store.signal(third, "cancel", {}, "c")
    await idle()
    assert serving.result() == Ended("cancelled", serving.result().result, None, 1)  # type: ignore[union-attr]
    late = await asked(cell, "4", deadline_s=3)
    serving = await worker.begin(late)
    await cell.pass_time(4.0)
    assert serving.result().failure.code == "deadline_exceeded"  # type: ignore[union-attr]
    assert await texts(cell) == []


async def test_a_turn_that_fails_or_is_cancelled_leaves_the_conversation_as_it_was(cell: Cell) -> None:
    await told(cell, "a", "b")
    worker = cell.worker()
    cell.model.add([Hold()])
    cancelled = await asked(cell, "no")
    serving = await worker.begin(cancelled)
    await cell.store.signal(cancelled, "cancel", {}, "c")
    await idle()
    assert serving.result().status == "cancelled"  # type: ignore[union-attr]
    await told(cell, "c", "d")
    assert await texts(cell) == ["a", "b", "c", "d"]


async def test_at_another_version_than_the_wanted_one_nothing_is_asked(cell: Cell) -> None:
    await told(cell, "a", "b", conversation={"id": KEY.id, "version": 0})
    result = await told(cell, "c", "d", conversation={"id": KEY.id, "version": 0})
    assert (result["status"], result["failure"]["code"]) == ("failed", "conversation_conflict")
    assert len(cell.model.asked) == 1
    assert await texts(cell) == ["a", "b"]


async def test_messages_are_added_and_replaced_without_an_answer(cell: Cell) -> None:
    worker = cell.worker()
    added = await worker.serve(await asked(cell, "a", answer=False))
    assert isinstance(added, Ended)
    assert (added.result["conversation_version"], "message" in added.result) == (1, False)
    await worker.serve(await asked(cell, "only", answer=False, conversation={"id": KEY.id, "replace": True}))
    assert await texts(cell) == ["only"]
    assert cell.model.asked == []
    await told(cell, "next", "yes", conversation={"id": KEY.id, "version": 2})
    assert await texts(cell) == ["only", "next", "yes"]


async def test_what_is_there_can_be_answered_without_a_message_and_nothing_cannot(cell: Cell) -> None:
    worker = cell.worker()
    empty = await worker.serve(await cell.submitted(messages=None, conversation=KEY.id))
    assert isinstance(empty, Ended)
    assert empty.failure == NO_MESSAGES
    await worker.serve(await asked(cell, "a", answer=False))
    cell.model.add(says("b"))
    assert isinstance(await worker.serve(await cell.submitted(messages=None, conversation=KEY.id)), Ended)
    assert await texts(cell) == ["a", "b"]


async def test_calls_and_their_results_are_kept_and_ids_do_not_come_twice(cell: Cell) -> None:
    for _ in range(2):
        cell.model.add(wants("noon"), says("noon"))
        await cell.worker().serve(await asked(cell, "time?", tools=["noon"]))
    found = await cell.archive.conversations.read(KEY)
    assert found is not None
    ids = [call["id"] for each in found.messages for call in each.get("tool_calls") or ()]
    assert [each["tool_call_id"] for each in found.messages if each["role"] == "tool"] == ids
    assert len(set(ids)) == 2


async def test_a_worker_that_dies_over_the_answer_is_followed_by_one_that_commits_once(cell: Cell) -> None:
    first, second = cell.worker("ann"), cell.worker("bob")
    cell.model.add([*says("half")[:1], Hold()], says("whole"))
    run_id = await asked(cell, "a")
    await first.begin(run_id)
    await first.die()
    await cell.pass_time(20.0)
    assert isinstance(await second.serve(run_id), Ended)
    assert await texts(cell) == ["a", "whole"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_successor_of_who_committed_and_died_tells_what_was_committed(cell: Cell, when: str) -> None:
    """SQL has turn and result, the journal's end is lost: a cancel that came in between is too late."""
    first, second = cell.worker("ann"), cell.worker("bob")
    await told(cell, "a", "b", worker=first)
    first.line.cut_at = (2 * first.line.appends, when)  # the end of the next turn
    cell.model.add(says("d"))
    run_id = await asked(cell, "c")
    await first.begin(run_id)
    assert first.line.cut.is_set()
    assert await texts(cell) == ["a", "b", "c", "d"]
    await first.die()
    if when == "before":
        await cell.store.signal(run_id, "cancel", {}, "c")
    await cell.pass_time(20.0)
    outcome = await second.serve(run_id)
    assert isinstance(outcome, Ended)
    assert (outcome.status, outcome.result["message"]["content"]) == ("completed", "d")
    assert await texts(cell) == ["a", "b", "c", "d"]
    assert len(cell.model.asked) == 2


async def test_what_a_lost_run_has_is_taken_from_it(cell: Cell) -> None:
    await cell.archive.conversations.open(KEY, Holder(new_run_id(), 1.0, 1))
    await told(cell, "a", "b")
    assert await texts(cell) == ["a", "b"]


async def retried(cell: Cell, run_id: str) -> Ended:
    assert await cell.store.retry(run_id, "ann", "again") == "reopened"
    outcome = await cell.worker().serve(run_id)
    assert isinstance(outcome, Ended)
    return outcome


@pytest.mark.requirement("RUN-18")
async def test_a_failed_turn_that_had_said_nothing_is_retried_where_the_conversation_is_now(cell: Cell) -> None:
    run_id = await asked(cell, "late")
    await cell.worker().serve(run_id)
    assert (await cell.last(run_id)).type == "run.failed", "there is no answer"
    await cell.store.announced(run_id)
    await told(cell, "a", "b")
    cell.model.add(says("too"))
    assert (await retried(cell, run_id)).status == "completed"
    assert await texts(cell) == ["a", "b", "late", "too"]
    opened = [event.data["version"] for event in await cell.journal(run_id) if event.type == "chat.opened"]
    assert opened == [0, 1]


@pytest.mark.requirement("RUN-18")
@pytest.mark.parametrize("moved", [False, True])
async def test_a_failed_turn_that_had_made_calls_is_retried_only_in_the_conversation_that_it_read(
    cell: Cell, moved: bool
) -> None:
    cell.model.add(wants("noon"))
    run_id = await asked(cell, "time?", tools=["noon"])
    await cell.worker().serve(run_id)
    assert (await cell.last(run_id)).type == "run.failed", "there is no second answer"
    await cell.store.announced(run_id)
    if moved:
        await told(cell, "a", "b")
    cell.model.add(says("noon"))
    outcome = await retried(cell, run_id)
    assert outcome.failure == (MOVED if moved else None)
    assert (await texts(cell))[-1] == ("b" if moved else "noon")


async def test_a_turn_whose_conversation_was_taken_from_it_fails_and_leaves_nothing(cell: Cell) -> None:
    hold = Hold()
    cell.model.add([*says("one")[:1], hold, *says()])
    run_id = await asked(cell, "1")
    serving = await cell.worker().begin(run_id)
    taken = await cell.archive.conversations.open(KEY, Holder("other-run", 99.0, 1), lost=run_id)
    assert isinstance(taken, Opened)
    hold.go.set()
    await idle()
    assert serving.result().failure == MOVED  # type: ignore[union-attr]
    assert (await cell.archive.load(run_id)).status == "failed"  # type: ignore[union-attr]
    assert await texts(cell) == []


@pytest.mark.requirement("CHAT-16")
async def test_each_turn_says_with_which_settings_it_was_answered(cell: Cell) -> None:
    first = await told(cell, "a", "b", conversation={"id": KEY.id, "settings": {"system": "Be brief.", "top_p": 0.5}})
    again = await told(cell, "c", "d")
    added = {"id": KEY.id, "settings": {"additions": {"tone": "Be kind."}, "top_p": None}}
    third = await told(cell, "e", "f", conversation=added)
    assert [each["settings_version"] for each in (first, again, third)] == [2, 2, 3]
    systems = [each.body["messages"][0]["content"] for each in cell.model.asked]
    assert systems == ["Be brief.", "Be brief.", "Be brief.\n\nBe kind."]
    assert [each.body.get("top_p") for each in cell.model.asked] == [0.5, 0.5, None]
    found = await cell.archive.conversations.read(KEY)
    assert found is not None
    assert (found.settings_version, found.settings) == (3, {"system": "Be brief.", "additions": {"tone": "Be kind."}})
    assert "Be" not in "".join(await texts(cell)), "the prompt is composed, never kept"


@pytest.mark.requirement("CHAT-16")
async def test_settings_are_changed_while_the_turn_runs_and_last(cell: Cell) -> None:
    hold = Hold()
    cell.model.add([*wants("noon")[:0], hold, *wants("noon")], says("noon"))
    run_id = await asked(cell, "time?", tools=["noon"])
    serving = await cell.worker().begin(run_id)
    await cell.store.signal(run_id, "update_settings", {"settings": {"temperature": 0.25}, "by": "ann"}, "s1")
    await cell.store.signal(run_id, "update_settings", {"settings": {"temprature": 1}}, "s2")
    await idle()
    hold.go.set()
    await idle()
    assert serving.done()
    journal = await cell.journal(run_id)
    assert [e.data["settings_version"] for e in journal if e.type == "chat.requested"] == [1, 2]
    assert [each.body.get("temperature") for each in cell.model.asked] == [None, 0.25]
    assert [(e.data["changed"], e.data["by"]) for e in journal if e.type == "chat.settings"] == [
        ({"temperature": 0.25}, "ann")
    ]
    ignored = next(event for event in journal if event.type == "run.ignored")
    assert "temprature" in ignored.data["reason"]
    await told(cell, "a", "b")
    assert cell.model.asked[-1].body["temperature"] == 0.25


@pytest.mark.requirement("CHAT-16")
async def test_the_model_may_come_from_the_settings_and_must_come_from_somewhere(cell: Cell) -> None:
    nameless = await told(cell, "a", "b", model=None)
    assert nameless["failure"]["code"] == "no_model"
    await told(cell, "a", "b", model=None, conversation={"id": KEY.id, "settings": {"model": "small"}})
    await told(cell, "c", "d", model=None)
    await told(cell, "e", "f", model="big")
    assert [each.body["model"] for each in cell.model.asked] == ["small", "small", "big"]


@pytest.mark.requirement("CHAT-18")
async def test_the_cache_key_is_the_conversations_and_the_isolation_the_tenants(cell: Cell) -> None:
    for fields in ({}, {}, {"conversation": "other"}, {"tenant": "acme"}, {"prompt_cache_key": "own"}):
        await told(cell, "a", "b", **fields)
    keys, walls = zip(
        *((a.body["prompt_cache_key"], a.body["prompt_cache_isolation_key"]) for a in cell.model.asked), strict=True
    )
    assert keys[0] == keys[1] != keys[2] != keys[3] != keys[0]
    assert keys[4] == "own"
    assert walls[0] == walls[1] == walls[2] == walls[4] != walls[3]
    assert not any(name in key for key in (*keys[:4], *walls) for name in (KEY.id, "acme", "default"))
