"""The chat endpoint over real sockets: what is asked, and how the answer is read."""

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any

import pytest

from api_contracts.chat import ChatRequest
from tests.contract.scripted_provider import (
    BODY,
    END,
    KEY,
    ROLE,
    A,
    B,
    Line,
    failed,
    provider,
    said,
    whole,
)
from tests.unit.adapters.fireworks.wire import chunk, sse, usage_only
from tests.waiting import eventually_async
from workers.adapters.fireworks.chat import FireworksChat
from workers.core.chat.account import truncations
from workers.core.chat.assembler import Answer, DeltaAssembler
from workers.core.chat.body import body_of
from workers.core.limits.meters import Stated, Word
from workers.emulator import EmulatorConfig, Reply, Rule, Scene, serve
from workers.emulator.catalogue import DEFAULT_MODELS
from workers.ports import AnswerTimes, ProviderFailed

# -- asking --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-13", "CHAT-03")
async def test_every_request_asks_for_a_stream_with_usage() -> None:
    async with provider(whole) as (chat, server):
        assert await said(chat, {**BODY, "max_tokens": 100_000}) == [ROLE, A, B, END, usage_only(prompt_tokens=1)]
    (asked,) = server.asked
    assert asked.line == "POST /inference/v1/chat/completions HTTP/1.1"
    sent = {**BODY, "max_tokens": 100_000, "stream": True, "stream_options": {"include_usage": True}}
    assert json.loads(asked.body) == sent
    assert {name: asked.headers[name] for name in ("authorization", "accept", "content-type", "x-request-id")} == {
        "authorization": f"Bearer {KEY}",
        "accept": "text/event-stream",
        "content-type": "application/json",
        "x-request-id": "run-1/1",
    }


async def test_a_credential_chooses_the_key() -> None:
    async with provider(whole) as (chat, server):
        await said(chat, credential="team-b")
    assert server.asked[0].headers["authorization"] == "Bearer key-of-b"


async def test_an_unknown_credential_is_the_callers_mistake_and_asks_nobody() -> None:
    async with provider(whole) as (chat, server):
        _, failure = await failed(chat, credential="team-x")
    assert (failure.code, failure.at_fault, failure.retryable) == ("unknown_credential", "caller", False)
    assert server.asked == []


async def test_a_body_of_many_megabytes_is_sent() -> None:
    async with provider(whole) as (chat, server):
        await said(chat, {**BODY, "user": "x" * 3_000_000})
    assert len(server.asked[0].body) > 3_000_000


@pytest.mark.requirement("OPS-10")
@pytest.mark.parametrize("status", [200, 429])
async def test_what_the_head_of_an_answer_says_of_the_limits_is_told(status: int) -> None:
    async def answer(line: Line) -> None:
        limits = {"X_RateLimit_Limit_Tokens_Generated": "36000", "x_ratelimit_remaining_tokens_generated": "9000"}
        await line.head(status, **limits)
        await line.send(sse(A, END) + b"data: [DONE]\n\n")
        await line.end()

    heard: list[Any] = []
    async with provider(answer, heard=lambda *told: heard.append(told)) as (chat, _):
        if status == 200:
            await said(chat, credential="team-b")
        else:
            await failed(chat, credential="team-b")
    word = Word(stated=(None, None, None, Stated(36_000.0, 0.25)), refused=status != 200)
    assert heard == [("team-b", BODY["model"], word)]


@pytest.mark.parametrize("odd", [{"seed": 2**70}, {"user": "\ud83d"}, {"user": object()}])
async def test_what_cannot_be_written_as_json_is_a_failure_and_asks_nobody(odd: dict[str, Any]) -> None:
    async with provider(whole) as (chat, server):
        with pytest.raises(ProviderFailed) as caught:
            await said(chat, {**BODY, **odd})
    assert (caught.value.failure.code, caught.value.failure.at_fault) == ("request_not_sendable", "caller")
    assert server.asked == []


async def test_a_request_id_that_is_no_header_is_a_failure() -> None:
    async with provider(whole) as (chat, _):
        _, failure = await failed(chat, request_id="a\r\nb: c")
    assert failure.code == "request_not_sendable"


