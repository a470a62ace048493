"""The port `AudioStreams`, in memory and on Redis: what was spoken comes in order and once."""

import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Protocol

import pytest

from api_contracts import keys
from api_contracts.keys import new_run_id
from tests.contract.run_store.worlds import RedisWorld, redis_world
from tests.servers import given_redis, kill
from tests.waiting import eventually_async
from workers.adapters.clock import SystemClock
from workers.adapters.memory.audio import MemoryAudio
from workers.adapters.redis.connection import connect
from workers.adapters.redis.gone import Look, Place
from workers.adapters.redis.reader import StreamReader
from workers.adapters.redis.streams import RedisAudio, lag_of
from workers.cli.embedded import EmbeddedValkey
from workers.ports import AudioEntry, AudioStreams, StoreUnavailable

SERVERS = ("valkey", *(("given",) if given_redis(os.environ) else ()))
TTL_S = 300
END = {"type": "end"}


class World(Protocol):
    """One implementation, and a producer who writes to it."""

    @property
    def audio(self) -> AudioStreams: ...

    def new_run_id(self) -> str: ...

    async def add(self, run_id: str, pcm: bytes | None, control: Mapping[str, Any] | None = None) -> str:
        """Append an entry, as a producer does; return its id."""
        ...

    async def burst(self, run_id: str, pieces: Iterable[bytes], most: int) -> list[str]:
        """Append entries while nobody can read, and leave so many in the stream (MAXLEN); return all ids."""
        ...

    async def ids(self, run_id: str) -> list[str]:
        """Return what is there."""
        ...


class MemoryWorld:
    def __init__(self) -> None:
        self.audio = MemoryAudio()

    def new_run_id(self) -> str:
        return new_run_id()

    async def add(self, run_id: str, pcm: bytes | None, control: Mapping[str, Any] | None = None) -> str:
        return self.audio.add(run_id, pcm, control)

    async def burst(self, run_id: str, pieces: Iterable[bytes], most: int) -> list[str]:
        return [self.audio.add(run_id, pcm, most=most) for pcm in pieces]

    async def ids(self, run_id: str) -> list[str]:
        return self.audio.ids(run_id)


class OnRedis:
    def __init__(self, world: RedisWorld) -> None:
        self.world = world
        self.audio = world.audio

    def new_run_id(self) -> str:
        return self.world.new_run_id()

    async def add(self, run_id: str, pcm: bytes | None, control: Mapping[str, Any] | None = None) -> str:
        return await self.write(run_id, {"c": json.dumps(control)} if pcm is None else {"a": pcm})

    async def write(self, run_id: str, fields: Mapping[str, bytes | str]) -> str:
        """Write whatever anyone might."""
        written: bytes = await self.world.redis.xadd(keys.audio(run_id), fields)
        await self.world.redis.expire(keys.audio(run_id), TTL_S)
        return written.decode()

    async def burst(self, run_id: str, pieces: Iterable[bytes], most: int) -> list[str]:
        together = self.world.redis.pipeline(transaction=True)
        for pcm in pieces:
            together.xadd(keys.audio(run_id), {"a": pcm}, maxlen=most, approximate=False)
        together.expire(keys.audio(run_id), TTL_S)
        *written, _ = await together.execute()
        return [each.decode() for each in written]

    async def ids(self, run_id: str) -> list[str]:
        return [entry_id.decode() for entry_id, _ in await self.world.redis.xrange(keys.audio(run_id))]


@pytest.fixture(params=["memory", *SERVERS])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    below = redis_world(request.param, _url(request, request.param))
    yield OnRedis(below)
    await below.close()


@pytest.fixture(params=SERVERS)
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[OnRedis]:
    """A Redis, for what only a Redis can meet."""
    below = redis_world(request.param, _url(request, request.param))
    yield OnRedis(below)
    await below.close()


def _url(request: pytest.FixtureRequest, server: str) -> Callable[[], str | None]:
    return lambda: given_redis(os.environ) if server == "given" else request.getfixturevalue("shared_valkey").url


