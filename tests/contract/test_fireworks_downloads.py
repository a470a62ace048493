"""Files from the provider over real sockets: how downloads go on after a break (WIRE 3.8)."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from tests.contract.scripted_plane import (
    BOTH_WAYS,
    FILES,
    LATER,
    NO_ACCESS,
    SOON,
    Exchange,
    Rows,
    Script,
    always,
    by_call,
    download,
    failed,
    plane,
    rest,
    stored,
)
from workers.adapters.fireworks.batch import FireworksBatch
from workers.adapters.fireworks.control_plane import BatchTimeouts
from workers.adapters.fireworks.transfer import ATTEMPTS
from workers.emulator import EmulatorConfig, Running, serve
from workers.emulator.batch import BatchConfig, BatchRule, BatchWhen

MEGABYTE = 1024 * 1024
DATA = bytes(range(48, 88))
SIZE = len(DATA)


def serving(
    data: bytes = DATA, cut: int | None = None, *, ranges: bool = True, first: int = 0, **headers: Any
) -> Script:  # fmt: skip
    """Send a file, or its range, which begins `first` bytes beside the one asked for; hang up after `cut` bytes."""

    async def send(exchange: Exchange) -> None:
        asked = exchange.headers.get("range", "") if ranges else ""
        start = int(asked[6:-1]) + first if asked else 0
        told = {"Content_Length": len(data) - start, "ETag": '"1"', **headers}
        if asked:
            told = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} | told
        if start >= len(data) and asked:
            await exchange.answer(416, Content_Range=told["Content_Range"].replace(f"{start}-{len(data) - 1}", "*"))
            return
        await exchange.head(206 if asked else 200, **{k: v for k, v in told.items() if v is not None})
        if cut is None:
            await exchange.raw(data[start:])
        else:
            await exchange.raw(data[start : max(start, cut)])
        if cut is not None or told["Content_Length"] is None:
            exchange.writer.close()

    return send


async def say(exchange: Exchange, status: int, body: bytes, **headers: Any) -> None:
    await exchange.answer(status, body, **headers)


def saying(status: int, body: bytes = b"", **headers: Any) -> Script:
    return lambda exchange: say(exchange, status, body, **headers)


@pytest.mark.requirement("BATCH-07")
@pytest.mark.parametrize("ranges", [True, False])
async def test_a_download_goes_on_after_a_break_at_any_byte(ranges: bool) -> None:
    for cut in range(SIZE):
        async with plane(stored(serving(cut=cut), serving(ranges=ranges))) as (batch, server):
            assert await download(batch) == DATA
            asked = [each for each in server.asked if each.target.startswith("/storage")]
            assert asked[1].headers.get("range") == (f"bytes={cut}-" if cut else None)
            assert asked[1].target == "/storage/out?X-Goog-Signature=a%2Fb%2B&e=%20+"
            assert not any("authorization" in each.headers for each in asked)
            # Once to list, once for each try: URLs expire (WIRE 3.8).
            assert server.calls.count("GET datasets/d:getDownloadEndpoint") == 3


@pytest.mark.requirement("BATCH-07")
async def test_a_download_may_break_as_often_as_it_gets_on() -> None:
    async with plane(stored(*[serving(cut=cut) for cut in range(1, SIZE)], serving())) as (batch, _):
        assert await download(batch) == DATA


async def no_chunk(exchange: Exchange) -> None:
    await exchange.head(200, Transfer_Encoding="chunked")
    await exchange.raw(b"0\r\n\r\n")


@pytest.mark.parametrize("empty", [serving(b""), serving(b"", Content_Length=None), no_chunk])
async def test_a_file_without_a_byte_is_a_file(empty: Script) -> None:
    async with plane(stored(empty)) as (batch, server):
        assert await download(batch) == b""
        assert server.calls.count("GET storage/out") == 1


@pytest.mark.parametrize("first", [-3, -1])
async def test_a_range_that_begins_too_early_is_cut_to_size(first: int) -> None:
    async with plane(stored(serving(cut=10), serving(first=first))) as (batch, _):
        assert await download(batch) == DATA


OTHERS: dict[str, list[Script]] = {
    "a later range": [serving(cut=10), serving(first=1)],
    "a range of who knows what": [serving(cut=10), serving(Content_Range=None)],
    "a range in other words": [serving(cut=10), serving(Content_Range="lines 10-39/40")],
    "a range of absurd numbers": [serving(cut=10), serving(Content_Range=f"bytes 10-39/{'9' * 5000}")],
    "another file by its tag": [serving(cut=10), serving(ETag='"2"')],
    "another file by its size": [serving(cut=10), serving(DATA + b"x")],
    "another file from the start": [serving(cut=10), serving(DATA[:-1], ranges=False)],
    "a file that shrank below": [serving(cut=10), serving(DATA[:5], ranges=False, ETag='"1"')],
    "an end that is none": [serving(cut=10), saying(416, Content_Range="bytes */10")],
    "an end without a place": [serving(cut=10, Content_Length=None), saying(416)],
    "a range without a byte": [serving(cut=10), saying(206, Content_Range="bytes 10-39/40")],
    "a packed range": [serving(cut=10), serving(Content_Encoding="gzip", ranges=True)],
}


@pytest.mark.requirement("BATCH-07")
@pytest.mark.parametrize("case", OTHERS)
async def test_what_does_not_fit_what_is_here_is_never_handed_out(case: str) -> None:
    got = bytearray()

    async def read(batch: FireworksBatch) -> None:
        async for file in batch.files("d", credential=None):
            async for chunk in file.chunks:
                got.extend(chunk)

    async with plane(stored(*OTHERS[case])) as (batch, _):
        failure = await failed(read(batch))
    assert (failure.retryable, failure.at_fault) == (True, "provider")
    assert len(got) == 10
    assert DATA.startswith(got)


async def test_a_length_that_nobody_tells_is_asked_for() -> None:
    """A connection that just ends may have been cut."""
    until_closed: dict[str, Any] = {"Content_Length": None, "ETag": None}
    scripts = [serving(cut=cut, **until_closed) for cut in (10, 20)]
    async with plane(stored(*scripts, serving(**until_closed))) as (batch, server):
        assert await download(batch) == DATA
        ranges = [each.headers.get("range") for each in server.asked if each.target.startswith("/storage")]
    assert ranges == [None, "bytes=10-", "bytes=20-"]  # the answers to ranges told the size
    async with plane(stored(serving(cut=10, **until_closed), serving(ranges=False, **until_closed))) as (batch, _):
        assert await download(batch) == DATA


@pytest.mark.parametrize("at", [0, 7, 12])
async def test_a_packed_file_is_unpacked_and_begun_anew_after_a_break(at: int) -> None:
    packed = gzip.compress(DATA * 50, mtime=0)

    async def send(exchange: Exchange) -> None:
        assert "range" not in exchange.headers
        assert exchange.headers["accept-encoding"] == "identity"
        await exchange.head(200, Content_Encoding="gzip", Content_Length=len(packed))
        await exchange.raw(packed[: len(packed) if tries else len(packed) - at])
        if not tries:
            exchange.writer.close()
        tries.append(1)

    tries: list[int] = []
    async with plane(stored(send)) as (batch, _):
        assert await download(batch) == DATA * 50


async def test_a_file_that_cannot_be_unpacked_is_a_failure() -> None:
    async with plane(stored(saying(200, b"not gzip", Content_Encoding="gzip"))) as (batch, _):
        assert (await failed(download(batch))).code == "provider_connection_lost"


async def test_a_download_that_gets_no_byte_is_given_up() -> None:
    async with plane(stored(saying(403, NO_ACCESS))) as (batch, server):
        failure = await failed(download(batch))
    assert (failure.code, failure.retryable) == ("provider_file_refused", True)
    assert "SignatureDoesNotMatch" in failure.message
    assert server.calls.count("GET storage/out") == ATTEMPTS


async def test_a_storage_that_wants_a_long_pause_is_left_alone() -> None:
    async with plane(stored(serving(cut=5), saying(503, Retry_After="31"))) as (batch, server):
        failure = await failed(download(batch))
    assert failure.retry_after_s == 31
    assert server.calls.count("GET storage/out") == 2


async def test_the_control_plane_may_fail_between_two_tries() -> None:
    async def list_files(exchange: Exchange) -> None:
        status = statuses.pop(0)
        await exchange.json(FILES if status == 200 else {"code": 14}, status)

    for last, statuses in ((200, [200, 200, 503, 503, 200]), (403, [200, 200, 503, 403])):
        answers = [serving(cut=5), serving()]

        async def file(exchange: Exchange, answers: list[Script] = answers) -> None:
            await answers.pop(0)(exchange)

        async with plane(by_call(get_getDownloadEndpoint=list_files, get_storage=file)) as (batch, _):
            if last == 200:
                assert await download(batch) == DATA
            else:
                assert (await failed(download(batch))).provider_status == 403
        assert statuses == []


@pytest.mark.parametrize("framing", ["silence", "broken chunks"])
async def test_a_download_that_stands_still_is_begun_again(framing: str) -> None:
    async def stall(exchange: Exchange) -> None:
        if framing == "silence":
            await exchange.head(200, Content_Length=SIZE)
            await exchange.raw(DATA[:10])
        else:
            await exchange.head(200, Transfer_Encoding="chunked")
            await exchange.raw(b"a\r\n%s\r\nZZZ\r\nxx" % DATA[:10])
        await exchange.until_gone()

    async with plane(stored(stall, serving(ETag=None)), gap_s=2 * SOON) as (batch, server):
        assert await download(batch) == DATA
        assert server.calls.count("GET storage/out") == 2


async def test_the_time_that_the_reader_takes_is_no_gap() -> None:
    async def in_two(exchange: Exchange) -> None:
        await exchange.head(200, Content_Length=SIZE)
        await exchange.raw(DATA[:10])
        await heard.wait()
        await exchange.raw(DATA[10:])

    heard = asyncio.Event()
    async with plane(stored(in_two), gap_s=3 * SOON) as (batch, server):
        file = await anext(batch.files("d", credential=None))
        got = await anext(file.chunks)
        await rest(5 * SOON)
        heard.set()
        got += b"".join([chunk async for chunk in file.chunks])
        assert (got, server.calls.count("GET storage/out")) == (DATA, 1)


@pytest.mark.parametrize("leave", ["chunks", "files"])
async def test_leaving_a_download_closes_its_connection_at_once(leave: str) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(200, Content_Length=1_000_000)
        await exchange.raw(b"x" * 1000)
        await exchange.until_gone()

    async with plane(stored(endless)) as (batch, server):
        files = batch.files("d", credential=None)
        file = await anext(files)
        assert await anext(file.chunks)
        await (file.chunks if leave == "chunks" else files).aclose()
        assert not batch._plane._responses  # when the call returns, and not when somebody collects what it left
        await asyncio.wait_for(server.gone.wait(), LATER)
        await files.aclose()


async def test_files_come_by_name_whatever_their_path_says() -> None:
    names = ["dataset/error-data-1/BIJOutputSet.jsonl", "dataset/error-data-1/error-data", "plain", "b/"]
    urls = {"filenameToSignedUrls": {name: f"@/storage/{number}" for number, name in enumerate(names)}}

    async def file(exchange: Exchange) -> None:
        await exchange.answer(200, exchange.target.encode())

    async with (
        plane(by_call(get_getDownloadEndpoint=always(urls), get_storage=file)) as (batch, _),
        aclosing(batch.files("d", credential=None)) as found,
    ):
        said = [(each.name, b"".join([chunk async for chunk in each.chunks])) async for each in found]
    assert said == [("b/", b"/storage/3"), ("BIJOutputSet.jsonl", b"/storage/0"), ("error-data", b"/storage/1"),
                    ("plain", b"/storage/2")]  # fmt: skip


# -- against the emulator ----------------------------------------------------------------------------------------------

LINE = b'{"custom_id": "row-%08d", "body": {"messages": [{"role": "user", "content": "' + b"x" * 1000 + b'"}]}}\n'
LINES = 58_000
CUT = BatchRule(when=BatchWhen(operation="get_file"), faults=("download_cut=30000000",), times=1)


async def many() -> AsyncGenerator[bytes, None]:
    for number in range(LINES):
        yield LINE % number


@BOTH_WAYS
@pytest.mark.requirement("BATCH-04")
async def test_sixty_megabytes_go_up_and_come_down_in_a_few(signed: bool) -> None:
    size = len(LINE % 0) * LINES
    assert size > 59 * MEGABYTE
    async with emulator(CUT) as (batch, running):
        await batch.create_dataset("in-1", "many", LINES, credential=None)
        tracemalloc.start()
        try:
            await batch.upload("in-1", many, size, signed=signed, credential=None)
            read = await length_of(batch, "in-1")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (read, running.stats.batch.bytes_uploaded, running.stats.batch.bytes_downloaded) == (size, size, size)
    assert peak < 5 * MEGABYTE, f"{peak / MEGABYTE:.1f} MB"


@pytest.mark.requirement("BATCH-07")
async def test_a_url_that_expires_between_two_tries_is_asked_for_anew() -> None:
    get_file = BatchWhen(operation="get_file")
    rules = [BatchRule(when=get_file, faults=faults, times=1) for faults in (("download_cut=100",), ("expired",))]
    async with emulator(*rules) as (batch, running):
        await batch.create_dataset("in-1", "some", 10, credential=None)
        rows = Rows(*(LINE % number for number in range(10)))
        await batch.upload("in-1", rows, rows.size, signed=False, credential=None)
        assert await length_of(batch, "in-1") == rows.size
        calls = running.stats.batch.calls
        assert (calls["get_file"], calls["get_download_endpoint"], running.stats.batch.keys_leaked) == (3, 4, 0)


async def length_of(batch: FireworksBatch, dataset: str) -> int:
    return sum([len(chunk) async for file in batch.files(dataset, credential=None) async for chunk in file.chunks])


@asynccontextmanager
async def emulator(*rules: BatchRule) -> AsyncIterator[tuple[FireworksBatch, Running]]:
    running = await serve(EmulatorConfig(batch=BatchConfig(speed=0, rules=rules)))
    batch = FireworksBatch(running.api_url, "acct", lambda _: "fw_x", timeouts=BatchTimeouts(pause_s=0.001))
    try:
        yield batch, running
    finally:
        await batch.close()
        await running.close()
