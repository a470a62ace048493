"""Parking: a run that holds nothing, and wakes by its time or a letter, once."""

from dataclasses import replace

import pytest

from tests.contract.run_store.worlds import TIMING, Said, World, claims, given_held_run
from tests.waiting import eventually_async
from workers.ports import Asleep, Claimed, Finished, Granted, Lease, LeaseLost


async def parked(world: World, in_s: float | None = 500.0) -> str:
    """Return a run that is parked for so long."""
    run_id, granted = await given_held_run(world, signature="signed")
    assert await world.store.park(granted.lease, "0", await until(world, run_id, in_s)) == "parked"
    return run_id


async def until(world: World, run_id: str, in_s: float | None) -> float | None:
    """Return the time in so many seconds, on the store's clock."""
    return None if in_s is None else (await world.store.read(run_id))[0].at / 1000 + in_s


@pytest.mark.requirement("RUN-07")
async def test_a_message_for_a_parked_run_is_a_duplicate(world: World) -> None:
    run_id = await parked(world)
    assert await world.store.acquire(run_id, "bob", "") == Asleep()
    assert await claims(world.store, run_id) == []
    assert await world.store.claim(run_id) is None


@pytest.mark.requirement("RUN-07", "RUN-17")
async def test_a_parked_run_wakes_at_its_time_and_is_rung_for_once(world: World) -> None:
    run_id = await parked(world, 100)
    assert await world.next_look(run_id) == pytest.approx(100, abs=5)
    await world.pass_time(101)
    other = await world.another_process()
    assert [*await claims(world.store, run_id), *await claims(other, run_id)] == [Claimed(run_id, "signed")]
    assert await world.store.acquire(run_id, "bob", "") == Granted(Lease(run_id, 2, "bob"), 1)


@pytest.mark.requirement("RUN-06", "RUN-07")
async def test_a_letter_wakes_a_parked_run_and_one_rings_for_it(world: World) -> None:
    run_id = await parked(world)
    assert await world.store.signal(run_id, "cancel", {}, "1") == "woken"
    assert await world.store.signal(run_id, "cancel", {}, "1") == "sent"
    assert await world.store.claim(run_id) == Claimed(run_id, "signed", cancelled=True)
    assert await world.store.claim(run_id) is None
    assert await claims(world.store, run_id) == []
    assert isinstance(await world.store.acquire(run_id, "bob", ""), Granted)


@pytest.mark.requirement("RUN-07")
async def test_a_letter_whose_sender_died_before_ringing_is_swept(world: World) -> None:
    run_id = await parked(world)
    assert await world.store.signal(run_id, "approve", {}, "1") == "woken"
    assert await claims(world.store, run_id) == [Claimed(run_id, "signed")]


@pytest.mark.requirement("RUN-07")
async def test_a_letter_that_came_before_the_park_ends_it_at_once(world: World) -> None:
    run_id, granted = await given_held_run(world)
    assert await world.store.signal(run_id, "approve", {}, "1") == "sent"
    assert await world.store.park(granted.lease, "0", await until(world, run_id, 500)) == "letters"
    assert isinstance(await world.store.claim(run_id), Claimed)
    assert isinstance(await world.store.acquire(run_id, "bob", ""), Granted)


@pytest.mark.requirement("RUN-07")
async def test_a_letter_that_was_seen_does_not_keep_a_run_from_parking(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.signal(run_id, "progress", {}, "1")
    letters: list[str] = []
    stop = world.inbox.watch(run_id, "0", lambda letter: letters.append(letter.id))
    await eventually_async(lambda: _true(letters))
    stop()
    assert await world.store.park(granted.lease, letters[-1], await until(world, run_id, 500)) == "parked"


@pytest.mark.requirement("RUN-07")
async def test_a_run_without_a_time_waits_for_letters_only(world: World) -> None:
    run_id = await parked(world, None)
    look = await world.next_look(run_id)
    assert look is not None
    assert look >= TIMING.live_ttl_s - 5
    assert await world.store.signal(run_id, "approve", {}, "1") == "woken"
    assert isinstance(await world.store.claim(run_id), Claimed)


@pytest.mark.requirement("RUN-03", "RUN-07")
async def test_only_the_holder_parks_a_run_and_is_done_with_it_then(world: World) -> None:
    _, granted = await given_held_run(world)
    with pytest.raises(LeaseLost):
        await world.store.park(replace(granted.lease, epoch=granted.lease.epoch - 1), "0", None)
    await world.store.park(granted.lease, "0", None)
    with pytest.raises(LeaseLost):
        await world.store.park(granted.lease, "0", None)
    with pytest.raises(LeaseLost):
        await world.store.append(granted.lease, 1, [Said(text="late")])
    assert await world.store.renew([granted.lease]) == {granted.lease}


@pytest.mark.requirement("RUN-07")
async def test_a_finished_run_is_not_parked(world: World) -> None:
    _, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, [Said(text="end")], terminal="completed")
    with pytest.raises(LeaseLost):
        await world.store.park(granted.lease, "0", None)


async def _true(found: list[str]) -> bool:
    return bool(found)


@pytest.mark.requirement("RUN-10")
async def test_one_who_parks_a_run_that_is_over_has_its_end_told_again(world: World) -> None:
    """A zombie: it told Celery that the run waits, after another life had told the end."""
    run_id, granted = await given_held_run(world)
    await world.pass_time(TIMING.lease_s)
    second = await world.store.acquire(run_id, "bob", "")
    assert isinstance(second, Granted)
    await world.store.append(second.lease, 1, [Said(text="end")], terminal="completed")
    await world.store.announced(run_id)
    assert await claims(world.store, run_id) == []
    with pytest.raises(LeaseLost):
        await world.store.park(granted.lease, "0", None)
    assert [claimed.run_id for claimed in await claims(world.store, run_id)] == [run_id]
    assert await world.store.acquire(run_id, "cat", "") == Finished("completed", announced=False)
    await world.store.announced(run_id)
    assert await world.store.acquire(run_id, "cat", "") == Finished("completed", announced=True)


@pytest.mark.requirement("RUN-10")
async def test_an_end_that_is_being_told_while_a_zombie_parks_is_told_once_more(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, [Said(text="end")], terminal="completed")
    with pytest.raises(LeaseLost):
        await world.store.park(Lease(run_id, 0, "zombie"), "0", None)
    await world.store.announced(run_id)
    assert await world.store.acquire(run_id, "cat", "") == Finished("completed", announced=False)
    await world.store.announced(run_id)
    assert await world.store.acquire(run_id, "cat", "") == Finished("completed", announced=True)
