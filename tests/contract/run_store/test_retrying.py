"""An operator's retry: a run that is over is reopened, one that waits is due, whatever else happens at that moment."""

import asyncio

import pytest

from api_contracts.runs import Status
from tests.contract.run_store.worlds import Said, World, claims, given_held_run, given_run, queued
from workers.ports import Claimed, Finished, Granted, Lease, LeaseLost

pytestmark = pytest.mark.requirement("RUN-18")


async def over(world: World, status: Status = "failed", *, announced: bool = True) -> str:
    """Return a run that has ended, of which everybody was told."""
    run_id, granted = await given_held_run(world, signature="signed")
    await world.store.append(granted.lease, 1, [Said(text="the end")], terminal=status)
    if announced:
        await world.store.announced(run_id)
    return run_id


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_run_that_is_over_is_reopened_and_rung_for_once(world: World, status: Status) -> None:
    run_id = await over(world, status)
    assert await world.store.retry(run_id, "ann", "it is well again") == "reopened"
    assert await world.store.claim(run_id) == Claimed(run_id, "signed")
    assert await world.store.claim(run_id) is None
    found = await world.store.acquire(run_id, "bob", "")
    (letter,) = await world.inbox.backlog(run_id, "0")
    assert found == Granted(Lease(run_id, 2, "bob"), seq=2, deaths=0, cancelled=False, retry=letter.id)
    assert (letter.type, letter.data) == ("retry", {"by": "ann", "reason": "it is well again"})
    assert await world.store.append(found.lease, 2, [Said(text="more")], terminal="completed") == 3
    assert await world.store.acquire(run_id, "bob", "") == Finished("completed", announced=False)


async def test_two_operators_at_once_retry_it_once(world: World) -> None:
    run_id = await over(world)
    other = await world.another_process()
    said = await asyncio.gather(world.store.retry(run_id, "ann", ""), other.retry(run_id, "bob", ""))
    assert sorted(said) == ["reopened", "woken"]
    assert len(await world.inbox.backlog(run_id, "0")) == 1


async def test_a_completed_run_is_not_retried(world: World) -> None:
    run_id = await over(world, "completed")
    assert await world.store.retry(run_id, "ann", "") == "completed"
    assert await world.store.acquire(run_id, "bob", "") == Finished("completed", announced=True)


async def test_a_run_whose_outcome_is_still_being_told_is_not_retried(world: World) -> None:
    run_id = await over(world, announced=False)
    assert await world.store.retry(run_id, "ann", "") == "telling"
    assert await world.inbox.backlog(run_id, "0") == []


async def test_a_speech_session_that_is_over_is_not_retried(world: World) -> None:
    run_id = world.new_run_id()
    await world.store.submit(run_id, queued(kind="stt"), None)
    await world.store.acquire(run_id, "ann", "")
    await world.store.append(Lease(run_id, 1, "ann"), 1, [Said(text="x")], terminal="failed")
    await world.store.announced(run_id)
    assert await world.store.retry(run_id, "ann", "") == "session"


async def test_a_run_that_nobody_knows_is_missing(world: World) -> None:
    assert await world.store.retry(world.new_run_id(), "ann", "") == "missing"


async def test_a_run_at_work_is_left_alone(world: World) -> None:
    run_id, granted = await given_held_run(world)
    assert await world.store.retry(run_id, "ann", "") == "running"
    assert await world.inbox.backlog(run_id, "0") == []
    assert await world.store.append(granted.lease, 1, [Said(text="undisturbed")]) == 2


async def test_a_parked_run_is_due_at_once(world: World) -> None:
    run_id, granted = await given_held_run(world, signature="signed")
    assert await world.store.park(granted.lease, "0", None) == "parked"
    assert await claims(world.store, run_id) == []
    assert await world.store.retry(run_id, "ann", "") == "woken"
    assert await world.store.retry(run_id, "ann", "") == "woken", "asked for twice before anybody came"
    assert await world.store.claim(run_id) == Claimed(run_id, "signed")
    (letter,) = await world.inbox.backlog(run_id, "0")
    assert await world.store.acquire(run_id, "bob", "") == Granted(Lease(run_id, 2, "bob"), 1, retry=letter.id)


