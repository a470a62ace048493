"""The deadlines of an answer, each with its own code (CHAT-11), over real sockets."""

import asyncio
from typing import Any

import pytest

from tests.contract.scripted_provider import (
    BODY,
    END,
    KEY,
    ROLE,
    SOON,
    A,
    B,
    Line,
    Script,
    failed,
    listening,
    only_headers,
    provider,
    said,
    timeouts,
)
from tests.unit.adapters.fireworks.wire import sse
from tests.waiting import eventually_async
from workers.adapters.fireworks.chat import FireworksChat
from workers.adapters.fireworks.deadlines import Timeouts
from workers.bootstrap import timeouts_of
from workers.emulator import EmulatorConfig, Rule, Scene, serve
from workers.emulator.catalogue import DEFAULT_MODELS
from workers.ports import ProviderFailed
from workers.settings import read_settings

pytestmark = pytest.mark.requirement("CHAT-11")


async def test_a_connection_that_does_not_come_about_has_its_own_code() -> None:
    async def no_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1000):
                pass
        finally:
            writer.close()

    async with listening(no_handshake) as port:
        chat = FireworksChat(f"https://127.0.0.1:{port}", lambda _: KEY, timeouts=timeouts(connect_s=SOON))
        _, failure = await failed(chat)
        await chat.close()
    assert (failure.code, failure.category, failure.retryable) == ("provider_connect_timeout", "timeout", True)


async def _no_answer(line: Line) -> None:
    await line.until_gone()


async def _only_heartbeats_and_a_role(line: Line) -> None:
    await line.head()
    await line.repeat_until_gone(b": still there\n\nevent: ping\ndata: {}\n\n" + sse(ROLE, done=False))


@pytest.mark.parametrize("script", [_no_answer, only_headers, _only_heartbeats_and_a_role])
async def test_an_answer_that_says_nothing_useful_in_time_has_its_own_code(script: Script) -> None:
    async with provider(script, timeouts=timeouts(first_token_s=SOON)) as (chat, server):
        _, failure = await failed(chat)
        await asyncio.wait_for(server.gone.wait(), 10)
    assert (failure.code, failure.retryable) == ("provider_first_token_timeout", True)


async def test_a_gap_in_the_answer_has_its_own_code_and_heartbeats_do_not_fill_it() -> None:
    async def stall(line: Line) -> None:
        await line.head()
        await line.send(sse(ROLE, A, done=False))
        await line.repeat_until_gone(b": still there\n\n")

    async with provider(stall, timeouts=timeouts(gap_s=SOON)) as (chat, server):
        chunks, failure = await failed(chat)
        await asyncio.wait_for(server.gone.wait(), 10)
    assert chunks == [ROLE, A]
    assert (failure.code, failure.retryable) == ("provider_gap_timeout", True)


async def test_an_answer_that_never_ends_has_its_own_code() -> None:
    async def dribble(line: Line) -> None:
        await line.head()
        await line.repeat_until_gone(sse(A, done=False))

    async with provider(dribble, timeouts=timeouts(total_s=2 * SOON)) as (chat, server):
        chunks, failure = await failed(chat)
        await asyncio.wait_for(server.gone.wait(), 10)
    assert chunks
    assert (failure.code, failure.retryable) == ("provider_total_timeout", False)


async def test_an_answer_that_never_ends_and_never_pauses_is_given_up_at_a_size() -> None:
    async def pour(line: Line) -> None:
        await line.head()
        while True:
            await line.send(sse(*[A] * 50, done=False))

    async with provider(pour, most_bytes=2_000_000) as (chat, _):
        chunks, failure = await failed(chat)
    assert 0 < len(chunks) * len(sse(A, done=False)) <= 2_000_000
    assert (failure.code, failure.retryable) == ("provider_answer_too_large", False)


