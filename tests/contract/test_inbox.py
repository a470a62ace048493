"""The inbox reader on a real Valkey: prompt, deaf to nobody, and not to be stopped by what it reads."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import redis
from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.scripts import signal_call
from api_contracts.keys import new_run_id
from tests.contract.run_store.worlds import queued
from tests.servers import kill
from tests.waiting import eventually_async
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.reader import StreamReader
from workers.adapters.redis.scripts import run
from workers.adapters.redis.store import RedisRuns
from workers.adapters.redis.streams import RedisInbox
from workers.cli.embedded import EmbeddedValkey
from workers.ports import Letter
from workers.settings import Timing

# A read that blocks for longer than any test waits: whoever relies on its end fails.
FOR_EVER_MS = 120_000
TTL_S = 900


@dataclass
class Office:
    """A reader, and the means to write to inboxes as anyone might."""

    redis: Redis
    reader: RedisInbox
    store: RedisRuns

    async def given_runs(self, count: int) -> list[str]:
        run_ids = [new_run_id() for _ in range(count)]
        for run_id in run_ids:
            await self.store.submit(run_id, queued(), None)
        return run_ids

    async def send(self, run_id: str, kind: str) -> None:
        assert await run(self.redis, signal_call(run_id, kind, {}, kind, ttl_s=TTL_S)) in (b"sent", b"woken")

    async def blocked(self) -> None:
        """Return once the reader waits for Redis."""

        async def blocked() -> bool:
            return bool((await self.redis.info("clients"))["blocked_clients"])

        await eventually_async(blocked)


@pytest.fixture
async def office(own_valkey: EmbeddedValkey) -> AsyncIterator[Office]:
    """A started reader whose reads do not end by themselves."""
    other, blocking = connect(own_valkey.url), connect(own_valkey.url, timeout_s=2 * FOR_EVER_MS / 1000)
    clock = SystemClock()
    reader = StreamReader(blocking, other, clock, block_ms=FOR_EVER_MS)
    reader.start()
    yield Office(other, RedisInbox(reader, other), RedisRuns(other, clock, Timing(live_ttl_s=TTL_S)))
    await reader.close()
    await blocking.aclose()
    await other.aclose()


class Letters(list[Letter]):
    """What was delivered so far."""

    async def until(self, count: int) -> list[str]:
        """Return the types of all letters once there are at least `count`."""

        async def enough() -> bool:
            return len(self) >= count

        await eventually_async(enough)
        return [letter.type for letter in self]


@pytest.mark.requirement("RUN-06")
async def test_a_letter_ends_the_read_that_waits_for_it(office: Office) -> None:
    (run_id,) = await office.given_runs(1)
    letters = Letters()
    office.reader.watch(run_id, "0", letters.append)
    await office.blocked()
    await office.send(run_id, "cancel")
    assert await letters.until(1) == ["cancel"]


@pytest.mark.requirement("RUN-06")
async def test_a_run_that_joins_while_the_reader_waits_does_not_have_to_wait_for_the_others(office: Office) -> None:
    quiet, *others = await office.given_runs(31)
    office.reader.watch(quiet, "0", Letters().append)
    for run_id in others:
        await office.send(run_id, "cancel")
        await office.blocked()
        letters = Letters()
        office.reader.watch(run_id, "0", letters.append)
        assert await letters.until(1) == ["cancel"]


async def test_a_run_that_joins_just_as_the_reader_begins_to_wait_is_not_left_out(office: Office) -> None:
    run_ids = await office.given_runs(100)
    for run_id in run_ids:
        await office.send(run_id, "cancel")
    arrived = asyncio.Event()
    for run_id in run_ids:
        arrived.clear()
        office.reader.watch(run_id, "0", lambda _: arrived.set())
        async with asyncio.timeout(10):
            await arrived.wait()


async def test_many_runs_that_join_at_once_are_all_served(office: Office) -> None:
    first, *run_ids = await office.given_runs(301)
    office.reader.watch(first, "0", Letters().append)
    await office.blocked()
    boxes = {run_id: Letters() for run_id in run_ids}
    for run_id, letters in boxes.items():
        office.reader.watch(run_id, "0", letters.append)
    for run_id in run_ids:
        await office.send(run_id, f"for {run_id}")
    for run_id, letters in boxes.items():
        assert await letters.until(1) == [f"for {run_id}"]


async def test_entries_that_make_no_sense_are_passed_over(office: Office) -> None:
    (run_id,) = await office.given_runs(1)
    letters = Letters()
    office.reader.watch(run_id, "0", letters.append)
    for fields in (
        {"data": "{}"},
        {"type": "a", "data": "{"},
        {"type": "b", "data": "[1]"},
        {"type": "c", "data": "null"},
        {"type": b"\xff", "data": "{}"},
        {"type": "d", "data": b'{"x": "\xff"}'},
        {"type": "e", "data": "[" * 100_000},
        {"type": "f", "data": '{"x": ' + "9" * 5000 + "}"},
        {"anything": "else"},
    ):
        await office.redis.xadd(keys.inbox(run_id), fields)  # type: ignore[arg-type]
    await office.redis.xadd(keys.inbox(run_id), {"type": "good", "data": '{"x": 1}', "more": "ignored"})
    await office.redis.xadd(keys.inbox(run_id), {"type": "without data"})
    await office.redis.expire(keys.inbox(run_id), TTL_S)
    assert await letters.until(2) == ["good", "without data"]
    assert [letter.data for letter in letters] == [{"x": 1}, {}]


async def test_a_run_that_fails_to_take_its_letter_does_not_deafen_the_others(office: Office) -> None:
    bad, good = await office.given_runs(2)
    letters = Letters()

    def fail(letter: Letter) -> None:
        letters.append(letter)
        raise RuntimeError("the run's own fault")

    office.reader.watch(bad, "0", fail)
    office.reader.watch(good, "0", letters.append)
    await office.send(bad, "one")
    await letters.until(1)
    await office.send(good, "two")
    await letters.until(2)
    await office.send(bad, "three")
    assert await letters.until(3) == ["one", "two", "three"]


async def test_a_key_that_is_no_stream_does_not_deafen_the_other_runs(office: Office) -> None:
    bad, good = await office.given_runs(2)
    letters = Letters()
    await office.redis.set(keys.inbox(bad), "not a stream", ex=TTL_S)
    office.reader.watch(bad, "0", Letters().append)
    office.reader.watch(good, "0", letters.append)
    await office.send(good, "cancel")
    assert await letters.until(1) == ["cancel"]


async def test_a_new_watch_of_a_run_reads_from_its_own_id_though_a_read_of_the_old_one_is_under_way(
    office: Office, own_valkey: EmbeddedValkey
) -> None:
    (run_id,) = await office.given_runs(1)
    first, second = Letters(), Letters()
    stop = office.reader.watch(run_id, "0", first.append)
    await office.send(run_id, "one")
    await first.until(1)
    await office.blocked()
    with redis.Redis.from_url(own_valkey.url) as other:  # the loop stands still: the reader has not seen the reply
        other.xadd(keys.inbox(run_id), {"type": "two", "data": "{}"})
    stop()
    office.reader.watch(run_id, "0", second.append)
    assert await second.until(2) == ["one", "two"]
    assert len(first) == 1


@pytest.mark.requirement("RUN-21")
async def test_letters_from_before_and_after_an_outage_come_once_and_in_order(
    office: Office, own_valkey: EmbeddedValkey
) -> None:
    run_id, other = await office.given_runs(2)
    letters, others = Letters(), Letters()
    office.reader.watch(run_id, "0", letters.append)
    await office.send(run_id, "one")
    await letters.until(1)
    await office.redis.config_set("appendfsync", "always")
    await office.send(other, "unheard")
    await office.send(run_id, "two")
    kill(own_valkey)
    own_valkey.restart()
    await office.redis.connection_pool.disconnect()
    office.reader.watch(other, "0", others.append)
    await office.send(run_id, "three")
    assert await letters.until(3) == ["one", "two", "three"]
    assert await others.until(1) == ["unheard"]


async def test_a_reader_without_runs_asks_nothing(office: Office) -> None:
    (run_id,) = await office.given_runs(1)
    letters = Letters()
    await office.send(run_id, "one")
    stop = office.reader.watch(run_id, "0", letters.append)
    await letters.until(1)
    await office.blocked()
    stop()
    await office.send(run_id, "two")  # ends the last read

    async def nobody_is_blocked() -> bool:
        return not (await office.redis.info("clients"))["blocked_clients"]

    await eventually_async(nobody_is_blocked)
    assert len(letters) == 1
