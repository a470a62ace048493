"""What strangers write into the keys of runs: any Redis client can. One run fails at most, and no other notices."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from api_contracts import keys
from api_contracts.client.submission import Cursor, ours_in
from api_contracts.names import CHAT_QUEUE, QUEUES
from api_contracts.runs import Event
from tests.contract.run_store.worlds import (
    MemoryWorld,
    RedisWorld,
    Said,
    World,
    claims,
    given_held_run,
    given_run,
    queued,
    said,
)
from workers.ports import Finished, Granted, KeysDamaged, Lease, LeaseLost, RunStore
from workers.ports.register import Wanted

pytestmark = pytest.mark.requirement("RUN-20")

Step = Callable[[RunStore, Lease], Awaitable[Any]]

FORGED = {"seq": "3", "type": "run.completed", "at": "1", "epoch": "9", "data": "{}"}
JUNK: list[tuple[str, dict[str, Any]]] = [
    ("*", {"hello": "world"}),
    ("*", FORGED),
    ("3-0", {"seq": "3"}),
    ("3-0", {**FORGED, "data": "{"}),
    ("3-0", {**FORGED, "data": "[]"}),
    ("3-0", {**FORGED, "seq": "7"}),
    ("3-0", {**FORGED, "seq": "-3"}),
    ("3-0", {**FORGED, "seq": "9" * 5000}),
    ("3-0", {**FORGED, "data": "[" * 100_000}),
    ("3-0", {**FORGED, "type": b"\xff\xfe"}),
    ("3-0", {**FORGED, "data": '{"x": "' + "x" * 2**21 + '"'}),
    ("2-1", {"between": "two"}),
    ("9-0", {"far": "away"}),
]


WAYS: dict[str, list[tuple[str, ...]]] = {
    "status": [("HSET", "{lease}", "status", "banana")],
    "epoch": [("HSET", "{lease}", "epoch", "one")],
    "seq": [("HSET", "{lease}", "seq", "-1e9")],
    "no seq": [("HDEL", "{lease}", "seq")],
    "no lease": [("DEL", "{lease}"), ("HSET", "{lease}", "owner", "me")],
    "list": [("DEL", "{lease}"), ("RPUSH", "{lease}", "me")],
    "string": [("SET", "{lease}", "me", "EX", "900")],
}


async def spoil(world: World, run_id: str, how: str) -> None:
    """Damage what is kept of a run, in one of the ways of `WAYS`."""
    if isinstance(world, MemoryWorld):
        world.store.damage(run_id, keep=1)
        return
    assert isinstance(world, RedisWorld)
    lease, events = keys.lease(run_id), keys.events(run_id)
    for command in WAYS[how]:
        await world.redis.execute_command(*(part.format(lease=lease, events=events) for part in command))


@pytest.mark.parametrize("how", WAYS)
async def test_a_run_whose_lease_is_damaged_is_said_to_be_and_can_be_ended_once_mended(world: World, how: str) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.append(granted.lease, 1, [Said(text="before")])
    await spoil(world, run_id, how)
    with pytest.raises(KeysDamaged):
        await world.store.acquire(run_id, "bob", "")
    await world.store.mend(run_id)
    assert [each.run_id for each in await claims(world.store, run_id)] == [run_id]
    again = await world.store.acquire(run_id, "bob", "")
    assert isinstance(again, Granted)
    assert again.damaged
    assert again.lease.epoch > granted.lease.epoch
    with pytest.raises(LeaseLost):
        await world.store.append(granted.lease, 2, [Said(text="zombie")])
    last = await world.store.append(again.lease, again.seq, [Said(text="end")], terminal="failed")
    assert (await said(world, run_id))[-1] == "end"
    assert await world.store.acquire(run_id, "cat", "") == Finished("failed", announced=False)
    assert last == again.seq + 1
    await world.store.announced(run_id)
    assert await world.store.acquire(run_id, "cat", "") == Finished("failed", announced=True)


async def test_no_strangers_word_comes_with_a_lease(redis: RedisWorld) -> None:
    found = []
    for command in (("XADD", "2-0", "seq", "2"), ("DEL",), ("SET", "mine")):
        run_id = await given_run(redis)
        if command[0] != "XADD":
            await redis.redis.delete(keys.events(run_id))
        await redis.redis.execute_command(command[0], keys.events(run_id), *command[1:])
        found.append(await redis.store.acquire(run_id, "ann", ""))
    assert [(type(each), getattr(each, "first", "")) for each in found] == [(Granted, None)] * 3


async def test_a_journal_that_is_no_stream_any_more_is_damage_too(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis)
    await redis.redis.set(keys.events(run_id), "mine", ex=900)
    with pytest.raises(KeysDamaged):
        await redis.store.append(granted.lease, 1, [Said(text="lost")])
    await ended_after_mending(redis, run_id)


async def test_an_inbox_that_is_no_stream_any_more_is_damage_too(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis)
    await redis.redis.sadd(keys.inbox(run_id), "mine")
    with pytest.raises(KeysDamaged):
        await redis.store.park(granted.lease, "0", None)
    await ended_after_mending(redis, run_id)


async def ended_after_mending(redis: RedisWorld, run_id: str) -> None:
    await redis.store.mend(run_id)
    again = await redis.store.acquire(run_id, "bob", "")
    assert isinstance(again, Granted)
    assert again.damaged
    assert await redis.store.append(again.lease, again.seq, [Said(text="end")], terminal="failed") == again.seq + 1


async def test_mending_a_run_in_order_changes_nothing(world: World) -> None:
    run_id, granted = await given_held_run(world)
    await world.store.mend(run_id)
    assert await world.store.append(granted.lease, 1, [Said(text="goes on")]) == 2
    assert await world.store.renew([granted.lease]) == set()


async def test_a_mended_run_that_had_ended_is_over(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis)
    await redis.store.append(granted.lease, 1, [_Ended()], terminal="completed")
    await redis.redis.hset(keys.lease(run_id), "status", "banana")
    await redis.store.mend(run_id)
    assert await redis.store.acquire(run_id, "bob", "") == Finished("completed", announced=False)
    assert [event.type for event in await redis.store.read(run_id)] == ["run.queued", "run.completed"]


class _Ended(Said):
    TYPE = "run.completed"
    text: str = ""


@pytest.mark.parametrize("until", ["soon", "", "-", "nan"])
async def test_a_lease_that_ends_at_no_time_has_ended(redis: RedisWorld, until: str) -> None:
    run_id, granted = await given_held_run(redis)
    await redis.redis.hset(keys.lease(run_id), mapping={"until": until, "deaths": "many", "looks": "few"})
    assert await redis.store.renew([granted.lease]) == set()
    await redis.redis.hset(keys.lease(run_id), "until", until)
    assert await redis.store.signal(run_id, "cancel", {}, "") == "woken"
    await redis.look_now(run_id)
    assert len(await claims(redis.store, run_id)) == 1
    assert isinstance(await redis.store.acquire(run_id, "bob", ""), Granted)


@pytest.mark.parametrize(("entry_id", "fields"), JUNK, ids=range(len(JUNK)))
async def test_a_journal_is_read_without_what_strangers_wrote_and_goes_on_past_it(
    redis: RedisWorld, entry_id: str, fields: dict[str, Any]
) -> None:
    run_id, granted = await given_held_run(redis)
    await redis.store.append(granted.lease, 1, [Said(text="one")])
    await redis.redis.xadd(keys.events(run_id), fields, entry_id)
    assert await said(redis, run_id) == ["one"]
    await redis.store.append(granted.lease, 2, [Said(text="two"), Said(text="three")])
    assert await said(redis, run_id) == ["one", "two", "three"]
    assert await redis.redis.pttl(keys.events(run_id)) > 0


async def test_more_strangers_than_a_page_end_no_reading(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis)
    pipe = redis.redis.pipeline()
    for number in range(2100):
        pipe.xadd(keys.events(run_id), {"n": number}, f"1-{number + 1}")
    await pipe.execute()
    await redis.store.append(granted.lease, 1, [Said(text="one")])
    assert await said(redis, run_id) == ["one"]


async def test_a_follower_passes_strangers_over_and_sees_each_event_once(redis: RedisWorld) -> None:
    run_id, granted = await given_held_run(redis)
    cursor, seen = Cursor(run_id, 0), list[Event]()

    async def look() -> None:
        seen.extend(cursor.take(await redis.redis.xread(cursor.position, count=2)))

    await redis.redis.xadd(keys.events(run_id), {"n": 1}, "1-7")
    await redis.store.append(granted.lease, 1, [Said(text="one")])
    await redis.redis.xadd(keys.events(run_id), {"n": 1}, "*")
    for _ in range(4):
        await look()
    assert cursor.stuck
    await redis.store.append(granted.lease, 2, [Said(text="two")])
    await look()
    assert not cursor.stuck
    assert [event.seq for event in seen] == [1, 2, 3]
    assert ours_in(await redis.redis.xrange(keys.events(run_id))) == seen


async def test_a_stream_that_was_there_before_the_run_has_the_submit_refused(redis: RedisWorld) -> None:
    run_id = redis.new_run_id()
    await redis.redis.xadd(keys.events(run_id), {"mine": 1})
    with pytest.raises(KeysDamaged):
        await redis.store.submit(run_id, queued(), None)
    await redis.store.mend(run_id)
    assert await redis.store.submit(run_id, queued(), None) == "exists"
    found = await redis.store.acquire(run_id, "ann", "")
    assert isinstance(found, Granted)
    assert found.damaged
    assert found.seq == 0


STRANGERS = ("x}:lease", "{", "}", "", "\n", "a\x00b", "nobody-submitted-it-a", "ä", "b" * 100_000)


async def test_strangers_in_the_indexes_hide_no_run_and_are_taken_out(redis: RedisWorld) -> None:
    run_id = redis.new_run_id("a")
    await redis.store.submit(run_id, queued(), None)
    await redis.look_now(run_id)
    members = dict.fromkeys((*STRANGERS, b"\xff\xfea"), -1)
    indexes = [keys.due("a"), *(keys.waiting("a", queue) for queue in QUEUES)]
    for index in indexes:
        await redis.redis.zadd(index, members)
        await redis.redis.pexpire(index, 900_000)
    assert [each.run_id for each in await claims(redis.store, run_id)] == [run_id]
    for _ in range(3):
        waiting = await redis.queues.waiting()
    assert waiting[CHAT_QUEUE].runs >= 1
    for index in indexes:
        assert set(await redis.redis.zrange(index, 0, -1)) & {name.encode() for name in STRANGERS} == set(), index
    assert await redis.redis.keys("fw:{}}:*") == []
    assert run_id in [line.run_id for line in (await redis.register.live(Wanted(), 1000, 10_000)).lines]


async def test_an_index_that_is_none_any_more_stops_no_sweep_and_is_made_anew(redis: RedisWorld) -> None:
    spoilt, other = redis.new_run_id("b"), redis.new_run_id("c")
    for run_id in (spoilt, other):
        await redis.store.submit(run_id, queued(), None)
    held = await redis.store.acquire(spoilt, "ann", "")
    assert isinstance(held, Granted)
    await redis.redis.set(keys.due("b"), "mine")
    await redis.redis.set(keys.waiting("b", CHAT_QUEUE), "mine")
    await redis.look_now(other)
    assert (await redis.register.live(Wanted(), 1000, 10_000)).lines
    assert [each.run_id for each in await claims(redis.store, other)] == [other]
    assert (await redis.queues.waiting())[CHAT_QUEUE].runs >= 1
    assert await redis.store.renew([held.lease]) == set()
    assert await redis.next_look(spoilt) is not None


STEPS: dict[str, Step] = {
    "renewed": lambda store, lease: store.renew([lease]),
    "ended": lambda store, lease: store.append(lease, 1, [_Ended()], terminal="completed"),
    "released": lambda store, lease: store.release(lease),
    "parked": lambda store, lease: store.park(lease, "0-0", None),
}


@pytest.mark.parametrize("how", STEPS)
async def test_a_run_that_takes_a_step_is_found_in_an_index_that_was_none_any_more(redis: RedisWorld, how: str) -> None:
    """Else a script that fails half way leaves a run with an end, or an owner, and nobody who would look for it."""
    _, held = await given_held_run(redis)
    await redis.redis.set(keys.due(held.lease.run_id[-1]), "mine", px=900_000)
    await STEPS[how](redis.store, held.lease)
    assert await redis.next_look(held.lease.run_id) is not None


@pytest.mark.parametrize("spoilt", ["due", "waiting"])
async def test_a_run_is_submitted_and_taken_whatever_the_indexes_have_become(redis: RedisWorld, spoilt: str) -> None:
    run_id = redis.new_run_id("d")
    index = keys.due("d") if spoilt == "due" else keys.waiting("d", CHAT_QUEUE)
    await redis.redis.set(index, "mine", px=900_000)
    assert await redis.store.submit(run_id, queued(), None) == "created"
    assert await redis.next_look(run_id) is not None
    await redis.redis.set(index, "mine", px=900_000)
    assert isinstance(await redis.store.acquire(run_id, "ann", ""), Granted)
    assert await redis.next_look(run_id) is not None


async def test_one_damaged_run_takes_no_other_along(redis: RedisWorld) -> None:
    """One process renews and claims many together."""
    (spoilt, lost), (other, kept) = await given_held_run(redis), await given_held_run(redis)
    await spoil(redis, spoilt, "string")
    assert await redis.store.renew([lost.lease, kept.lease]) == {lost.lease}
    assert await redis.store.append(kept.lease, 1, [Said(text="on")]) == 2
    for run_id in (spoilt, other):
        await redis.look_now(run_id)
    assert [each.run_id for each in await claims(redis.store, spoilt, other)] == [spoilt]
    with pytest.raises(KeysDamaged):
        await redis.store.signal(spoilt, "cancel", {}, "")
    with pytest.raises(KeysDamaged):
        await redis.store.append(lost.lease, 1, [Said(text="lost")])
    assert await redis.register.standing(spoilt) is None
    assert await redis.register.reopened([spoilt, other]) == {other}


async def test_a_lease_hash_without_a_journal_is_no_reason_to_fall(redis: RedisWorld) -> None:
    run_id = await given_run(redis)
    await redis.redis.hset(keys.lease(run_id), mapping={"owner": b"\xff", "until": 10**15})
    assert (await redis.register.standing(run_id)) is not None
    await redis.redis.hset(keys.lease(run_id), "until", 0)
    found = await redis.store.acquire(run_id, "ann", "")
    assert isinstance(found, Granted)
    assert found.lease == Lease(run_id, 1, "ann")
