"""Jobs that are looked at: each when its time has come, by one poller, until they are forgotten."""

import asyncio

from tests.contract.batch_rows.worlds import World, watched
from workers.core.batch.jobs import JobView, Progress
from workers.ports import WatchedJob

VIEW = JobView(
    "job-1", "RUNNING", Progress(5, 4, 1, 100, 20, 3), "INTERNAL", "half a pair", "out-1", 1_700_000_000.125
)  # fmt: skip


async def due(world: World, now: float, again_at: float = 1e9, limit: int = 100) -> list[WatchedJob]:
    return sorted(await world.store.claim_jobs(now, again_at, limit), key=lambda job: (job.run_id, job.shard))


async def test_a_job_comes_as_it_was_watched_when_its_time_has_come(world: World, run_id: str) -> None:
    job = watched(run_id, credential="theirs", seen=VIEW)
    await world.store.watch(job, 100.5)
    assert await due(world, 100.25) == []
    assert await due(world, 100.5) == [job]


async def test_a_job_that_is_watched_already_keeps_its_time_and_what_was_seen(world: World, run_id: str) -> None:
    await world.store.watch(watched(run_id), 100)
    await world.store.noted(run_id, 1, VIEW, 50.0, 300)
    await world.store.watch(watched(run_id), 100)
    assert await due(world, 299) == []
    assert await due(world, 300) == [watched(run_id, seen=VIEW, changed_at=50.0)]


async def test_a_claimed_job_comes_again_only_later(world: World, run_id: str) -> None:
    await world.store.watch(watched(run_id), 100)
    assert await due(world, 100, again_at=220) == [watched(run_id)]
    assert await due(world, 219) == []
    assert await due(world, 220, again_at=340) == [watched(run_id)]


async def test_what_is_noted_says_when_to_look_again(world: World, run_id: str) -> None:
    await world.store.watch(watched(run_id), 100)
    await due(world, 100, again_at=220)
    await world.store.noted(run_id, 1, VIEW, 99.5, 130)
    assert await due(world, 129) == []
    assert await due(world, 130) == [watched(run_id, seen=VIEW, changed_at=99.5)]


async def test_a_job_that_is_forgotten_does_not_come_and_is_not_noted(world: World, run_id: str) -> None:
    await world.store.watch(watched(run_id, 1), 100)
    await world.store.watch(watched(run_id, 2), 100)
    for _ in range(2):
        await world.store.unwatch(run_id, 1)
    await world.store.noted(run_id, 1, VIEW, 1.0, 2.0)
    assert await due(world, 100) == [watched(run_id, 2)]


async def test_those_that_wait_longest_come_first_and_not_more_than_were_asked_for(world: World, run_id: str) -> None:
    for shard, look_at in ((1, 30), (2, 10), (3, 20), (4, 40)):
        await world.store.watch(watched(run_id, shard), look_at)
    assert [job.shard for job in await due(world, 35, limit=2)] == [2, 3]
    assert [job.shard for job in await due(world, 35, limit=2)] == [1]
    assert await due(world, 35, limit=2) == []


async def test_shards_and_runs_are_looked_at_on_their_own(world: World, run_id: str) -> None:
    jobs = [watched(run_id, 1), watched(run_id, 2), watched(run_id + "x", 1)]
    for job in jobs:
        await world.store.watch(job, 100)
    await world.store.noted(run_id, 1, VIEW, 1.0, 500)
    await world.store.unwatch(run_id + "x", 1)
    assert await due(world, 100) == [jobs[1]]


async def test_of_many_pollers_at_once_one_gets_each_job(world: World, run_id: str) -> None:
    for shard in range(1, 41):
        await world.store.watch(watched(run_id, shard), 100)
    stores = [world.store, world.another(), world.another()]
    claims = [store.claim_jobs(100, 1000, 7) for store in stores for _ in range(5)]
    found = [job.shard for claim in await asyncio.gather(*claims) for job in claim]
    while rest := await due(world, 100, again_at=1000, limit=7):
        found += [job.shard for job in rest]
    assert sorted(found) == list(range(1, 41))
