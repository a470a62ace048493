"""What an operator sees of the runs that live: who has each, since when, why it waits; and how little is looked at."""

import pytest

from api_contracts.keys import SLOTS, new_run_id
from api_contracts.runs import RunParked
from tests.contract.run_store.worlds import MANY, Said, World, given_held_run, given_run, queued
from workers.ports.register import RunLine, Wanted

pytestmark = pytest.mark.requirement("RUN-18")


async def mine(world: World, wanted: Wanted, *run_ids: str) -> list[RunLine]:
    """Return the lines of these runs, in the register's order; on a shared server there may be others."""
    found = await world.register.live(wanted, MANY, MANY)
    return [line for line in found.lines if line.run_id in run_ids]


async def test_a_run_that_waits_for_a_worker_is_queued(world: World) -> None:
    run_id = await given_run(world)
    (line,) = await mine(world, Wanted(), run_id)
    assert (line.standing, line.owner, line.lease_s) == ("queued", "", None)
    assert (line.kind, line.tenant, line.epoch, line.last, line.seq) == ("chat", "default", 0, "run.queued", 1)
    assert line.look_s == pytest.approx(60, abs=10)


async def test_who_holds_a_run_is_told_with_what_is_left_of_the_lease(world: World) -> None:
    run_id, granted = await given_held_run(world, "ann")
    await world.store.append(granted.lease, 1, [Said(text="secret words")])
    line = await world.register.standing(run_id)
    assert line is not None
    assert (line.standing, line.owner, line.epoch, line.last) == ("running", "ann", 1, "test.said")
    assert line.lease_s == pytest.approx(30, abs=10)
    assert "secret" not in repr(line)


async def test_an_owner_that_was_lost_is_named_with_how_long_the_lease_is_over(world: World) -> None:
    run_id, _ = await given_held_run(world, "ann")
    await world.pass_time(40)
    line = await world.register.standing(run_id)
    assert line is not None
    assert (line.standing, line.owner, line.deaths) == ("queued", "ann", 0)
    assert line.lease_s == pytest.approx(-10, abs=8)
    await world.store.acquire(run_id, "bob", "")
    line = await world.register.standing(run_id)
    assert line is not None
    assert (line.owner, line.epoch, line.deaths) == ("bob", 2, 1)


async def test_why_a_run_is_parked_and_when_it_wakes(world: World) -> None:
    run_id, granted = await given_held_run(world)
    first = (await world.store.read(run_id))[0].at / 1000
    await world.store.append(granted.lease, 1, [RunParked(why="the provider works", until=first + 500)])
    await world.store.park(granted.lease, "0", first + 500)
    (line,) = await mine(world, Wanted(standings={"parked"}), run_id)
    assert (line.standing, line.owner, line.why, line.last) == ("parked", "", "the provider works", "run.parked")
    assert line.look_s == pytest.approx(500, abs=10)


async def test_a_finished_run_is_not_among_the_living_but_its_standing_is_known(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, [Said(text="x")], terminal="failed")
    assert await mine(world, Wanted(), run_id) == []
    line = await world.register.standing(run_id)
    assert line is not None
    assert (line.standing, line.owner, line.announced) == ("failed", "", False)
    await world.store.announced(run_id)
    assert await world.register.reopened([run_id]) == set()
    await world.store.retry(run_id, "ann", "")
    assert await world.register.reopened([run_id, new_run_id()]) == {run_id}
    (line,) = await mine(world, Wanted(standings={"queued"}), run_id)
    assert not line.announced


async def test_runs_are_chosen_by_what_their_submit_said(world: World) -> None:
    ours, theirs = world.new_run_id(), world.new_run_id()
    await world.store.submit(ours, queued(tenant="acme", labels={"team": "a", "env": "x"}), None)
    await world.store.submit(theirs, queued(kind="cite", tenant="other", lane="background"), None)
    both = (ours, theirs)
    for wanted, found in (
        (Wanted(tenant="acme"), [ours]),
        (Wanted(kind="cite"), [theirs]),
        (Wanted(lane="background"), [theirs]),
        (Wanted(lane="interactive"), [ours]),
        (Wanted(labels={"team": "a"}), [ours]),
        (Wanted(labels={"team": "a", "env": "y"}), []),
        (Wanted(standings={"running", "failed"}), []),
        (Wanted(standings={"queued", "failed"}, tenant="other"), [theirs]),
    ):
        assert [line.run_id for line in await mine(world, wanted, *both)] == found, wanted
    at = (await world.store.read(ours))[0].at / 1000
    assert await mine(world, Wanted(since=at + 1000), *both) == []
    assert len(await mine(world, Wanted(since=at - 1000), *both)) == 2


async def test_no_more_is_looked_at_than_asked_for_and_that_is_said(world: World) -> None:
    run_ids = [world.new_run_id(ending) for ending in SLOTS[:20]]
    for run_id in run_ids:
        await world.store.submit(run_id, queued(), None)
    some = await world.register.live(Wanted(), 3, MANY)
    assert len(some.lines) == 3
    none = await world.register.live(Wanted(tenant="nobody"), 3, 5)
    assert (list(none.lines), none.looked) == ([], 5)
    assert none.total >= 20
    assert {line.run_id for line in await mine(world, Wanted(), *run_ids)} == set(run_ids)


async def test_letters_that_wait_are_counted(world: World) -> None:
    run_id = await given_run(world)
    assert await world.register.letters(run_id, "0") == 0
    for _ in range(3):
        await world.store.signal(run_id, "interrupt", {}, "")
    assert await world.register.letters(run_id, "0") == 3
    first = (await world.inbox.backlog(run_id, "0"))[0].id
    assert await world.register.letters(run_id, first) == 2


async def test_a_run_that_nobody_knows_stands_nowhere(world: World) -> None:
    assert await world.register.standing(new_run_id()) is None
