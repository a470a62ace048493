"""One holder at a time; epochs rise; who comes late but unreplaced keeps the run."""

import asyncio

import pytest

from tests.contract.run_store.worlds import TIMING, Said, World, claims, given_held_run, given_run
from workers.ports import Finished, Granted, Held, Lease, LeaseLost


@pytest.mark.requirement("RUN-03")
async def test_the_first_who_asks_gets_the_run_and_the_others_hear_who_has_it(world: World) -> None:
    run_id = await given_run(world)
    assert await world.store.acquire(run_id, "ann", "") == Granted(Lease(run_id, 1, "ann"), seq=1)
    assert await world.store.acquire(run_id, "bob", "") == Held("ann")


async def test_a_run_that_nobody_has_begun_comes_with_its_journal_and_no_other_does(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    assert [granted.first] == await world.store.read(run_id)
    await world.store.append(granted.lease, granted.seq, [Said(text="a")])
    await world.pass_time(TIMING.lease_s)
    again = await world.store.acquire(run_id, "bob", "")
    assert isinstance(again, Granted)
    assert again.first is None


@pytest.mark.requirement("RUN-10")
async def test_a_duplicate_message_in_the_same_process_finds_the_run_held(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    assert await world.store.acquire(run_id, "ann", "") == Held("ann")
    assert await world.store.renew([granted.lease]) == set()


@pytest.mark.requirement("RUN-03")
async def test_of_many_who_ask_at_once_one_gets_the_run(world: World) -> None:
    run_id = await given_run(world)
    stores = [world.store, await world.another_process()]
    answers = await asyncio.gather(*(store.acquire(run_id, f"w{n}", "") for n, store in enumerate(stores * 5)))
    granted = [n for n, answer in enumerate(answers) if isinstance(answer, Granted)]
    assert len(granted) == 1
    assert answers.count(Held(f"w{granted[0]}")) == 9


@pytest.mark.requirement("RUN-03", "RUN-04")
async def test_each_owner_after_the_first_gets_a_higher_epoch_and_the_end_of_the_journal(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    await world.store.append(granted.lease, granted.seq, [Said(text="a"), Said(text="b")])
    await world.pass_time(TIMING.lease_s)
    assert await world.store.acquire(run_id, "bob", "") == Granted(Lease(run_id, 2, "bob"), seq=3, deaths=1)
    await world.pass_time(TIMING.lease_s)
    assert await world.store.acquire(run_id, "ann", "") == Granted(Lease(run_id, 3, "ann"), seq=3, deaths=2)
    await world.store.release(Lease(run_id, 3, "ann"))
    again = Granted(Lease(run_id, 4, "bob"), seq=3)
    assert await world.store.acquire(run_id, "bob", "") == again, "who hands over was not lost"


@pytest.mark.requirement("RUN-04")
async def test_a_lease_holds_until_it_ends_and_no_longer(world: World) -> None:
    run_id, _ = await given_held_run(world, "ann")
    await world.pass_time(TIMING.lease_s / 2)
    assert await world.store.acquire(run_id, "bob", "") == Held("ann")
    await world.pass_time(TIMING.lease_s / 2)
    assert await world.store.acquire(run_id, "bob", "") == Granted(Lease(run_id, 2, "bob"), seq=1, deaths=1)


async def test_a_renewed_lease_lasts_as_long_again(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    await world.pass_time(TIMING.lease_s / 2)
    assert await world.store.renew([granted.lease]) == set()
    assert await world.next_look(run_id) == pytest.approx(TIMING.lease_s, abs=TIMING.lease_s / 6)
    await world.pass_time(TIMING.lease_s / 2)
    assert await world.store.acquire(run_id, "bob", "") == Held("ann")
    await world.pass_time(TIMING.lease_s / 2)
    assert isinstance(await world.store.acquire(run_id, "bob", ""), Granted)


@pytest.mark.requirement("RUN-21")
async def test_an_owner_that_renews_late_but_was_not_replaced_keeps_the_run(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    await world.pass_time(20 * TIMING.lease_s)
    assert await world.store.renew([granted.lease]) == set()
    assert await world.store.acquire(run_id, "bob", "") == Held("ann")
    assert await world.store.append(granted.lease, granted.seq, [Said(text="still here")]) == 2


@pytest.mark.requirement("RUN-03")
async def test_an_owner_that_was_replaced_hears_at_its_next_renewal_that_the_run_is_lost(world: World) -> None:
    lost, stale = await given_held_run(world, "ann")
    kept, current = await given_held_run(world, "ann")
    await world.pass_time(TIMING.lease_s)
    await world.store.acquire(lost, "bob", "")
    assert await world.store.renew([stale.lease, current.lease]) == {stale.lease}
    assert await world.store.acquire(lost, "cat", "") == Held("bob")
    assert await world.store.acquire(kept, "cat", "") == Held("ann")


async def test_nothing_to_renew_is_no_work(world: World) -> None:
    assert await world.store.renew([]) == set()


@pytest.mark.requirement("RUN-05")
async def test_a_released_run_goes_to_the_next_who_asks_at_once(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    await world.store.append(granted.lease, granted.seq, [Said(text="half")])
    await world.store.release(granted.lease)
    assert await world.store.acquire(run_id, "bob", "") == Granted(Lease(run_id, 2, "bob"), seq=2)


@pytest.mark.requirement("RUN-03")
async def test_who_released_a_run_can_neither_write_nor_take_it_back_by_a_late_renewal(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    await world.store.release(granted.lease)
    assert await world.store.renew([granted.lease]) == {granted.lease}
    with pytest.raises(LeaseLost):
        await world.store.append(granted.lease, granted.seq, [Said(text="late")])
    assert isinstance(await world.store.acquire(run_id, "bob", ""), Granted)


async def test_a_release_under_a_stale_epoch_takes_the_run_from_nobody(world: World) -> None:
    run_id, stale = await given_held_run(world, "ann")
    await world.pass_time(TIMING.lease_s)
    await world.store.acquire(run_id, "bob", "")
    await world.store.release(stale.lease)
    assert await world.store.acquire(run_id, "cat", "") == Held("bob")


async def test_a_release_after_the_end_changes_nothing(world: World) -> None:
    run_id, granted = await given_held_run(world)
    end = [Said(text="end")]
    await world.store.append(granted.lease, granted.seq, end, terminal="completed")
    await world.store.release(granted.lease)
    assert await world.store.append(granted.lease, granted.seq, end, terminal="completed") == 2
    await world.store.announced(run_id)
    await world.store.release(granted.lease)
    assert await world.next_look(run_id) is None
    assert await world.store.acquire(run_id, "bob", "") == Finished("completed", announced=True)


@pytest.mark.requirement("RUN-23")
async def test_the_first_signature_of_a_run_is_the_one_that_is_kept(world: World) -> None:
    run_id = await given_run(world)
    await world.store.acquire(run_id, "ann", "")
    await world.store.acquire(run_id, "bob", "from the caller")
    await world.store.acquire(run_id, "ann", "from a re-send")
    await world.pass_time(TIMING.lease_s)
    await world.store.acquire(run_id, "bob", "from another")
    await world.pass_time(TIMING.lease_s)
    (claimed,) = await claims(world.store, run_id)
    assert claimed.signature == "from the caller"


async def test_a_run_that_nobody_signed_is_claimed_without_a_signature(world: World) -> None:
    run_id = await given_run(world)
    await world.pass_time(TIMING.lost_message_s)
    (claimed,) = await claims(world.store, run_id)
    assert claimed.signature is None