async def test_a_redirect_is_not_followed_with_our_key() -> None:
    async def elsewhere(line: Line) -> None:
        await line.head(307, Location=line.provider.url + "/elsewhere")
        await line.end()

    async with provider(elsewhere) as (chat, server):
        _, failure = await failed(chat)
    assert (failure.code, failure.provider_status) == ("provider_unexpected_answer", 307)
    assert len(server.asked) == 1


async def test_a_connection_serves_one_answer_after_the_other() -> None:
    heard = asyncio.Event()

    async def end_late(line: Line) -> None:
        await line.head()
        await line.send(sse(A, END))
        await heard.wait()
        heard.clear()
        await line.end()

    async with provider(end_late) as (chat, server):
        for _ in range(3):
            async for together in chat.stream(BODY, credential=None, request_id="r"):
                assert together == [A, END]
                heard.set()
    assert (server.connections, len(server.asked)) == (1, 3)


# -- reading -------------------------------------------------------------------------------------------------------


async def test_chunks_are_there_as_soon_as_they_are_sent() -> None:
    heard = asyncio.Event()

    async def one_by_one(line: Line) -> None:
        await line.head()
        for each in (A, B):
            await line.send(sse(each, done=False))
            await heard.wait()
            heard.clear()
        await line.end()

    async with provider(one_by_one) as (chat, _):
        stream = chat.stream(BODY, credential=None, request_id="r")
        assert await anext(stream) == [A]
        heard.set()
        assert await anext(stream) == [B]
        heard.set()
        assert [found async for found in stream] == []


