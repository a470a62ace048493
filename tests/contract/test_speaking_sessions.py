"""A producer's session on a real Valkey, both faces of the client, no worker: what stands in the stream afterwards."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError

from api_contracts import keys
from api_contracts.client import AsyncClient, Client
from api_contracts.client.scripts import UNTAKEN_S
from api_contracts.client.speaking import MOST_BYTES
from api_contracts.failure import AudioRefused, RunConflict, RunNotFound
from api_contracts.keys import BadRunId, new_run_id
from api_contracts.runs import RunCompleted, RunQueued
from api_contracts.stt import SttResult
from tests.contract.cutting_proxy import CuttingProxy
from tests.contract.run_store.worlds import queued
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.reader import StreamReader
from workers.adapters.redis.store import RedisRuns
from workers.adapters.redis.streams import RedisAudio
from workers.ports import Granted
from workers.settings import Timing

NEVER = new_run_id()
TTL_S = 300


async def call(act: Any, *args: Any, **fields: Any) -> Any:
    """Call a method of either face: a sync one in a thread, so that the loop goes on."""
    if inspect.iscoroutinefunction(act):
        return await act(*args, **fields)
    return await asyncio.to_thread(act, *args, **fields)


class Booth:
    """A client of either kind, and a plain one that sees what it wrote."""

    def __init__(self, url: str, kind: Any) -> None:
        self.client = kind(redis_url=url, broker_url="memory://", live_ttl_s=TTL_S)
        self.redis: Any = connect(url)
        self.opened: set[str] = set()
        self.store = RedisRuns(self.redis, SystemClock(), Timing(live_ttl_s=TTL_S, retention_s=TTL_S))

    async def open(self, **fields: Any) -> Any:
        session = await call(self.client.stt.open, **fields)
        self.opened.add(session.run_id)
        return session

    async def close(self) -> None:
        await call(self.client.close)
        for run_id in self.opened:  # a server that was given keeps nothing of us
            await self.redis.delete(*[key async for key in self.redis.scan_iter(match=f"fw:*:{run_id}:*", count=1000)])
            await self.redis.zrem(keys.due(run_id[-1]), run_id)
        await self.store.close()
        await self.redis.aclose()

    async def entries(self, run_id: str) -> list[dict[bytes, bytes]]:
        """The audio stream, read as any Redis client reads it."""
        return [fields for _, fields in await self.redis.xrange(f"fw:{{{run_id[-1]}}}:{run_id}:audio")]

    def audio(self) -> RedisAudio:
        """A worker's hand on the audio streams."""
        return RedisAudio(StreamReader(self.redis, self.redis, SystemClock()), self.redis, lambda _: None)

    async def finish(self, run_id: str) -> None:
        """End the run as a worker does."""
        granted = await self.store.acquire(run_id, "ann", "")
        assert isinstance(granted, Granted)
        result = SttResult(run_id=run_id, status="completed", text="ok").model_dump(mode="json", exclude_none=True)
        end = RunCompleted(result=result)
        await self.store.append(granted.lease, granted.seq, [end], terminal="completed")
        await self.store.announced(run_id)


@pytest.fixture(params=[Client, AsyncClient])
async def booth(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Booth]:
    made = Booth(redis_url, request.param)
    made.store.start()
    yield made
    await made.close()


@pytest.mark.requirement("STT-01")
async def test_the_stream_holds_byte_by_byte_what_is_documented(booth: Booth) -> None:
    """The text of `api_contracts.stt`: exactly one field, `a` raw audio or `c` one JSON object with a type."""
    session = await booth.open(language="en")
    assert await call(session.send_audio, b"\x00\x01\xfe\xff\r\n$3")
    assert await call(session.flush)
    assert await call(session.change_options, language="fr", prompt=None)
    assert await call(session.clear)
    assert await call(session.send_audio, b"\x7f")
    assert await call(session.end)
    first, *controls, last, end = await booth.entries(session.run_id)
    assert (first, last) == ({b"a": b"\x00\x01\xfe\xff\r\n$3"}, {b"a": b"\x7f"})
    assert all(list(control) == [b"c"] for control in (*controls, end))
    assert [json.loads(control[b"c"]) for control in (*controls, end)] == [
        {"type": "flush"}, {"type": "options", "language": "fr", "prompt": None}, {"type": "clear"}, {"type": "end"},
    ]  # fmt: skip


