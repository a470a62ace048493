"""Followers of a live session, both faces of the client on a real server: whenever they join, they read all of it.

The session is the machine itself, played over two workers and a lost connection; the stream is what a worker writes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api_contracts.client import AsyncClient, Client
from api_contracts.runs import Event, EventData, RunCompleted
from api_contracts.stt import SttFinal, SttResult
from tests.contract.test_speaking_sessions import Booth
from tests.unit.core.stt.playing import ECHO, Life, segment, update, word
from workers.core.runs.frame import Draining
from workers.ports import Granted, Lease

WORDS = ["one", "two", "three", "four", "five", "six"]


def said(count: int, finals: int, offset: float = 0.0) -> dict[str, Any]:
    """Return what the provider says when so many words were spoken, and so many of them are final."""
    told = [word(text, n + 0.1, n + 0.5, final=n < finals) for n, text in enumerate(WORDS[:count])]
    later = [each | {"start": each["start"] - offset, "end": each["end"] - offset} for each in told]
    return update(segment(0, *(each for each in later if each["start"] >= 0)))


def played() -> Iterator[Sequence[EventData]]:
    """Yield what the session tells, a few events at a time; an empty list where another worker goes on."""
    life, told = Life().opened(), 0
    for step in range(4):
        life.speak(1)
        life.says(said(step + 1, finals=step))
        yield [event for event, _ in life.journal[told:]]
        told = len(life.journal)
    life.feed(Draining(life.now))
    yield [event for event, _ in life.journal[told:]]
    yield []
    told = len(life.journal)
    life, spoken = life.reborn(), life.entries
    life.begin()
    for number in range(1, spoken + 1):
        life.entries = number - 1
        life.speak(1)
    life.opened()
    start = life.journal[-1][0].start_at / 16_000  # type: ignore[attr-defined]
    for step in range(4, 6):
        life.speak(1)
        life.says(said(step + 1, finals=step, offset=start))
        yield [event for event, _ in life.journal[told:]]
        told = len(life.journal)
    life.control(type="end")
    life.says(said(6, finals=6, offset=start), ECHO)
    yield [*(event for event, _ in life.journal[told:]), RunCompleted(result=life.result.model_dump(mode="json"))]


class Writer:
    """The workers of a session, one after the other."""

    def __init__(self, booth: Booth, run_id: str) -> None:
        self._store = booth.store
        self._run_id = run_id
        self._lease: Lease | None = None
        self._seq = 0

    async def write(self, events: Sequence[EventData]) -> None:
        if self._lease is None or not events:
            if self._lease is not None:
                await self._store.release(self._lease)
            granted = await self._store.acquire(self._run_id, f"worker-{self._seq}", "")
            assert isinstance(granted, Granted)
            self._lease, self._seq = granted.lease, granted.seq
        if events:
            ended = "completed" if isinstance(events[-1], RunCompleted) else None
            self._seq = await self._store.append(self._lease, self._seq, events, terminal=ended)


@asynccontextmanager
async def live(redis_url: str, kind: Any) -> AsyncIterator[tuple[Any, Writer]]:
    """A session that nobody has served yet."""
    booth = Booth(redis_url, kind)
    booth.store.start()
    try:
        session = await booth.open()
        yield session, Writer(booth, session.run_id)
    finally:
        await booth.close()


async def followed(session: Any, after: int = 0) -> list[Event]:
    """Follow it to its end, by whichever face."""
    events = session.follow(after, timeout_s=60)
    if isinstance(events, AsyncIterator):
        return [event async for event in events]
    return await asyncio.to_thread(list, events)


def finals(events: Sequence[Event]) -> list[str]:
    return [each.word for e in events if e.type == SttFinal.TYPE for each in SttFinal.model_validate(e.data).words]


@pytest.mark.requirement("STT-18", "RUN-14")
@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_whoever_joins_at_any_moment_reads_every_final_once_from_the_start(redis_url: str, kind: Any) -> None:
    async with live(redis_url, kind) as (session, writer):
        joined = [asyncio.create_task(followed(session))]  # before there is a word
        for events in played():
            await writer.write(events)
            joined.append(asyncio.create_task(followed(session)))
        joined.append(asyncio.create_task(followed(session)))  # when all is over
        whole, *others = await asyncio.wait_for(asyncio.gather(*joined), 60)
        assert finals(whole) == WORDS
        assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
        assert all(each == whole for each in others)
        assert len({event.epoch for event in whole}) == 3, "the submit, and two workers"
        assert SttResult.model_validate(whole[-1].data["result"]).text.split() == WORDS


@pytest.mark.requirement("STT-18", "RUN-14")
@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_whoever_leaves_and_joins_again_misses_no_final_and_reads_none_twice(redis_url: str, kind: Any) -> None:
    async with live(redis_url, kind) as (session, writer):
        for events in played():
            await writer.write(events)
        whole = await followed(session)
        for seq in range(len(whole)):
            assert finals(whole[:seq]) + finals(await followed(session, seq)) == WORDS