@pytest.mark.parametrize(
    ("spoken", "code"), [([], "provider_first_token_timeout"), ([ROLE, A], "provider_gap_timeout")]
)
async def test_a_provider_that_sends_byte_after_byte_and_no_chunk_is_given_up(spoken: list[Any], code: str) -> None:
    """A byte a second keeps a connection alive and completes an event in five minutes."""

    async def drip(line: Line) -> None:
        await line.head()
        if spoken:
            await line.send(sse(*spoken, done=False))
        await line.send(b"data: ")
        await line.repeat_until_gone(b" ")

    async with provider(drip, timeouts=timeouts(first_token_s=2 * SOON, gap_s=2 * SOON)) as (chat, server):
        chunks, failure = await failed(chat)
        await asyncio.wait_for(server.gone.wait(), 10)
    assert (chunks, failure.code) == (spoken, code)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("slow_first_token=30", "provider_first_token_timeout"),
        ("stall_after=2", "provider_gap_timeout"),
        ("drip=20", "provider_first_token_timeout"),
        ("endless,pace=200", "provider_total_timeout"),
    ],
)
async def test_the_stand_in_plays_each_deadline(fault: str, code: str) -> None:
    running = await serve(EmulatorConfig(scene=Scene(rules=(Rule(faults=tuple(fault.split(","))),))))
    bounds = timeouts(first_token_s=1, gap_s=1, total_s=2)
    chat = FireworksChat(running.inference_url, lambda _: "fw_x", timeouts=bounds)
    body = {"model": DEFAULT_MODELS[0].id, "messages": [{"role": "user", "content": "Tell me a story"}]}
    try:
        _, failure = await failed(chat, body=body)
    finally:
        await chat.close()
        await running.close()
    assert failure.code == code


def test_each_deadline_is_a_setting_of_its_own() -> None:
    given = {"provider_connect_s": 1, "provider_first_token_s": 2, "provider_gap_s": 3, "provider_total_s": 4}
    assert timeouts_of(read_settings(redis_url="redis://none", **given)) == Timeouts(1, 2, 3, 4)
    assert timeouts_of(read_settings(redis_url="redis://none")) == Timeouts()


async def test_a_total_that_is_shorter_than_the_first_token_deadline_counts() -> None:
    for script in (_no_answer, only_headers):
        async with provider(script, timeouts=timeouts(total_s=SOON)) as (chat, _):
            assert (await failed(chat))[1].code == "provider_total_timeout"


async def _rest(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    rested_at = loop.time() + seconds

    async def rested() -> bool:
        return loop.time() > rested_at

    await eventually_async(rested)


async def test_the_time_that_the_reader_of_the_chunks_takes_is_no_gap() -> None:
    heard = asyncio.Event()

    async def one_by_one(line: Line) -> None:
        await line.head()
        for each in (A, B, END):
            await line.send(sse(each, done=False))
            await heard.wait()
            heard.clear()
        await line.end()

    found = []
    async with provider(one_by_one, timeouts=timeouts(gap_s=SOON)) as (chat, _):
        async for together in chat.stream(BODY, credential=None, request_id="r"):
            found += together
            heard.set()
            await _rest(2 * SOON)
    assert found == [A, B, END]


async def test_an_answer_that_outlasts_its_total_ends_although_its_data_is_there() -> None:
    heard = asyncio.Event()

    async def twice(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False))
        await heard.wait()
        await line.send(sse(B, done=False))
        await line.until_gone()

    async with provider(twice, timeouts=timeouts(total_s=SOON)) as (chat, _):
        stream = chat.stream(BODY, credential=None, request_id="r")
        assert await anext(stream) == [A]
        heard.set()
        await _rest(2 * SOON)
        with pytest.raises(ProviderFailed, match="provider_total_timeout"):
            await anext(stream)


async def test_what_happens_after_a_whole_answer_spoils_nothing() -> None:
    async def stall(line: Line) -> None:
        await line.head()
        await line.send(sse(A, END, done=False))
        await line.until_gone()

    async def break_off(line: Line) -> None:
        await line.head()
        await line.send(sse(A, END, done=False))
        await heard.wait()
        line.cut()

    heard = asyncio.Event()
    async with provider(stall, timeouts=timeouts(gap_s=SOON)) as (chat, _):
        assert await said(chat) == [A, END]
    async with provider(break_off) as (chat, _):
        stream = chat.stream(BODY, credential=None, request_id="r")
        assert await anext(stream) == [A, END]
        heard.set()
        assert [found async for found in stream] == []