@pytest.mark.requirement("STT-01", "RUN-11")
async def test_audio_ends_its_life_with_the_run(booth: Booth) -> None:
    session = await booth.open()
    await call(session.send_audio, b"\x00\x00")
    assert 0 < await booth.redis.pttl(keys.audio(session.run_id)) <= TTL_S * 1000


async def test_long_audio_becomes_several_entries_in_order(booth: Booth) -> None:
    session = await booth.open()
    pcm = bytes(n % 251 for n in range(2 * MOST_BYTES + 7))
    assert await call(session.send_audio, pcm)
    found = [entry[b"a"] for entry in await booth.entries(session.run_id)]
    assert [len(piece) for piece in found] == [MOST_BYTES, MOST_BYTES, 7]
    assert b"".join(found) == pcm


async def test_no_audio_writes_nothing(booth: Booth) -> None:
    session = await booth.open()
    assert await call(session.send_audio, b"")
    assert await booth.entries(session.run_id) == []


async def test_a_session_is_recorded_as_what_was_asked_for(booth: Booth) -> None:
    session = await booth.open(language="en", text_timeout_s=2)
    (entry,) = await booth.store.read(session.run_id)
    told = RunQueued.model_validate(entry.data)
    assert told.kind == "stt"
    assert told.request == {"language": "en", "text_timeout_s": 2.0, "tenant": "default"}


async def test_a_request_that_is_wrong_is_refused_before_anything_is_sent(booth: Booth) -> None:
    run_id = new_run_id()
    with pytest.raises(ValidationError, match="sample_rate"):
        await booth.open(sample_rate=4000, run_id=run_id)
    assert not await booth.redis.exists(keys.events(run_id), keys.lease(run_id))


async def test_the_same_id_is_the_same_session_and_another_request_a_conflict(booth: Booth) -> None:
    first = await booth.open(idempotency_key=f"call {NEVER}")
    assert (await booth.open(idempotency_key=f"call {NEVER}")).run_id == first.run_id
    with pytest.raises(RunConflict):
        await booth.open(run_id=first.run_id, language="fr")


async def test_a_session_that_was_opened_elsewhere_can_be_spoken_to(booth: Booth) -> None:
    opened = await booth.open()
    again = booth.client.stt.session(opened.run_id)
    assert await call(again.send_audio, b"\x01\x02")
    assert await booth.entries(opened.run_id) == [{b"a": b"\x01\x02"}]
    with pytest.raises(BadRunId):
        booth.client.stt.session("no such name!")


@pytest.mark.requirement("STT-17")
async def test_while_a_worker_holds_the_producer_audio_is_refused_and_controls_are_not(booth: Booth) -> None:
    """The word is the owner's: it is void when the session has another."""
    session = await booth.open()
    run_id = session.run_id
    audio = booth.audio()
    granted = await booth.store.acquire(run_id, "ann", "")
    assert isinstance(granted, Granted)
    assert await call(session.send_audio, b"one.")
    await audio.hold(run_id, full=True)
    with pytest.raises(AudioRefused) as refused:
        await call(session.send_audio, b"two.")
    assert (refused.value.run_id, refused.value.sent) == (run_id, 0)
    assert await call(session.flush)
    await audio.hold(run_id, full=False)
    assert await call(session.send_audio, b"two.")
    await audio.hold(run_id, full=True)
    await booth.store.release(granted.lease)
    assert isinstance(await booth.store.acquire(run_id, "bob", ""), Granted)
    assert await call(session.send_audio, b"three.")
    assert [entry.get(b"a") for entry in await booth.entries(run_id)] == [b"one.", None, b"two.", b"three."]


