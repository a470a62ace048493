"""Nothing is held whole: files of any size pass through a few pieces of memory (BATCH-04's other side)."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from tests.contract.emulator_batch.plane import Plane, jsonl, open_plane, rows
from workers.emulator import Reply, Rule, Scene

pytestmark = pytest.mark.requirement("EMU-01")

MEGABYTE = 1024 * 1024
PIECE = jsonl([{"custom_id": "ID", "body": {"messages": [{"role": "user", "content": "x" * (MEGABYTE // 4 - 100)}]}}])
LINES = 240


def _lines() -> Iterator[bytes]:
    """60 MB of rows, a quarter of a megabyte each."""
    for number in range(LINES):
        yield PIECE.replace(b'"ID"', json.dumps(f"row-{number}").encode()) + b"\n"


SIZE = sum(len(line) for line in _lines())


async def _stream() -> AsyncIterator[bytes]:
    for line in _lines():
        yield line


@contextmanager
def _at_most(megabytes: int) -> Iterator[None]:
    """Fail if Python ever held more than this beyond what it held before."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MEGABYTE, f"{peak / MEGABYTE:.1f} MB"


async def _uploaded(plane: Plane) -> None:
    await plane.create("in-1", LINES)
    form = aiohttp.FormData()
    form.add_field("file", _stream(), filename="input.jsonl")
    body = await plane.ok("POST", "datasets/in-1:upload", data=form)
    assert body["bytes"] == SIZE > 59 * MEGABYTE


async def _put(plane: Plane) -> None:
    await plane.create("in-1", LINES)
    sizes = {"filenameToSize": {"a.jsonl": SIZE}}
    urls = await plane.ok("POST", "datasets/in-1:getUploadEndpoint", json=sizes)
    headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": f"{SIZE},{SIZE}"}
    url = urls["filenameToSignedUrls"]["a.jsonl"]
    async with plane.bare.put(url, data=_stream(), headers=headers) as response:
        assert response.status == 200
    await plane.ok("POST", "datasets/in-1:validateUpload", json={})


@pytest.mark.parametrize("send", [_uploaded, _put])
async def test_sixty_megabytes_go_up_are_looked_through_and_come_down(
    send: Callable[[Plane], Awaitable[None]],
) -> None:
    async with open_plane() as plane:
        await plane.create("warm", 1)
        await plane.upload("warm", jsonl(rows(1)))
        with _at_most(4):
            await send(plane)
            # Without RUNNING no row is answered: chat's own work on a quarter of a megabyte is not what is measured.
            await plane.job("job-1", faults="states=VALIDATING:60/COMPLETED")
            assert (await plane.after(60, "job-1"))["state"] == "JOB_STATE_COMPLETED"
            read = 0
            [url] = (await plane.urls("in-1")).values()
            async with plane.bare.get(url) as response:
                async for piece in response.content.iter_any():
                    read += len(piece)
        assert read == SIZE


async def test_rows_are_answered_one_at_a_time() -> None:
    """Six megabytes of rows become two of answers. What is large is dear in bytes and cheap in tokens."""
    body = {"messages": [{"role": "user", "content": "go"}], "metadata": {"note": "x" * 20_000}}
    lines = [{"custom_id": f"row-{number}", "body": body} for number in range(300)]
    reply = Reply(text=" ".join(["\U00020000" * 6] * 280))
    async with open_plane(Scene(rules=(Rule(reply=reply),))) as plane:
        await plane.finished("warm", lines[:20])
        await plane.dataset("in-1", lines)
        with _at_most(1):
            await plane.job("job-1")
            job = await plane.after(1000, "job-1")
            urls = await plane.urls(job["outputDatasetId"])
        assert job["jobProgress"]["successfullyProcessedRequests"] == 300
        async with plane.bare.head(urls["BIJOutputSet.jsonl"]) as response:
            assert (response.content_length or 0) > 2_000_000