class Lulls:
    """What a reader is told before each read: at first nothing, then to rest until `over`."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = asyncio.Event()

    def __call__(self) -> asyncio.Future[None] | None:
        self.asked += 1
        if self.asked != 2:
            return None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun.set()
        return self.over


@pytest.mark.requirement("CHAT-02")
async def test_what_comes_during_a_lull_is_read_together_when_it_is_over() -> None:
    lulls = Lulls()

    async def in_three(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False))
        await lulls.begun.wait()
        await line.send(sse(A, done=False))
        await line.send(sse(B, done=False))
        await line.until_gone()

    async with provider(in_three) as (chat, server):
        async with aclosing(chat.stream(BODY, credential=None, request_id="r", lull=lulls)) as stream:
            assert await anext(stream) == [A]
            reading = asyncio.ensure_future(anext(stream))
            await lulls.begun.wait()
            two = 2 * len(sse(B, done=False))

            async def came() -> bool:
                return _unread(chat) >= two

            await eventually_async(came)
            assert not reading.done()
            lulls.over.set_result(None)
            assert await reading == [A, B]
        await asyncio.wait_for(server.gone.wait(), 10)


def _unread(chat: FireworksChat) -> int:
    """How much of the one answer that is under way has come, and was not read."""
    assert chat._session is not None
    assert chat._session.connector is not None
    (protocol,) = chat._session.connector._acquired
    payload = protocol._payload  # type: ignore[attr-defined]
    return payload._size if payload is not None else 0


@pytest.mark.requirement("CHAT-02", "CHAT-11")
@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_lull_is_over_with_the_answer(is_lost: bool) -> None:
    lulls = Lulls()

    async def then(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False))
        await lulls.begun.wait()
        await line.send(sse(END))
        line.cut() if is_lost else await line.end()

    async with provider(then) as (chat, _):
        stream = chat.stream(BODY, credential=None, request_id="r", lull=lulls)
        assert await anext(stream) == [A]
        with suppress(ProviderFailed):
            assert await asyncio.wait_for(anext(stream), 10) == [END]
        assert lulls.over.done()
        await stream.aclose()


@pytest.mark.requirement("CHAT-04")
async def test_a_character_that_is_cut_in_two_reads_is_whole() -> None:
    accent = chunk({"content": "é"})
    data = sse(accent, done=False)
    cut = data.index("é".encode()) + 1
    heard = asyncio.Event()

    async def cut_in_two(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False) + data[:cut])
        await heard.wait()
        await line.send(data[cut:])
        await line.end()

    async with provider(cut_in_two) as (chat, _):
        stream = chat.stream(BODY, credential=None, request_id="r")
        assert await anext(stream) == [A]
        heard.set()
        assert await anext(stream) == [accent]
        assert [found async for found in stream] == []


@pytest.mark.requirement("CHAT-05")
@pytest.mark.parametrize("chunks", [[], [A], [A, END]])
async def test_a_stream_that_just_ends_is_left_to_the_assembler(chunks: list[dict[str, Any]]) -> None:
    async def short(line: Line) -> None:
        await line.head()
        if chunks:
            await line.send(sse(*chunks, done=False))
        await line.end()

    async with provider(short) as (chat, _):
        assert await said(chat) == chunks


async def test_a_body_that_ends_with_its_connection_is_whole() -> None:
    async def until_closed(line: Line) -> None:
        await line.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + sse(A, END, done=False))
        line.writer.close()

    async with provider(until_closed) as (chat, _):
        assert await said(chat) == [A, END]


async def test_a_plain_json_answer_is_one_chunk() -> None:
    async def plain(line: Line) -> None:
        body = {"id": "c-1", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
        await line.head(kind="application/json")
        await line.send(json.dumps(body).encode())
        await line.end()

    async with provider(plain) as (chat, _):
        (found,) = await said(chat)
    assert found["choices"] == [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]


@pytest.mark.requirement("CHAT-21")
async def test_closing_the_stream_closes_the_connection_at_once() -> None:
    async def talk_on(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False))
        await line.until_gone()

    async with provider(talk_on) as (chat, server):
        async with aclosing(chat.stream(BODY, credential=None, request_id="r")) as stream:
            assert await anext(stream) == [A]
            assert not server.gone.is_set()
        await asyncio.wait_for(server.gone.wait(), 10)


@pytest.mark.requirement("CHAT-21")
@pytest.mark.parametrize("started", [True, False])
async def test_cancelling_the_reader_closes_the_connection_at_once(started: bool) -> None:
    at_it = asyncio.Event()

    async def say_no_more(line: Line) -> None:
        if started:
            await line.head()
        at_it.set()
        await line.until_gone()

    async with provider(say_no_more) as (chat, server):
        task = asyncio.create_task(said(chat))
        await asyncio.wait_for(at_it.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), 10)


# -- times, and what is cut ----------------------------------------------------------------------------------------


@pytest.mark.requirement("CHAT-19")
async def test_the_times_of_an_answer_are_written_down() -> None:
    async def with_times(line: Line) -> None:
        told = {"fireworks_server_time_to_first_token": "0.25", "fireworks_server_processing_time": "1.5"}
        await line.head(**told, fireworks_prompt_tokens="12")
        await line.send(sse(A, END))
        await line.end()

    async with provider(with_times) as (chat, server):
        first, second = AnswerTimes(), AnswerTimes()
        for times in (first, second):
            async for _ in chat.stream(BODY, credential=None, request_id="r", times=times):
                pass
        assert server.connections == 1
    assert 0 < (first.connect_s or 0) <= (first.first_byte_s or 0) < 10
    assert second.connect_s == 0.0, "the connection was there"
    assert first.server == {"server_time_to_first_token": 0.25, "server_processing_time": 1.5}


@pytest.mark.requirement("CHAT-14")
async def test_a_prompt_that_is_too_long_is_an_error_and_a_choice_cuts_the_answer() -> None:
    small = next(card.id for card in DEFAULT_MODELS if card.id.endswith("small"))
    running = await serve(EmulatorConfig(scene=Scene(rules=(Rule(reply=Reply(text="word " * 400)),))))
    chat = FireworksChat(running.inference_url, lambda _: "fw_x")
    asked = {"model": small, "max_tokens": 1000, "messages": [{"role": "user", "content": "tell me " * 100}]}
    by_default = ChatRequest.model_validate(asked)
    chosen = by_default.model_copy(update={"context_length_exceeded_behavior": "truncate"})
    try:
        _, failure = await failed(chat, body=body_of(by_default, {}, [], round_=1, tools=False))
        assembler, body = DeltaAssembler(), body_of(chosen, {}, [], round_=1, tools=False)
        for each in await said(chat, body):
            assembler.feed(each)
    finally:
        await chat.close()
        await running.close()
    assert (failure.code, failure.retryable) == ("prompt_too_long", False)
    answer = assembler.finish()
    assert isinstance(answer, Answer)
    (cut,) = truncations(body, answer, 1, 1)
    assert (cut.what, cut.asked_tokens, cut.got_tokens) == ("answer", 1000, answer.usage.completion_tokens)
    assert cut.got_tokens < 512
