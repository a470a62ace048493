"""What the batch service in memory adds for the tests that play its provider."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api_contracts.failure import Failure
from workers.adapters.memory.batch import BatchCall, MemoryBatch
from workers.core.batch.acts import CreateJob
from workers.core.batch.jobs import Progress
from workers.ports import ProviderFailed

BUSY = Failure(code="provider_unavailable", category="overloaded", message="", retryable=True, at_fault="provider")
WANTED = CreateJob(1, "job-1", "a job", "in-1", "out-1", "m", {}, None)


async def rows() -> AsyncIterator[bytes]:
    for _ in range(10):
        yield b"0123456789"


async def submitted(batch: MemoryBatch) -> None:
    await batch.create_dataset("in-1", "rows", 10, credential="team-b")
    await batch.upload("in-1", rows, 100, signed=False, credential=None)
    await batch.create_job(WANTED, credential=None)


async def test_every_call_is_noted() -> None:
    batch = MemoryBatch()
    await submitted(batch)
    async for file in batch.files("in-1", credential=None):
        assert b"".join([chunk async for chunk in file.chunks]) == b"0123456789" * 10
    assert batch.calls == [
        BatchCall("create_dataset", "in-1", "team-b"), BatchCall("upload", "in-1", None),
        BatchCall("create_job", "job-1", None), BatchCall("files", "in-1", None),
        BatchCall("download", "in-1.jsonl", None),
    ]  # fmt: skip


async def test_troubles_come_one_after_the_other() -> None:
    batch = MemoryBatch()
    await batch.create_dataset("in-1", "rows", 10, credential=None)
    batch.trouble("upload", BUSY)
    batch.trouble("upload", BUSY, after=50)
    batch.trouble("upload", BUSY, late=True)
    for arrives in (False, False, True):
        with pytest.raises(ProviderFailed):
            await batch.upload("in-1", rows, 100, signed=True, credential=None)
        assert await batch.dataset_is_ready("in-1", credential=None) is arrives
    await batch.upload("in-1", rows, 100, signed=True, credential=None)


async def test_a_download_can_break_in_the_middle_and_counts_while_it_is_open() -> None:
    batch = MemoryBatch(piece_bytes=20)
    await submitted(batch)
    batch.trouble("download", BUSY, after=50)
    async for file in batch.files("in-1", credential=None):
        got = [await anext(file.chunks) for _ in range(3)]
        assert batch.open == 1
        with pytest.raises(ProviderFailed):
            await anext(file.chunks)
        assert (b"".join(got), batch.open) == (b"0123456789" * 5, 0)


async def test_a_call_can_be_held() -> None:
    batch = MemoryBatch()
    hold = batch.hold("create_dataset")
    creating = asyncio.create_task(batch.create_dataset("in-1", "rows", 10, credential=None))
    await hold.reached.wait()
    assert batch.datasets == {}
    hold.go.set()
    assert not await creating
    assert list(batch.datasets) == ["in-1"]


async def test_a_job_moves_as_the_test_says_and_leaves_its_output_when_it_is_lost() -> None:
    batch = MemoryBatch()
    await submitted(batch)
    batch.move("job-1", "RUNNING", progress=Progress(processed=3))
    view = await batch.job("job-1", credential=None)
    assert (view.state, view.progress.processed) == ("RUNNING", 3)
    batch.finish("job-1", {"error-data": b"", "BIJOutputSet.jsonl": b"{}"}, "EXPIRED", message="too late")
    view = await batch.job("job-1", credential=None)
    assert (view.state, view.message, view.output) == ("EXPIRED", "too late", "out-1")
    batch.lose("job-1")
    assert (await batch.job("job-1", credential=None)).state == "GONE"
    assert [file.name async for file in batch.files("out-1", credential=None)] == ["BIJOutputSet.jsonl", "error-data"]
    await batch.create_job(WANTED, credential=None)
    assert (await batch.job("job-1", credential=None)).output == "bij-00000001"