class Heard(list[AudioEntry]):
    """What was delivered so far."""

    async def until(self, count: int) -> "Heard":
        """Return once there are at least so many."""

        async def enough() -> bool:
            return len(self) >= count

        await eventually_async(enough)
        return self

    @property
    def ids(self) -> list[str]:
        return [entry.id for entry in self]

    @property
    def sound(self) -> bytes:
        return b"".join(entry.pcm or b"" for entry in self)


async def all_read(world: World) -> None:
    """Return when everything that was written until now has been read: a later entry of a later stream has."""
    run_id, heard = world.new_run_id(), Heard()
    stop = world.audio.watch(run_id, "0", heard.append)
    await world.add(run_id, b"last")
    await heard.until(1)
    stop()


async def spoken(world: World, run_id: str, *pieces: bytes) -> list[str]:
    return [await world.add(run_id, pcm) for pcm in pieces]


@pytest.mark.requirement("STT-01")
async def test_audio_and_controls_come_in_the_order_in_which_they_were_written(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    first = await world.add(run_id, b"\x01\x00")
    world.audio.watch(run_id, "0", heard.append)
    second = await world.add(run_id, None, {"type": "flush"})
    third = await world.add(run_id, b"\x02")
    fourth = await world.add(run_id, None, END)
    assert await heard.until(4) == [
        AudioEntry(first, b"\x01\x00", {}),
        AudioEntry(second, None, {"type": "flush"}),
        AudioEntry(third, b"\x02", {}),
        AudioEntry(fourth, None, END),
    ]


async def test_any_bytes_arrive_as_they_are(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    world.audio.watch(run_id, "0", heard.append)
    pieces = [b"", bytes(range(256)), b"\r\n", b"\xff" * 70_000]
    await spoken(world, run_id, *pieces)
    assert [entry.pcm for entry in await heard.until(4)] == pieces


@pytest.mark.requirement("STT-10")
async def test_a_watch_goes_on_after_the_id_that_it_is_given(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    ids = await spoken(world, run_id, b"a", b"b", b"c", b"d")
    world.audio.watch(run_id, ids[1], heard.append)
    assert (await heard.until(2)).ids == ids[2:]
    ids += await spoken(world, run_id, b"e")
    assert (await heard.until(3)).ids == ids[2:]


async def test_more_than_a_page_of_backlog_comes_whole(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    ids = await spoken(world, run_id, *[bytes([n]) for n in range(250)])
    world.audio.watch(run_id, ids[4], heard.append)
    assert (await heard.until(245)).ids == ids[5:]
    assert heard.sound == bytes(range(5, 250))


async def test_sessions_do_not_hear_each_other(world: World) -> None:
    one, two = (world.new_run_id(), Heard()), (world.new_run_id(), Heard())
    for run_id, heard in (one, two):
        world.audio.watch(run_id, "0", heard.append)
    for piece in (b"a", b"b", b"c"):
        await world.add(one[0], piece)
        await world.add(two[0], piece.upper())
    await all_read(world)
    assert (one[1].sound, two[1].sound) == (b"abc", b"ABC")


@pytest.mark.requirement("STT-17")
async def test_trimming_keeps_the_entry_itself_and_all_after_it(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    ids = await spoken(world, run_id, b"a", b"b", b"c", b"d")
    await world.audio.trim(run_id, ids[2])
    assert await world.ids(run_id) == ids[2:]
    world.audio.watch(run_id, "0", heard.append)
    assert (await heard.until(2)).ids == ids[2:]
    await world.audio.trim(run_id, ids[2])
    assert await world.ids(run_id) == ids[2:]


async def test_trimming_before_the_first_or_where_nothing_was_ever_said_drops_nothing(world: World) -> None:
    run_id = world.new_run_id()
    await world.audio.trim(run_id, "5-0")
    ids = await spoken(world, run_id, b"a", b"b")
    await world.audio.trim(run_id, "0")
    assert await world.ids(run_id) == ids


async def test_a_watch_hears_on_while_its_stream_is_trimmed(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    world.audio.watch(run_id, "0", heard.append)
    for n in range(20):
        await world.add(run_id, bytes([n]))
        await world.audio.trim(run_id, (await heard.until(n + 1)).ids[-1])
    assert heard.sound == bytes(range(20))


# -- entries that are gone before they are read ------------------------------------------------------------------------


def missed(heard: Heard) -> list[int | None]:
    return [entry.missed for entry in heard]


@pytest.mark.requirement("STT-15")
@pytest.mark.parametrize("most", [2, 3, 40])
async def test_a_live_watch_is_told_how_many_entries_were_trimmed_ahead_of_it(world: World, most: int) -> None:
    """At its first entries, after it read some, and after it read what followed a gap."""
    run_id, heard = world.new_run_id(), Heard()
    world.audio.watch(run_id, "0", heard.append)
    kept: list[str] = []
    for _ in range(3):
        kept += (await world.burst(run_id, [b"."] * 50, most))[-most:]
        await heard.until(len(kept))
    assert heard.ids == kept
    assert missed(heard) == [50 - most, *[0] * (most - 1)] * 3


@pytest.mark.requirement("STT-15")
async def test_a_bounded_stream_that_is_read_in_time_misses_nothing(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    world.audio.watch(run_id, "0", heard.append)
    for round_number in range(1, 21):
        await world.burst(run_id, [b"1", b"2", b"3"], 3)
        await heard.until(3 * round_number)
    assert heard.sound == b"123" * 20
    assert set(missed(heard)) == {0}


@pytest.mark.requirement("STT-15")
async def test_what_the_worker_itself_let_go_is_not_missed(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    world.audio.watch(run_id, "0", heard.append)
    for count in range(5, 55, 5):
        ids = await world.burst(run_id, [b"."] * 5, 1_000)
        await heard.until(count)
        await world.audio.trim(run_id, ids[-1])
    assert set(missed(heard)) == {0}


@pytest.mark.requirement("STT-10", "STT-15")
@pytest.mark.parametrize("kept", [0, 1])
async def test_a_watch_that_goes_on_where_another_left_off_misses_nothing_and_then_counts(
    world: World, kept: int
) -> None:
    """Also where older entries than the one it goes on from are there still."""
    run_id, heard = world.new_run_id(), Heard()
    ids = await world.burst(run_id, [b"."] * 6, 6)
    await world.audio.trim(run_id, ids[1 - kept])
    world.audio.watch(run_id, ids[1], heard.append)
    assert missed(await heard.until(4)) == [0] * 4
    await world.burst(run_id, [b"."] * 9, 4)
    assert missed(await heard.until(8)) == [0, 0, 0, 0, 5, 0, 0, 0]


@pytest.mark.requirement("STT-10", "STT-15")
@pytest.mark.parametrize("left", [1, 3])
async def test_a_watch_that_goes_on_after_an_entry_that_is_gone_knows_that_and_not_how_much(
    world: World, left: int
) -> None:
    run_id, heard = world.new_run_id(), Heard()
    ids = await world.burst(run_id, [b"."] * 6, 6)
    await world.audio.trim(run_id, ids[-left])
    world.audio.watch(run_id, ids[1], heard.append)
    assert missed(await heard.until(left)) == [None, 0, 0][:left]


@pytest.mark.requirement("STT-15")
async def test_one_entry_that_is_left_after_a_long_while_is_asked_what_was_before_it(redis: OnRedis) -> None:
    run_id, heard = redis.new_run_id(), Heard()
    redis.audio.watch(run_id, "0", heard.append)
    stream = keys.audio(run_id)
    for seconds in ("10", "12"):
        together = redis.world.redis.pipeline(transaction=True)
        for number in range(3):
            together.xadd(stream, {"a": b"."}, id=f"{seconds}000-{number}", maxlen=1, approximate=False)
        together.expire(stream, TTL_S)
        await together.execute()
        await heard.until(1 if seconds == "10" else 2)
    assert (heard.ids, missed(heard)) == (["10000-2", "12000-2"], [2, 2])


@pytest.mark.requirement("STT-15")
async def test_a_stream_that_was_deleted_and_began_anew_misses_what_is_gone_of_the_new_one(redis: OnRedis) -> None:
    run_id, heard = redis.new_run_id(), Heard()
    redis.audio.watch(run_id, "0", heard.append)
    for count, most in ((4, 4), (3, 3), (3, 2)):
        await redis.world.redis.delete(keys.audio(run_id))
        already = len(heard)
        await redis.burst(run_id, [b"."] * count, most)
        await heard.until(already + most)
    assert missed(heard) == [0] * 7 + [1, 0]


@pytest.mark.requirement("STT-15", "STT-21")
async def test_a_reader_that_keeps_up_asks_once_and_never_again(redis: OnRedis) -> None:
    """Ten entries a second, by their ids. What was before the first of them, it asks."""
    run_id, heard = redis.new_run_id(), Heard()
    redis.audio.watch(run_id, "0", heard.append)
    before = await calls(redis, "xinfo|stream")
    for count in range(1, 21):
        await redis.world.redis.xadd(keys.audio(run_id), {"a": b"."}, id=f"{1_700_000_000_000 + 100 * count}-0")
        await heard.until(count)
    await redis.world.redis.expire(keys.audio(run_id), TTL_S)
    assert await calls(redis, "xinfo|stream") == before + 1


def _page(*ids: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(entry.encode(), {}) for entry in ids]


@pytest.mark.requirement("STT-15")
def test_a_server_that_does_not_count_tells_that_something_is_gone_and_not_how_much() -> None:
    """Redis 6.2. Of a stream's beginning it cannot even tell that."""
    uncounted = Look("5-0", "6-0", None, None)
    assert Place("0").missed(_page("5-0", "6-0"), uncounted) == 0
    place = Place("0")
    place.pass_by(b"4-0")
    assert place.missed(_page("5-0", "6-0"), uncounted) is None
    assert place.missed(_page("5-0", "6-0"), Look("4-0", "6-0", None, None)) == 0


@pytest.mark.requirement("STT-15")
def test_a_stream_that_does_not_answer_when_it_is_asked_misses_something_only_where_nobody_has_looked() -> None:
    assert Place("0").missed(_page("5-0"), None) == 0
    assert Place("4-0").missed(_page("5-0"), None) is None


@pytest.mark.requirement("STT-15")
def test_what_was_read_just_before_it_was_trimmed_is_not_missed() -> None:
    """The look comes after the read: 10 were added, 2 are left, and 4 of those that are gone stand in what was read."""
    place = Place("0")
    place.pass_by(b"1-0")
    assert place.missed(_page("5-0", "6-0", "7-0", "8-0", "9-0"), Look("9-0", "10-0", 10, 8)) == 3
    for entry in _page("5-0", "6-0", "7-0", "8-0", "9-0"):
        place.pass_by(entry[0])
    assert place.read == 9


async def test_a_second_watch_takes_the_place_of_the_first(world: World) -> None:
    run_id, first, second = world.new_run_id(), Heard(), Heard()
    stop_first = world.audio.watch(run_id, "0", first.append)
    ids = await spoken(world, run_id, b"a")
    await first.until(1)
    world.audio.watch(run_id, "0", second.append)
    ids += await spoken(world, run_id, b"b")
    assert (await second.until(2)).ids == ids
    stop_first()
    ids += await spoken(world, run_id, b"c")
    assert (await second.until(3)).ids == ids
    assert first.ids == ids[:1]


async def test_a_watch_that_was_stopped_hears_nothing_more(world: World) -> None:
    run_id, heard = world.new_run_id(), Heard()
    stop = world.audio.watch(run_id, "0", heard.append)
    await spoken(world, run_id, b"a")
    await heard.until(1)
    stop()
    await spoken(world, run_id, b"b")
    await all_read(world)
    stop()
    assert heard.sound == b"a"


async def test_a_watch_that_stops_itself_hears_nothing_more(world: World) -> None:
    """What follows the end of a session stands in the same read as its end."""
    run_id, heard = world.new_run_id(), Heard()
    await spoken(world, run_id, b"a", b"b", b"c")

    def deliver(entry: AudioEntry) -> None:
        heard.append(entry)
        if entry.pcm == b"b":
            stop()

    stop = world.audio.watch(run_id, "0", deliver)
    await heard.until(2)
    await spoken(world, run_id, b"d")
    await all_read(world)
    assert heard.sound == b"ab"


@pytest.mark.requirement("STT-16")
@pytest.mark.parametrize(
    ("fields", "pcm", "control"),
    [
        ({"x": "neither"}, None, {}),
        ({"c": "{"}, None, {}),
        ({"c": ""}, None, {}),
        ({"c": "[1]"}, None, {}),
        ({"c": "null"}, None, {}),
        ({"c": b'{"type": "\xff"}'}, None, {}),
        ({"c": "[" * 100_000}, None, {}),
        ({"c": '{"type": ' + "9" * 5000 + "}"}, None, {}),
        ({"a": b"\x01\x00", "c": '{"type":"end"}'}, b"\x01\x00", {}),
        ({"c": '{"type":"end"}', "a": b""}, b"", {}),
        ({"c": '{"type":"end"}', "more": "ignored"}, None, {"type": "end"}),
    ],
)
async def test_an_entry_that_makes_no_sense_is_an_empty_control_and_the_next_one_is_heard(
    redis: OnRedis, fields: Mapping[str, bytes | str], pcm: bytes | None, control: Mapping[str, Any]
) -> None:
    run_id, heard = redis.new_run_id(), Heard()
    redis.audio.watch(run_id, "0", heard.append)
    entry_id = await redis.write(run_id, fields)
    after = await redis.add(run_id, b"after")
    assert await heard.until(2) == [AudioEntry(entry_id, pcm, control), AudioEntry(after, b"after", {})]


async def test_a_key_that_is_no_stream_does_not_deafen_the_other_sessions(redis: OnRedis) -> None:
    bad, good, heard = redis.new_run_id(), redis.new_run_id(), Heard()
    await redis.world.redis.set(keys.audio(bad), "no stream", ex=TTL_S)
    redis.audio.watch(bad, "0", Heard().append)
    redis.audio.watch(good, "0", heard.append)
    await redis.add(good, b"a")
    assert (await heard.until(1)).sound == b"a"


@pytest.mark.requirement("RUN-21")
async def test_a_server_that_is_away_is_a_store_that_is_away(own_valkey: EmbeddedValkey) -> None:
    client = connect(own_valkey.url)
    audio = RedisAudio(StreamReader(client, client, SystemClock()), client, lambda _: None)
    kill(own_valkey)
    with pytest.raises(StoreUnavailable):
        await audio.trim("run-1", "1-0")
    await client.aclose()


@pytest.mark.requirement("STT-21")
async def test_two_hundred_sessions_are_read_together(redis: OnRedis) -> None:
    """One reader asks for all of them at once: far fewer reads than entries."""
    streams = {redis.new_run_id(): Heard() for _ in range(200)}
    before = await calls(redis, "xread")
    for run_id, heard in streams.items():
        redis.audio.watch(run_id, "0", heard.append)
    for n in range(10):
        pipeline = redis.world.redis.pipeline(transaction=False)
        for run_id in streams:
            pipeline.xadd(keys.audio(run_id), {"a": bytes([n])})
            pipeline.expire(keys.audio(run_id), TTL_S)
        await pipeline.execute()
    for heard in streams.values():
        assert (await heard.until(10)).sound == bytes(range(10))
    assert await calls(redis, "xread") - before < 2_000 / 10


async def calls(redis: OnRedis, command: str) -> int:
    stats = await redis.world.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


@pytest.mark.requirement("OPS-09")
@pytest.mark.parametrize(
    ("entry_id", "lag_s"), [("998500-0", 1.5), ("1000000-7", 0.0), ("99999999-0", 0.0), ("1-0", 999.999)]
)
def test_the_lag_of_audio_is_told_by_the_id_that_the_server_gave(entry_id: str, lag_s: float) -> None:
    assert lag_of(entry_id, 1000.0) == pytest.approx(lag_s)
    assert lag_of("1-0", 10**9) == 0.0
