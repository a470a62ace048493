"""A line to Redis that is reset costs nothing, on asyncio's loop and on the one that workers run on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api_contracts.client.connections import Command, Pool
from api_contracts.client.scripts import signal_call
from tests.contract.run_store.worlds import Said
from tests.contract.test_appender import TIMING, given_held_runs, held, said
from tests.faults.proxy import FaultProxy
from tests.waiting import eventually_async
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect, converse
from workers.adapters.redis.reader import StreamReader
from workers.adapters.redis.scripts import run
from workers.adapters.redis.store import RedisRuns
from workers.adapters.redis.streams import RedisInbox
from workers.cli.embedded import EmbeddedValkey

Playing = Callable[["Line"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Line:
    """A server, and what resets whoever is connected to it."""

    proxy: FaultProxy
    redis: Redis
    store: RedisRuns

    async def reset(self) -> None:
        """Return when every client that does not speak has been told."""
        connections = list(self.redis.connection_pool._get_free_connections())
        self.proxy.reset()

        async def told() -> bool:
            return all(each._writer is None or each._writer.is_closing() for each in connections)

        await eventually_async(told)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, own_valkey: EmbeddedValkey) -> Callable[[Playing], None]:
    """Play it on this loop, on a store behind the proxy."""

    def playing(what: Playing) -> None:
        async def played() -> None:
            async with _line(own_valkey.url) as line:
                await what(line)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(played(), 60))

    return playing


@asynccontextmanager
async def _line(url: str) -> AsyncIterator[Line]:
    with FaultProxy(url) as proxy:
        redis = connect(proxy.url)
        store = RedisRuns(redis, SystemClock(), TIMING)
        store.start()
        yield Line(proxy, redis, store)
        await store.close()
        await redis.aclose()


def test_a_command_on_a_line_that_was_reset_says_that_the_connection_is_gone(play: Callable[[Playing], None]) -> None:
    async def playing(line: Line) -> None:
        connection = await line.redis.connection_pool.get_connection()
        line.proxy.reset()

        async def told() -> bool:
            return bool(connection._writer is None or connection._writer.is_closing())

        await eventually_async(told)
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        await line.redis.connection_pool.release(connection)
        assert await line.redis.ping()

    play(playing)


def test_connections_that_were_reset_in_the_pool_cost_no_command(play: Callable[[Playing], None]) -> None:
    async def playing(line: Line) -> None:
        await asyncio.gather(*(line.redis.ping() for _ in range(8)))
        await line.reset()
        assert all(await asyncio.gather(*(line.redis.ping() for _ in range(8))))

    play(playing)


@pytest.mark.requirement("RUN-21")
def test_appends_land_once_and_in_order_however_often_the_line_is_reset(play: Callable[[Playing], None]) -> None:
    async def playing(line: Line) -> None:
        acknowledged = dict.fromkeys(await given_held_runs(line.store, 8), 0)
        over = asyncio.Event()

        async def write(run_id: str) -> None:
            while not over.is_set():
                count = acknowledged[run_id]
                await line.store.append(held(run_id), 2 + count, [Said(text=str(count))])
                acknowledged[run_id] += 1

        writers = [asyncio.create_task(write(run_id)) for run_id in acknowledged]
        for goal in range(20, 200, 20):

            async def reached() -> bool:
                return min(acknowledged.values()) >= goal  # noqa: B023 - awaited within the round

            await eventually_async(reached)
            line.proxy.reset()
        over.set()
        await asyncio.gather(*writers)
        for run_id, count in acknowledged.items():
            assert await said(line.store, run_id) == [str(number) for number in range(count)]

    play(playing)


@pytest.mark.requirement("RUN-21")
def test_letters_come_once_and_in_order_however_often_the_line_is_reset(play: Callable[[Playing], None]) -> None:
    async def playing(line: Line) -> None:
        (run_id,) = await given_held_runs(line.store, 1)
        reading, got = connect(line.proxy.url, max_connections=1), list[str]()
        reader = StreamReader(reading, line.redis, SystemClock(), block_ms=200)
        reader.start()
        RedisInbox(reader, line.redis).watch(run_id, "0", lambda letter: got.append(letter.type))
        for number in range(5):
            await line.reset()
            await run(line.redis, signal_call(run_id, f"{number}", {}, f"{number}", ttl_s=900))

            async def here() -> bool:
                return len(got) > number  # noqa: B023 - awaited within the round

            await eventually_async(here)
        assert got == ["0", "1", "2", "3", "4"]
        await reader.close()
        await reading.aclose()

    play(playing)


async def test_a_conversation_that_was_given_up_leaves_no_reply_to_the_next(own_valkey: EmbeddedValkey) -> None:
    redis, other = connect(own_valkey.url, max_connections=1), connect(own_valkey.url)

    async def is_waiting() -> bool:
        return bool((await other.info("clients"))["blocked_clients"])

    waiting = asyncio.create_task(converse(redis, [("ECHO", "theirs"), ("BLPOP", "nothing", 0)]))
    await eventually_async(is_waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await converse(redis, [("ECHO", "ours"), ("ECHO", "ö")]) == [b"ours", "ö".encode()]
    await redis.aclose()
    await other.aclose()


async def test_a_command_that_was_given_up_half_said_is_not_said_to_its_end(own_valkey: EmbeddedValkey) -> None:
    with FaultProxy(own_valkey.url) as proxy:
        redis = connect(proxy.url, max_connections=1, timeout_s=0.5)
        assert await redis.ping()
        proxy.hold()
        with pytest.raises(RedisTimeoutError):
            await converse(redis, [("ECHO", b"x" * 50_000_000)])
        proxy.heal()
        assert await converse(redis, [("ECHO", "ours")]) == [b"ours"]
        await redis.aclose()


async def test_a_conversation_has_a_time_limit_and_its_late_reply_goes_to_nobody(own_valkey: EmbeddedValkey) -> None:
    redis = connect(own_valkey.url, max_connections=1, timeout_s=0.2)
    with pytest.raises(RedisTimeoutError):
        await converse(redis, [("BLPOP", "nothing", 1)])
    refused, echoed = await converse(redis, [("GET", "too", "many"), ("ECHO", "ours")])
    assert isinstance(refused, ResponseError)
    assert echoed == b"ours"
    await redis.aclose()


class Moody(Redis):
    """Raises what nobody foresees, before or after the work is done."""

    moods: list[str]

    def grow_moody(self) -> None:
        """Have the pipelines of this client be moody, too."""
        pool = cast("Pool", self.connection_pool)
        send = pool.converse

        async def unwilling(commands: Sequence[Command]) -> list[Any]:
            mood = self.moods.pop(0) if self.moods else "good"
            if mood == "before":
                raise KeyError("nobody foresaw it")
            replies = await send(commands)
            if mood == "after":
                raise KeyError("nobody foresaw it")
            return replies if mood == "good" else [None for _ in replies]

        pool.converse = unwilling  # type: ignore[method-assign]

    async def xread(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        if self.moods and self.moods.pop(0) == "before":
            raise KeyError("nobody foresaw it")
        return await super().xread(*args, **kwargs)


def moody(url: str, **options: Any) -> Moody:
    redis = Moody.from_pool(connect(url, **options).connection_pool)
    redis.moods = []
    redis.grow_moody()
    return redis


async def test_the_appender_survives_what_nobody_foresaw(own_valkey: EmbeddedValkey) -> None:
    redis = moody(own_valkey.url)
    store = RedisRuns(redis, SystemClock(), TIMING)
    store.start()
    first, second = await given_held_runs(store, 2)
    redis.moods += ["before", "after", "before"]
    async with asyncio.timeout(30):  # a dead appender would have us wait for ever
        appends = [store.append(held(run_id), 2, [Said(text="x")]) for run_id in (first, second)]
        assert await asyncio.gather(*appends) == [3, 3]
        redis.moods += ["no replies that make sense"]
        with pytest.raises(TypeError):
            await store.append(held(first), 3, [Said(text="y")])
        assert await store.append(held(first), 3, [Said(text="y")]) == 4
    assert [await said(store, run_id) for run_id in (first, second)] == [["x", "y"], ["x"]]
    await store.close()
    await redis.aclose()


async def test_the_reader_survives_what_nobody_foresaw(own_valkey: EmbeddedValkey) -> None:
    redis, reading, got = connect(own_valkey.url), moody(own_valkey.url, max_connections=1), list[str]()
    store, reader = RedisRuns(redis, SystemClock(), TIMING), StreamReader(reading, redis, SystemClock(), block_ms=200)
    store.start()
    reader.start()
    (run_id,) = await given_held_runs(store, 1)
    reading.moods += ["before"]
    RedisInbox(reader, redis).watch(run_id, "0", lambda letter: got.append(letter.type))
    await run(redis, signal_call(run_id, "cancel", {}, "1", ttl_s=900))

    async def here() -> bool:
        return got == ["cancel"]

    await eventually_async(here)
    assert reading.moods == []
    for part in (reader, store):
        await part.close()
    for client in (reading, redis):
        await client.aclose()