async def test_a_run_whose_message_was_lost_is_due_at_once(world: World) -> None:
    run_id = await given_run(world)
    assert await world.store.claim(run_id) is None
    assert await world.store.retry(run_id, "ann", "") == "woken"
    assert await world.store.claim(run_id) == Claimed(run_id, None, waits_in="fireworks.chat")


async def test_a_run_whose_owner_was_lost_is_due_before_its_next_look(world: World) -> None:
    run_id, _ = await given_held_run(world)
    await world.pass_time(31)
    assert isinstance(await world.store.claim(run_id), Claimed)
    assert await world.store.claim(run_id) is None, "rung for; the next look is a while away"
    assert await world.store.retry(run_id, "ann", "") == "woken"
    assert isinstance(await world.store.claim(run_id), Claimed)


async def test_who_held_the_run_before_its_end_writes_no_word_after_it_was_reopened(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, [Said(text="the end")], terminal="failed")
    await world.store.announced(run_id)
    await world.store.retry(run_id, "ann", "")
    with pytest.raises(LeaseLost):
        await world.store.append(granted.lease, 2, [Said(text="a zombie")])
    assert await world.store.renew([granted.lease]) == {granted.lease}
    await world.store.announced(run_id)
    assert isinstance(await world.store.claim(run_id), Claimed), "an outcome that is told late hides nothing"


async def test_a_cancel_before_the_end_does_not_cancel_the_retry(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.signal(run_id, "cancel", {}, "")
    await world.store.append(granted.lease, 1, [Said(text="x")], terminal="cancelled")
    await world.store.announced(run_id)
    await world.store.retry(run_id, "ann", "")
    found = await world.store.acquire(run_id, "bob", "")
    assert isinstance(found, Granted)
    assert not found.cancelled


async def test_a_run_may_fail_and_be_reopened_again(world: World) -> None:
    run_id = await over(world)
    for epoch in (2, 3):
        assert await world.store.retry(run_id, "ann", "") == "reopened"
        found = await world.store.acquire(run_id, "bob", "")
        assert isinstance(found, Granted)
        assert (found.lease.epoch, found.deaths) == (epoch, 0)
        assert await world.store.signal(run_id, "interrupt", {}, "") == "sent"
        await world.store.append(found.lease, found.seq, [Said(text="x")], terminal="failed")
        assert await world.store.signal(run_id, "interrupt", {}, "") == "finished"
        await world.store.announced(run_id)
    letters = await world.inbox.backlog(run_id, "0")
    assert [letter.type for letter in letters] == ["retry", "interrupt", "retry", "interrupt"]


@pytest.mark.requirement("RUN-10")
async def test_one_who_announces_the_end_before_a_retry_has_the_present_end_told_again(world: World) -> None:
    """A zombie: it told Celery the old end, perhaps after the new one; nor is that the new one's announcement."""
    run_id, first = await given_held_run(world)
    await world.store.append(first.lease, 1, [Said(text="no")], terminal="failed")
    await world.store.announced(run_id, first.lease.epoch)
    assert await world.store.retry(run_id, "op", "again") == "reopened"
    await world.store.announced(run_id, first.lease.epoch)
    second = await world.store.acquire(run_id, "bob", "")
    assert isinstance(second, Granted), "nothing is over"
    await world.store.append(second.lease, 2, [Said(text="yes")], terminal="completed")
    await world.store.announced(run_id, second.lease.epoch)
    await world.store.announced(run_id, first.lease.epoch)
    found = await world.store.acquire(run_id, "cat", "")
    assert found == Finished("completed", announced=False)
    assert isinstance(found, Finished)
    assert found.epoch == second.lease.epoch
    assert [claimed.run_id for claimed in await claims(world.store, run_id)] == [run_id]
    await world.store.announced(run_id, found.epoch)
    assert await world.store.acquire(run_id, "cat", "") == Finished("completed", announced=True)
