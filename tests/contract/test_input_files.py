"""Files that a batch names: below one folder only, whole or not at all, and never held as a whole."""

import asyncio
import gc
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from api_contracts.failure import Failure
from tests.waiting import eventually_async, one_turn
from workers.adapters.inputs import InputFiles, is_public
from workers.ports import ProviderFailed

MB = 1_000_000
Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "secret.jsonl").write_bytes(b"secret\n")
    (tmp_path / "in" / "rows.jsonl").write_bytes(b"one\ntwo\n")
    (tmp_path / "in" / "deep" / "rows.jsonl").write_bytes(b"deep\n")
    return tmp_path / "in"


async def content(inputs: InputFiles, source: object) -> bytes:
    return b"".join([chunk async for chunk in inputs.read(str(source))])


async def failure(inputs: InputFiles, source: object) -> Failure:
    with pytest.raises(ProviderFailed) as caught:
        await content(inputs, source)
    found = caught.value.failure
    assert (found.code, found.at_fault) == ("input_unreadable", "caller")
    return found


def open_files() -> set[str]:
    """Return what this process has open."""
    found = set[str]()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(each.readlink()))
        except OSError:  # the listing's own
            continue
    return found


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-01")
async def test_a_file_below_the_folder_is_read(folder: Path) -> None:
    inputs = InputFiles(folder)
    assert await content(inputs, folder / "rows.jsonl") == b"one\ntwo\n"
    assert await content(inputs, folder / "deep" / ".." / "deep" / "rows.jsonl") == b"deep\n"
    (folder / "empty.jsonl").touch()
    assert await content(inputs, folder / "empty.jsonl") == b""


async def test_a_link_below_the_folder_to_a_file_below_it_is_followed(folder: Path) -> None:
    (folder / "link.jsonl").symlink_to(folder / "deep" / "rows.jsonl")
    (folder / "linked").symlink_to(folder / "deep")
    for path in ("link.jsonl", "linked/rows.jsonl"):
        assert await content(InputFiles(folder), folder / path) == b"deep\n"


async def test_a_folder_that_is_itself_reached_by_a_link_is_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(folder)
    assert await content(InputFiles(tmp_path / "alias"), tmp_path / "alias" / "rows.jsonl") == b"one\ntwo\n"


@pytest.mark.parametrize("path", ["../secret.jsonl", "deep/../../secret.jsonl", "link", "linked/secret.jsonl"])
async def test_nothing_outside_of_the_folder_is_read(folder: Path, path: str) -> None:
    (folder / "link").symlink_to(folder.parent / "secret.jsonl")
    (folder / "linked").symlink_to(folder.parent)
    found = await failure(InputFiles(folder), folder / path)
    assert "FW_BATCH_FOLDER" in found.message
    assert not found.retryable


async def test_a_folder_whose_name_only_begins_alike_is_outside(folder: Path) -> None:
    other = folder.with_name("in-other")
    other.mkdir()
    (other / "rows.jsonl").write_bytes(b"other\n")
    assert "FW_BATCH_FOLDER" in (await failure(InputFiles(folder), other / "rows.jsonl")).message


@pytest.mark.parametrize(
    ("path", "words"),
    [("gone.jsonl", "No such file"), ("deep", "no regular file"), ("rows.jsonl/x", "Not a directory"),
     ("pipe", "no regular file"), ("loop", "cannot be read"), ("x" * 300, "too long"), (".", "no regular file")],
)  # fmt: skip
async def test_what_is_no_file_is_the_callers_failure(folder: Path, path: str, words: str) -> None:
    """A pipe without a writer would keep its thread for ever."""
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    before = open_files()
    found = await failure(InputFiles(folder), folder / path)
    assert words in found.message
    assert not found.retryable
    assert open_files() == before


async def test_a_device_is_no_file() -> None:
    assert "no regular file" in (await failure(InputFiles(Path("/")), "/dev/zero")).message


async def test_a_reader_that_stops_closes_the_file(folder: Path) -> None:
    large = folder / "large.jsonl"
    large.write_bytes(b"x" * 3 * MB)
    async with aclosing(InputFiles(folder).read(str(large))) as chunks:
        assert 0 < len(await anext(chunks)) < MB
        assert str(large) in open_files()
    assert str(large) not in open_files()


async def test_a_task_that_is_cancelled_leaves_no_file_open(folder: Path) -> None:
    large = folder / "large.jsonl"
    large.write_bytes(b"x" * 3 * MB)

    async def is_closed() -> bool:
        return str(large) not in open_files()

    for turns in range(12):
        reading = asyncio.create_task(content(InputFiles(folder), large))
        for _ in range(turns):
            await one_turn()
        reading.cancel()
        await asyncio.wait([reading])
        assert await eventually_async(is_closed)
    gc.collect()  # a file that nobody closed would say so


async def test_a_large_file_is_never_held_as_a_whole(folder: Path) -> None:
    large = folder / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(60 * MB)
    gc.collect()
    tracemalloc.start()
    size = 0
    try:
        async for chunk in InputFiles(folder).read(str(large)):
            size += len(chunk)
        assert tracemalloc.get_traced_memory()[1] < 3 * MB
    finally:
        tracemalloc.stop()
    assert size == 60 * MB


