"""The appender on a real Valkey: one pipeline a tick, order kept, and nothing lost or doubled by an outage."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import redis
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from api_contracts import keys
from api_contracts.client.connections import Command, Pool
from api_contracts.keys import new_run_id
from tests.contract.cutting_proxy import CuttingProxy
from tests.contract.run_store.worlds import Said, queued
from tests.servers import kill
from tests.waiting import eventually_async
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.store import RedisRuns
from workers.cli.embedded import EmbeddedValkey
from workers.ports import Granted, KeysDamaged, Lease, LeaseLost, StoreUnavailable
from workers.settings import Timing

TIMING = Timing(lease_s=60, live_ttl_s=900)


class Recorder:
    """How many commands each pipeline took along, in order, whether or not it arrived."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def record(self, redis: Redis) -> Redis:
        """Make the client note its pipelines here."""
        pool = cast("Pool", redis.connection_pool)
        send = pool.converse

        async def recorded(commands: Sequence[Command]) -> list[Any]:
            self.sizes.append(len(commands))
            return await send(commands)

        pool.converse = recorded  # type: ignore[method-assign]
        return redis

    async def until(self, count: int) -> None:
        """Return once so many pipelines have left."""
        await until(lambda: len(self.sizes) >= count)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def plain(own_valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    """A plain client of the test's own server."""
    client = connect(own_valkey.url)
    yield client
    await client.aclose()


@pytest.fixture
async def store(own_valkey: EmbeddedValkey, recorder: Recorder) -> AsyncIterator[RedisRuns]:
    """A store on the test's own server."""
    sync_before_each_reply(own_valkey)
    client = recorder.record(connect(own_valkey.url))
    store = RedisRuns(client, SystemClock(), TIMING)
    store.start()
    yield store
    await store.close()
    await client.aclose()


def held(run_id: str, epoch: int = 1) -> Lease:
    """Return the lease that a run of `given_held_runs` has, or one that it has not."""
    return Lease(run_id, epoch, "ann")


async def given_held_runs(store: RedisRuns, count: int) -> list[str]:
    """Return runs that are held under epoch 1, each with a journal of two: the scripts are known by then."""
    run_ids = [new_run_id() for _ in range(count)]
    for run_id in run_ids:
        await store.submit(run_id, queued(), None)
        assert isinstance(await store.acquire(run_id, "ann", ""), Granted)
        await store.append(held(run_id), 1, [Said(text="first")])
    return run_ids


async def said(store: RedisRuns, run_id: str) -> list[str]:
    """Return what was said after the first word; the journal is dense."""
    journal = await store.read(run_id)
    assert [event.seq for event in journal] == list(range(1, len(journal) + 1))
    return [event.data["text"] for event in journal[2:]]


async def until(check: Callable[[], bool]) -> None:
    """Return once `check` is true."""

    async def checked() -> bool:
        return check()

    await eventually_async(checked)


def sync_before_each_reply(server: EmbeddedValkey) -> None:
    """Have the server keep what it acknowledges.

    Under `everysec` it answers before it writes while a sync of its file is under way; a kill in that moment loses
    writes that were acknowledged. Here the appender is on trial, not the server's settings.
    """
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendfsync", "always")


async def test_what_all_runs_decide_in_a_tick_leaves_in_one_pipeline(store: RedisRuns, recorder: Recorder) -> None:
    run_ids = await given_held_runs(store, 50)
    recorder.sizes.clear()
    await asyncio.gather(*(store.append(held(run_id), 2, [Said(text="x")]) for run_id in run_ids))
    assert recorder.sizes == [50]


async def test_a_tick_with_very_many_appends_is_cut_into_pipelines(store: RedisRuns, recorder: Recorder) -> None:
    (run_id,) = await given_held_runs(store, 1)
    recorder.sizes.clear()
    await asyncio.gather(*(store.append(held(run_id), 2 + n, [Said(text=str(n))]) for n in range(600)))
    assert recorder.sizes == [512, 88]
    assert await said(store, run_id) == [str(n) for n in range(600)]


async def test_what_comes_while_a_pipeline_is_under_way_leaves_together_in_the_next(
    store: RedisRuns, recorder: Recorder, plain: Redis
) -> None:
    run_ids = await given_held_runs(store, 20)
    recorder.sizes.clear()
    await plain.client_pause(60_000, all=False)
    first = asyncio.ensure_future(store.append(held(run_ids[0]), 2, [Said(text="0")]))
    await recorder.until(1)
    others = [asyncio.ensure_future(store.append(held(run_id), 2, [Said(text="x")])) for run_id in run_ids[1:]]
    await until(lambda: len(store._appender._pending) == len(others))
    await plain.client_unpause()
    await asyncio.gather(first, *others)
    assert recorder.sizes == [1, 19]


async def test_appends_of_one_run_that_do_not_wait_for_each_other_keep_their_order(store: RedisRuns) -> None:
    (run_id,) = await given_held_runs(store, 1)
    ends = await asyncio.gather(*(store.append(held(run_id), 2 + n, [Said(text=str(n))]) for n in range(30)))
    assert ends == list(range(3, 33))
    assert await said(store, run_id) == [str(n) for n in range(30)]


@pytest.mark.requirement("RUN-03")
async def test_of_a_pipeline_only_the_stale_append_is_refused(store: RedisRuns) -> None:
    run_ids = await given_held_runs(store, 9)
    epochs = [1, 1, 1, 7, 1, 1, 1, 1, 1]
    answers = await asyncio.gather(
        *(store.append(lease, 2, [Said(text="x")]) for lease in map(held, run_ids, epochs)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [LeaseLost if epoch == 7 else int for epoch in epochs]
    assert [await said(store, run_id) for run_id in run_ids] == [[] if epoch == 7 else ["x"] for epoch in epochs]


@pytest.mark.requirement("RUN-21")
async def test_the_server_is_killed_again_and_again_and_every_append_is_there_once_in_order(
    own_valkey: EmbeddedValkey, store: RedisRuns, recorder: Recorder
) -> None:
    acknowledged = dict.fromkeys(await given_held_runs(store, 12), 0)
    over = asyncio.Event()

    async def write(run_id: str) -> None:
        while not over.is_set():
            await store.append(held(run_id), 2 + acknowledged[run_id], [Said(text=str(acknowledged[run_id]))])
            acknowledged[run_id] += 1

    writers = [asyncio.create_task(write(run_id)) for run_id in acknowledged]
    for goal in (20, 40, 60, 80):
        await until(lambda: min(acknowledged.values()) >= goal)  # noqa: B023 - awaited within the round
        kill(own_valkey)
        await recorder.until(len(recorder.sizes) + 2)
        own_valkey.restart()
        sync_before_each_reply(own_valkey)
    over.set()
    await asyncio.gather(*writers)
    for run_id, count in acknowledged.items():
        assert await said(store, run_id) == [str(number) for number in range(count)]


@pytest.mark.requirement("RUN-21")
async def test_an_append_that_begins_while_the_server_is_away_lands_when_it_is_back(
    own_valkey: EmbeddedValkey, store: RedisRuns, recorder: Recorder
) -> None:
    run_ids = await given_held_runs(store, 5)
    kill(own_valkey)
    recorder.sizes.clear()
    waiting = [asyncio.ensure_future(store.append(held(run_id), 2, [Said(text="x")])) for run_id in run_ids]
    await recorder.until(3)
    assert not any(task.done() for task in waiting)
    own_valkey.restart()
    assert await asyncio.gather(*waiting) == [3] * 5
    assert [await said(store, run_id) for run_id in run_ids] == [["x"]] * 5


@pytest.mark.requirement("RUN-21")
async def test_appends_whose_replies_are_lost_are_there_once(own_valkey: EmbeddedValkey) -> None:
    async with CuttingProxy(own_valkey.url) as proxy:
        client = connect(proxy.url)
        store = RedisRuns(client, SystemClock(), TIMING)
        store.start()
        run_ids = await given_held_runs(store, 3)
        for round_ in range(4):
            proxy.cut_the_next_reply()
            appends = (store.append(held(run_id), 2 + round_, [Said(text=f"{round_}")]) for run_id in run_ids)
            assert await asyncio.gather(*appends) == [3 + round_] * 3
        assert proxy.cuts == 4
        assert [await said(store, run_id) for run_id in run_ids] == [["0", "1", "2", "3"]] * 3
        await store.close()
        await client.aclose()


async def test_a_full_server_has_the_appends_wait_until_there_is_room(
    store: RedisRuns, recorder: Recorder, plain: Redis
) -> None:
    run_ids = await given_held_runs(store, 3)
    await plain.config_set("maxmemory", 1)
    recorder.sizes.clear()
    waiting = [asyncio.ensure_future(store.append(held(run_id), 2, [Said(text="x")])) for run_id in run_ids]
    await recorder.until(2)
    assert not any(task.done() for task in waiting)
    await plain.config_set("maxmemory", 0)
    assert await asyncio.gather(*waiting) == [3, 3, 3]


async def test_scripts_that_are_forgotten_all_the_time_stop_no_append(store: RedisRuns, plain: Redis) -> None:
    run_ids = await given_held_runs(store, 4)
    words = [str(number) for number in range(25)]

    async def write(run_id: str) -> None:
        for number, word in enumerate(words):
            await store.append(held(run_id), 2 + number, [Said(text=word)])
            await plain.script_flush()

    await asyncio.gather(*(write(run_id) for run_id in run_ids))
    assert [await said(store, run_id) for run_id in run_ids] == [words] * 4


async def test_one_run_that_redis_refuses_leaves_the_others_alone(store: RedisRuns, plain: Redis) -> None:
    bad, good = await given_held_runs(store, 2)
    await plain.set(keys.events(bad), "not a stream", ex=60)
    answers = await asyncio.gather(
        *(store.append(held(run_id), 2, [Said(text="x")]) for run_id in (bad, good)), return_exceptions=True
    )
    assert isinstance(answers[0], KeysDamaged)
    assert answers[1] == 3


async def test_a_refusal_of_a_whole_pipeline_is_told_and_the_next_one_goes_out(
    own_valkey: EmbeddedValkey, plain: Redis
) -> None:
    await plain.acl_setuser("us", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"])
    client = connect(f"redis://us:pw@127.0.0.1:{urlsplit(own_valkey.url).port}/0")
    store = RedisRuns(client, SystemClock(), TIMING)
    store.start()
    (run_id,) = await given_held_runs(store, 1)
    await plain.script_flush()
    await plain.acl_setuser("us", enabled=True, commands=["-script"])
    with pytest.raises(ResponseError):
        await store.append(held(run_id), 2, [Said(text="x")])
    await plain.acl_setuser("us", enabled=True, commands=["+script"])
    async with asyncio.timeout(30):  # a dead appender would have us wait for ever
        assert await store.append(held(run_id), 2, [Said(text="x")]) == 3
    await store.close()
    await client.aclose()


async def test_who_still_waits_when_the_appender_is_closed_hears_so(
    own_valkey: EmbeddedValkey, store: RedisRuns, recorder: Recorder
) -> None:
    under_way, waiting = await given_held_runs(store, 2)
    kill(own_valkey)
    first = asyncio.ensure_future(store.append(held(under_way), 2, [Said(text="x")]))
    await recorder.until(len(recorder.sizes) + 1)
    second = asyncio.ensure_future(store.append(held(waiting), 2, [Said(text="x")]))
    await until(lambda: len(store._appender._pending) == 1)
    await store.close()
    for append in (first, second, asyncio.ensure_future(store.append(held(waiting), 2, []))):
        with pytest.raises(StoreUnavailable):
            await append


async def test_a_caller_that_gives_up_waiting_holds_up_nobody(
    own_valkey: EmbeddedValkey, store: RedisRuns, recorder: Recorder
) -> None:
    impatient, patient = await given_held_runs(store, 2)
    kill(own_valkey)
    tasks = [asyncio.ensure_future(store.append(held(run_id), 2, [Said(text="x")])) for run_id in (impatient, patient)]
    await recorder.until(len(recorder.sizes) + 1)
    tasks[0].cancel()
    own_valkey.restart()
    assert await tasks[1] == 3
    assert await store.append(held(impatient), 2, [Said(text="x")]) == 3
