"""What is written to Redis: readable by anyone, with an end to its life, under Redis' own clock."""

import asyncio
import json
from dataclasses import replace

import pytest

from api_contracts import keys
from api_contracts.client.scripts import REQUEST_BLOB, RESULT_BLOB, signal_call
from api_contracts.runs import Event
from tests.contract.run_store.worlds import TIMING, RedisWorld, Said, claims, given_held_run, given_run, queued
from tests.waiting import eventually_async
from workers.adapters.redis.scripts import CLAIM, run_all
from workers.ports import Granted, Held, Lease

SHORT = replace(TIMING, lease_s=0.06, lost_message_s=0.05, longest_look_s=0.2)


@pytest.mark.requirement("RUN-02")
async def test_any_client_can_read_every_field_of_a_journal(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis)
    await redis.store.append(granted.lease, 1, [Said(text='he said "ä"')])
    entries = await redis.redis.xrange(f"fw:{{{run_id[-1]}}}:{run_id}:events")
    assert [entry_id for entry_id, _ in entries] == [b"1-0", b"2-0"]
    for _, fields in entries:
        assert list(fields) == [b"seq", b"type", b"at", b"epoch", b"data"]
    (_, first), (_, second) = entries
    assert (first[b"seq"], first[b"type"], first[b"epoch"]) == (b"1", b"run.queued", b"0")
    assert json.loads(first[b"data"])["kind"] == "chat"
    assert (second[b"seq"], second[b"type"], second[b"epoch"]) == (b"2", b"test.said", b"1")
    assert json.loads(second[b"data"]) == {"text": 'he said "ä"'}
    assert [Event.from_fields(fields) for _, fields in entries] == await redis.store.read(run_id)


@pytest.mark.requirement("RUN-02")
async def test_the_time_of_an_event_is_redis_own_in_whole_milliseconds(redis: RedisWorld) -> None:
    before = await redis.redis.time()
    run_id, granted = await given_held_run(redis)
    await redis.store.append(granted.lease, 1, [Said(text="x")])
    after = await redis.redis.time()
    for _, fields in await redis.redis.xrange(keys.events(run_id)):
        at = fields[b"at"]
        assert at.isdigit()
        assert before[0] * 1000 + before[1] // 1000 <= int(at) <= after[0] * 1000 + after[1] // 1000


@pytest.mark.requirement("RUN-02")
async def test_a_follower_that_reads_on_from_any_id_gets_each_event_once(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis)
    await redis.store.append(granted.lease, 1, [Said(text=str(n)) for n in range(2, 12)])
    seen, last = [], "4-0"
    while pages := await redis.redis.xread({keys.events(run_id): last}, count=3):
        (entries,) = dict(pages).values()
        seen += [int(fields[b"seq"]) for _, fields in entries]
        last = entries[-1][0].decode()
    assert seen == list(range(5, 12))


async def test_the_lease_says_who_holds_the_run_and_where_its_journal_ends(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis, "ann")
    await redis.store.append(granted.lease, 1, [Said(text="x")])
    lease = await redis.redis.hgetall(keys.lease(run_id))
    assert (lease[b"epoch"], lease[b"owner"], lease[b"seq"]) == (b"1", b"ann", b"2")
    seconds, _ = await redis.redis.time()
    assert 0 < int(lease[b"until"]) - seconds * 1000 <= TIMING.lease_s * 1000 + 1000


@pytest.mark.requirement("RUN-11")
async def test_every_key_of_a_live_run_ends_unless_the_run_shows_signs_of_life(redis: RedisWorld) -> None:
    run_id = redis.new_run_id()
    await redis.store.submit(run_id, queued(request_blob=REQUEST_BLOB), "large")
    await redis.store.signal(run_id, "cancel", {}, "1")
    granted = await redis.store.acquire(run_id, "ann", "")
    assert isinstance(granted, Granted)
    await redis.store.put_blob(run_id, RESULT_BLOB, "result")
    names = await redis.keys_of(run_id)
    assert len(names) == 5
    for name in names:
        await redis.redis.pexpire(name, 60_000)
    await redis.store.renew([granted.lease])
    for name in names:
        assert 60_000 < await redis.redis.pttl(name) <= TIMING.live_ttl_s * 1000


@pytest.mark.requirement("RUN-11")
async def test_a_new_owner_gives_every_key_of_the_run_its_full_life_again(redis: RedisWorld) -> None:
    run_id = redis.new_run_id()
    await redis.store.submit(run_id, queued(request_blob=REQUEST_BLOB), "large")
    await redis.store.signal(run_id, "cancel", {}, "1")
    names = await redis.keys_of(run_id)
    assert len(names) == 4
    for name in names:
        await redis.redis.pexpire(name, 60_000)
    await redis.store.acquire(run_id, "ann", "")
    for name in names:
        assert 60_000 < await redis.redis.pttl(name) <= TIMING.live_ttl_s * 1000


