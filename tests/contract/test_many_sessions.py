"""Hundreds of sessions in one worker process, put together as the process does it: what Redis sees of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis.asyncio import Redis

from api_contracts import keys
from api_contracts.client.scripts import digest_of
from api_contracts.keys import new_run_id
from api_contracts.runs import RunQueued
from api_contracts.stt import SttResult
from tests.waiting import eventually_async
from workers.adapters.sql.migrate import migrate
from workers.bootstrap import Services, worker
from workers.cli.embedded import EmbeddedValkey
from workers.emulator import EmulatorConfig, serve
from workers.emulator.speech import SpeechConfig, encode, silence
from workers.runners.outcome import Ended
from workers.runners.reception import Message
from workers.settings import Settings
from workers.telemetry import Metrics

SESSIONS = 200
WORDS = ["maple", "rocket", "flame"]
PIECE = 3_200
"""Bytes of 0.1 s."""

LATER = 60.0
TESTER = "tester"
"""The name of our own connection."""


@asynccontextmanager
async def process(valkey: EmbeddedValkey, folder: Path) -> AsyncIterator[Services]:
    """A worker process without its Celery half, and a provider."""
    speech = SpeechConfig(engine="tones")
    provider = await serve(EmulatorConfig(speech=speech))
    database = f"sqlite:///{folder / 'runs.sqlite'}"
    migrate(database)
    settings = Settings(
        redis_url=valkey.url,
        broker_url=valkey.url,
        database_url=database,
        api_key="fw_test",
        audio_streaming_url=provider.speech_url,
        concurrency=SESSIONS,
        lease_s=60,
    )
    try:
        async with worker(settings, Celery(broker="memory://"), Metrics()) as services:
            yield services
    finally:
        await provider.close()


async def accepted() -> None:
    """Tell a broker that there is not."""


def message(run_id: str) -> Message:
    return Message(run_id, "stt", {"stored": "d"}, lambda digest: f"{run_id} by {digest}")


async def opened(services: Services, run_id: str) -> "asyncio.Task[Any]":
    request: dict[str, Any] = {}
    queued = RunQueued(kind="stt", digest=digest_of(request), request=request)
    assert await services.store.submit(run_id, queued, None) == "created"
    return asyncio.create_task(services.reception.serve(message(run_id), accepted))


async def written(redis: "Redis[bytes]", run_ids: list[str], pcm: bytes) -> int:
    """Write audio to every session, a piece of each at a time, then hang up; return how many entries there are."""
    pieces = [pcm[at : at + PIECE] for at in range(0, len(pcm), PIECE)]
    for piece in pieces:
        pipe = redis.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.xadd(keys.audio(run_id), {"a": piece})
        await pipe.execute()
    pipe = redis.pipeline(transaction=False)
    for run_id in run_ids:
        pipe.xadd(keys.audio(run_id), {"c": '{"type":"end"}'})
        pipe.expire(keys.audio(run_id), 600)
    await pipe.execute()
    return len(run_ids) * (len(pieces) + 1)


async def seen(redis: "Redis[bytes]") -> dict[str, int]:
    clients = [each for each in await redis.client_list() if each["name"] != TESTER]
    stats, calls = await redis.info("stats"), await redis.info("commandstats")
    return {
        "connections": len(clients),
        "waiting": sum(each["cmd"] == "xread" for each in clients),
        "network reads": stats["total_reads_processed"],
        "audio reads": calls["cmdstat_xread"]["calls"],
        "scripts": calls["cmdstat_evalsha"]["calls"],
    }


@pytest.mark.requirement("STT-21")
async def test_hundreds_of_sessions_share_one_waiting_read_and_write_together(
    own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    run_ids = [new_run_id() for _ in range(SESSIONS)]
    redis: Redis[bytes] = Redis.from_url(own_valkey.url, client_name=TESTER)
    async with process(own_valkey, tmp_path) as services:
        serving = [await opened(services, run_id) for run_id in run_ids]

        async def all_connected() -> bool:
            pipe = redis.pipeline(transaction=False)
            for run_id in run_ids:
                pipe.xlen(keys.events(run_id))
            return min(await pipe.execute()) >= 3  # queued, started, connected

        await eventually_async(all_connected, within=LATER)
        idle = await seen(redis)
        entries = await written(redis, run_ids, encode(WORDS) + silence(0.3))
        outcomes = await asyncio.wait_for(asyncio.gather(*serving), 3 * LATER)
        done = await seen(redis)
    await redis.aclose()
    for outcome in outcomes:
        assert isinstance(outcome, Ended)
        assert SttResult.model_validate(outcome.result).text.split() == WORDS
    grew = {name: done[name] - before for name, before in idle.items()}
    for each in (idle, done):
        assert each["waiting"] == 1, "one read waits for the audio of all"
        assert each["connections"] <= SESSIONS / 20
    assert grew["audio reads"] <= entries / 20, "and brings the audio of many"
    assert grew["scripts"] >= 3 * SESSIONS, "each session tells of its words, its silence, its end"
    assert grew["network reads"] <= grew["scripts"] / 2, "in pipelines: the server reads the tester's audio besides"