@pytest.mark.requirement("STT-17")
async def test_audio_that_no_worker_takes_is_enough_after_a_while(booth: Booth) -> None:
    session = await booth.open()
    seconds, _ = await booth.redis.time()
    await booth.redis.xadd(keys.audio(session.run_id), {"a": b"old."}, id=f"{(seconds - UNTAKEN_S + 60) * 1000}-0")
    assert await call(session.send_audio, b"new.")
    await booth.redis.delete(keys.audio(session.run_id))
    await booth.redis.xadd(keys.audio(session.run_id), {"a": b"old."}, id=f"{(seconds - UNTAKEN_S - 60) * 1000}-0")
    with pytest.raises(AudioRefused):
        await call(session.send_audio, b"new.")
    assert isinstance(await booth.store.acquire(session.run_id, "ann", ""), Granted)
    assert await call(session.send_audio, b"new.")


@pytest.mark.requirement("STT-17")
async def test_nobody_is_held_where_there_is_no_session(booth: Booth) -> None:
    """A key that is left behind would look like a run."""
    await booth.audio().hold(NEVER, full=True)
    assert not await booth.redis.exists(keys.lease(NEVER))


@pytest.mark.parametrize("verb", ["send_audio", "flush", "clear", "change_options", "end", "cancel"])
async def test_a_session_that_nobody_opened_is_not_found_and_gets_no_stream(booth: Booth, verb: str) -> None:
    run_id = new_run_id()
    session = booth.client.stt.session(run_id)
    with pytest.raises(RunNotFound):
        await call(getattr(session, verb), *([b"\x00\x00"] if verb == "send_audio" else []))
    assert not await booth.redis.exists(keys.audio(run_id), keys.inbox(run_id))


@pytest.mark.parametrize("verb", ["send_audio", "flush", "clear", "change_options", "end", "cancel"])
async def test_a_session_that_is_over_hears_nothing_and_says_so(booth: Booth, verb: str) -> None:
    session = await booth.open()
    await call(session.send_audio, b"\x01\x02")
    await booth.finish(session.run_id)
    said = await call(getattr(session, verb), *([bytes(2 * MOST_BYTES)] if verb == "send_audio" else []))
    assert said is False
    assert await booth.entries(session.run_id) == [{b"a": b"\x01\x02"}]


async def test_the_result_is_read_when_the_session_is_over(booth: Booth) -> None:
    session = await booth.open()
    await booth.finish(session.run_id)
    assert (await call(session.result, timeout_s=10)).text == "ok"


async def test_the_result_of_another_kind_of_run_is_refused(booth: Booth) -> None:
    run_id = new_run_id()
    booth.opened.add(run_id)
    await booth.store.submit(run_id, queued(), None)
    granted = await booth.store.acquire(run_id, "ann", "")
    assert isinstance(granted, Granted)
    chat = RunCompleted(result={"run_id": run_id, "kind": "chat", "status": "completed"})
    await booth.store.append(granted.lease, granted.seq, [chat], terminal="completed")
    with pytest.raises(TypeError, match="kind 'chat'"):
        await call(booth.client.stt.session(run_id).result, timeout_s=10)


async def test_cancelling_is_a_letter_with_its_reason(booth: Booth) -> None:
    session = await booth.open()
    assert await call(session.cancel, "enough")
    ((_, letter),) = await booth.redis.xrange(keys.inbox(session.run_id))
    assert (letter[b"type"], json.loads(letter[b"data"])) == (b"cancel", {"reason": "enough"})


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_piece_whose_reply_is_lost_is_not_written_twice(redis_url: str, kind: Any) -> None:
    """Sound that is doubled is heard twice; so nobody repeats a piece but the producer, who is told."""
    async with CuttingProxy(redis_url) as proxy:
        booth = Booth(proxy.url, kind)
        session = await booth.open()
        proxy.cut_the_next_reply()
        with pytest.raises(RedisConnectionError):
            await call(session.send_audio, b"\x01\x02")
        assert proxy.cuts == 1
        assert await booth.entries(session.run_id) == [{b"a": b"\x01\x02"}]
        await booth.close()