@pytest.mark.requirement("RUN-11")
async def test_every_key_of_an_announced_run_ends_with_its_retention(redis: RedisWorld) -> None:
    run_id = redis.new_run_id()
    await redis.store.submit(run_id, queued(request_blob=REQUEST_BLOB), "large")
    await redis.store.signal(run_id, "cancel", {}, "1")
    await redis.store.acquire(run_id, "ann", "")
    await redis.store.put_blob(run_id, RESULT_BLOB, "result")
    await redis.store.append(Lease(run_id, 1, "ann"), 1, [Said(text="end")], terminal="completed")
    await redis.store.announced(run_id)
    await redis.store.signal(run_id, "late", {}, "2")
    names = await redis.keys_of(run_id)
    assert len(names) == 5
    for name in names:
        assert 0 < await redis.redis.pttl(name) <= TIMING.retention_s * 1000


@pytest.mark.requirement("RUN-11")
async def test_the_due_index_forgets_a_run_whose_keys_are_gone(redis: RedisWorld) -> None:
    run_id = await given_run(redis)
    await redis.redis.delete(*await redis.keys_of(run_id))
    await redis.pass_time(TIMING.lost_message_s)
    assert await claims(redis.store, run_id) == []
    assert await redis.next_look(run_id) is None


@pytest.mark.requirement("RUN-04")
async def test_a_lease_ends_by_redis_own_clock(redis: RedisWorld) -> None:
    store, run_id = redis.store_with(SHORT), await given_run(redis)
    assert await store.acquire(run_id, "ann", "") == Granted(Lease(run_id, 1, "ann"), seq=1)

    async def taken_over() -> bool:
        return await store.acquire(run_id, "bob", "") == Granted(Lease(run_id, 2, "bob"), seq=1, deaths=1)

    await eventually_async(taken_over)
    assert await redis.store_with(TIMING).renew([Lease(run_id, 2, "bob")]) == set()
    assert await store.acquire(run_id, "cat", "") == Held("bob")


@pytest.mark.requirement("RUN-04", "RUN-17")
async def test_a_dead_owner_s_run_is_claimed_by_redis_own_clock_again_and_again_until_it_is_taken(
    redis: RedisWorld,
) -> None:
    store, run_id = redis.store_with(SHORT), await given_run(redis)
    assert isinstance(await store.acquire(run_id, "ann", ""), Granted)

    async def claimed() -> bool:
        return bool(await claims(store, run_id))

    for _ in range(3):
        await eventually_async(claimed)
    assert isinstance(await store.acquire(run_id, "bob", ""), Granted)
    await redis.store.renew([Lease(run_id, 2, "bob")])
    assert await claims(store, run_id) == []


async def test_forgotten_scripts_are_loaded_again(redis: RedisWorld) -> None:
    run_id = redis.new_run_id()
    forget = redis.redis.script_flush
    await forget()
    assert await redis.store.submit(run_id, queued(), None) == "created"
    await forget()
    assert await redis.store.acquire(run_id, "ann", "sig") == Granted(Lease(run_id, 1, "ann"), seq=1)
    await forget()
    assert await redis.store.append(Lease(run_id, 1, "ann"), 1, [Said(text="x")]) == 2
    await forget()
    assert await redis.store.renew([Lease(run_id, 1, "ann")]) == set()
    await forget()
    assert await redis.store.signal(run_id, "cancel", {}, "1") == "sent"
    await forget()
    await redis.store.release(Lease(run_id, 1, "ann"))
    await redis.pass_time(TIMING.lease_s)
    await forget()
    assert len(await claims(redis.store, run_id)) == 1
    await forget()
    await redis.store.announced(run_id)


async def test_what_was_done_before_a_script_was_found_forgotten_is_not_done_again(redis: RedisWorld) -> None:
    due, other = await given_run(redis), await given_run(redis)
    await redis.pass_time(TIMING.lost_message_s)
    await redis.redis.script_flush()
    await redis.redis.script_load(CLAIM)
    calls = [redis.store._claim(due), signal_call(other, "cancel", {}, "1", ttl_s=60)]
    assert await run_all(redis.redis, calls) == [[b"claimed", b"", b"", b"fireworks.chat", b""], b"woken"]


@pytest.mark.requirement("RUN-17")
async def test_two_processes_on_connections_of_their_own_share_the_due_runs(redis: RedisWorld) -> None:
    mine = [await given_run(redis) for _ in range(30)]
    await redis.pass_time(TIMING.lost_message_s)
    stores = [redis.store_with(TIMING) for _ in range(4)]
    rounds = await asyncio.gather(*(claims(store, *mine) for store in stores))
    assert sorted(claimed.run_id for found in rounds for claimed in found) == sorted(mine)