# -- URLs --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """Yield the URL of a file on a server that answers each request by the test's script."""
    ended = asyncio.Event()
    ended.set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.clear()
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(writer)
            await writer.drain()
        except ConnectionError:
            pass  # the client has gone
        finally:
            writer.close()
            ended.set()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    yield f"http://{host}:{port}/rows.jsonl?signature=s3cret"
    listening.close()
    await ended.wait()


def answers(head: str, body: bytes = b"") -> Serve:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body)

    return serve


@pytest.mark.requirement("BATCH-01")
@pytest.mark.parametrize("head", ["200 OK\r\nContent-Length: 8", "200 OK"])
async def test_a_url_is_read(folder: Path, head: str) -> None:
    async with server(answers(head, b"one\ntwo\n")) as url:
        assert await content(InputFiles(folder, private_urls=True), url) == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("head", "retryable"),
    [("404 Not Found", False), ("403 Forbidden", False), ("302 Found\r\nLocation: /x", False), ("206 Part", False),
     ("429 Slow", True), ("408 Late", True), ("500 Oops", True), ("503 Busy", True)],
)  # fmt: skip
async def test_a_server_that_does_not_give_the_file(folder: Path, head: str, retryable: bool) -> None:
    async with server(answers(head + "\r\nContent-Length: 0")) as url:
        found = await failure(InputFiles(folder, private_urls=True), url)
    assert head[:3] in found.message
    assert found.retryable is retryable


@pytest.mark.parametrize(
    ("head", "body"),
    [("200 OK\r\nContent-Length: 100", b"one\n"), ("200 OK\r\nTransfer-Encoding: chunked", b"4\r\none\n\r\n"),
     ("nonsense", b"")],
)  # fmt: skip
async def test_a_file_that_is_cut_is_no_file_and_may_be_whole_the_next_time(
    folder: Path, head: str, body: bytes
) -> None:
    async with server(answers(head, body)) as url:
        found = await failure(InputFiles(folder, private_urls=True), url)
    assert found.retryable
    assert "s3cret" not in found.message


async def test_a_server_that_is_not_there_may_be_there_the_next_time(folder: Path) -> None:
    async with server(answers("200 OK")) as url:
        pass
    found = await failure(InputFiles(folder, private_urls=True), url)
    assert found.retryable
    assert "s3cret" not in found.message


async def test_a_server_that_falls_silent_is_not_waited_for(folder: Path) -> None:
    go = asyncio.Event()

    async def silent(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\none\n")
        await writer.drain()
        await go.wait()

    async with server(silent) as url:
        assert (await failure(InputFiles(folder, private_urls=True, gap_s=0.05), url)).retryable
        go.set()


@pytest.mark.parametrize("url", ["http://host:99999999/x", "http://[::1/x"])
async def test_a_url_that_cannot_be_one_is_not_tried_again(folder: Path, url: str) -> None:
    assert not (await failure(InputFiles(folder, private_urls=True), url)).retryable


async def test_a_large_file_of_a_server_is_never_held_as_a_whole(folder: Path) -> None:
    async def large(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n")
        piece = bytes(100_000)
        for _ in range(400):
            writer.write(piece)
            await writer.drain()

    size = 0
    async with server(large) as url:
        tracemalloc.start()
        try:
            async for chunk in InputFiles(folder, private_urls=True).read(url):
                size += len(chunk)
            assert tracemalloc.get_traced_memory()[1] < 8 * MB
        finally:
            tracemalloc.stop()
    assert size == 40 * MB


async def test_a_reader_that_stops_closes_the_connection(folder: Path) -> None:
    gone = asyncio.Event()

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(bytes(100_000))
                await writer.drain()
        except ConnectionError:
            gone.set()
            raise

    async with server(endless) as url:
        async with aclosing(InputFiles(folder, private_urls=True).read(url)) as chunks:
            assert await anext(chunks)
        await asyncio.wait_for(gone.wait(), 10)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("OPS-13")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
async def test_a_url_that_leads_to_this_machine_is_refused_and_nobody_is_asked(folder: Path, host: str) -> None:
    asked = list[bool]()

    async def answer(writer: asyncio.StreamWriter) -> None:
        asked.append(True)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with server(answer) as url:
        found = await failure(InputFiles(folder), url.replace("127.0.0.1", host))
    # Some ways to write it are no address for the library.
    assert "FW_PRIVATE_URLS" in found.message or found.message == "the URL cannot be used"
    assert not found.retryable
    assert asked == []


@pytest.mark.requirement("OPS-13")
@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False),
     ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False),
     ("fd00:ec2::254", False),
     ("fe80::1%eth0", False), ("::1", False), ("::", False), ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True),
     ("64:ff9b::a00:1", False), ("64:ff9b::808:808", True), ("2002:7f00:1::", False), ("ff02::1", False)],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.requirement("OPS-13")
async def test_no_file_is_read_where_the_operator_named_no_folder(folder: Path) -> None:
    found = await failure(InputFiles(None), folder / "rows.jsonl")
    assert "FW_BATCH_FOLDER is not set in the worker" in found.message
    assert not found.retryable
