"""What the chat endpoint makes of every way to go wrong, over real sockets."""

import asyncio
import gc
import logging
import traceback

import pytest

from tests.contract.scripted_provider import (
    BODY,
    END,
    KEY,
    SOON,
    A,
    Line,
    Script,
    failed,
    only_headers,
    provider,
    said,
    timeouts,
)
from tests.unit.adapters.fireworks.wire import sse
from tests.waiting import eventually_async
from workers.adapters.fireworks.chat import FireworksChat
from workers.ports import ProviderFailed


@pytest.mark.requirement("CHAT-09")
async def test_an_error_answer_is_read() -> None:
    async def limited(line: Line) -> None:
        await line.head(429, kind="application/json", Retry_After="7", X_Request_Id="p-1")
        await line.send(b'{"error": {"message": "rate limit exceeded, please try again later"}}')
        await line.end()

    async with provider(limited) as (chat, _):
        _, failure = await failed(chat)
    assert failure.code == "provider_rate_limited"
    assert (failure.retry_after_s, failure.provider_request_id) == (7.0, "p-1")


@pytest.mark.requirement("CHAT-09")
async def test_an_error_answer_without_an_end_is_known_by_its_status() -> None:
    async def endless(line: Line) -> None:
        await line.head(503)
        await line.until_gone()

    async def endless_and_large(line: Line) -> None:
        await line.head(503)
        await line.repeat_until_gone(b"x" * 60_000)

    for script in (endless, endless_and_large):
        async with provider(script, timeouts=timeouts(first_token_s=SOON)) as (chat, _):
            assert (await failed(chat))[1].code == "provider_unavailable"


@pytest.mark.requirement("CHAT-09")
@pytest.mark.parametrize(("model", "retryable"), [("accounts/a/deployments/d", True), ("m#d", True), ("m", False)])
async def test_only_a_missing_deployment_may_still_come(model: str, retryable: bool) -> None:
    async def missing(line: Line) -> None:
        await line.head(404)
        await line.end()

    async with provider(missing) as (chat, _):
        with pytest.raises(ProviderFailed) as caught:
            await said(chat, {**BODY, "model": model})
    assert caught.value.failure.retryable is retryable


@pytest.mark.requirement("CHAT-09")
async def test_an_error_inside_the_stream_comes_after_its_chunks() -> None:
    async def broken(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False) + b'event: error\ndata: {"message": "overloaded", "status": 503}\n\n')
        await line.until_gone()

    async with provider(broken) as (chat, _):
        chunks, failure = await failed(chat)
    assert chunks == [A]
    assert failure.code == "provider_unavailable"


async def _cut_at_once(line: Line) -> None:
    line.cut()


async def _speak_no_http(line: Line) -> None:
    await line.raw(b"220 mail.example.org ESMTP\r\n\r\n")
    await line.until_gone()


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize("script", [_cut_at_once, _speak_no_http])
async def test_a_connection_that_breaks_before_the_answer_is_a_retryable_transport_failure(script: Script) -> None:
    async with provider(script) as (chat, _):
        chunks, failure = await failed(chat)
    assert chunks == []
    assert (failure.code, failure.category, failure.retryable) == ("provider_connection_lost", "transport", True)


async def _cut(line: Line) -> None:
    line.cut()


async def _close_early(line: Line) -> None:
    line.writer.close()


async def _break_the_framing(line: Line) -> None:
    await line.raw(b"ZZZ\r\nxx")
    await line.until_gone()


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize("how", [_cut, _close_early, _break_the_framing])
async def test_a_connection_that_breaks_in_the_answer_is_a_retryable_transport_failure(how: Script) -> None:
    heard = asyncio.Event()

    async def broken(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False))
        await heard.wait()
        await how(line)

    async with provider(broken) as (chat, _):
        stream = chat.stream(BODY, credential=None, request_id="r")
        assert await anext(stream) == [A]
        heard.set()
        with pytest.raises(ProviderFailed) as caught:
            await anext(stream)
    failure = caught.value.failure
    assert (failure.code, failure.category, failure.retryable) == ("provider_connection_lost", "transport", True)


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", "http://no-such-host.invalid", "https://127.0.0.1:1"])
async def test_a_provider_that_cannot_be_reached_is_a_retryable_transport_failure(host: str) -> None:
    chat = FireworksChat(host, lambda _: KEY)
    _, failure = await failed(chat)
    await chat.close()
    assert (failure.code, failure.category, failure.retryable) == ("provider_unreachable", "transport", True)


async def test_a_kept_connection_that_is_reset_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard, over, lost = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def then_reset(line: Line) -> None:
        await line.head()
        await line.send(sse(A, done=False))
        await heard.wait()
        await line.send(sse(END))
        await line.end()
        if line.provider.connections == 1:
            await over.wait()
            line.cut()
            lost.set()

    async with provider(then_reset) as (chat, server):
        async for _ in chat.stream(BODY, credential=None, request_id="r"):
            heard.set()
        over.set()
        await lost.wait()

        async def answered() -> bool:  # the loss is noticed by the pool, or by a request on the dead connection
            try:
                return bool(await said(chat))
            except ProviderFailed:
                return False

        await eventually_async(answered)
        assert server.connections == 2
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_closing_ends_what_is_under_way_and_refuses_the_rest() -> None:
    async with provider(only_headers) as (chat, server):
        task = asyncio.create_task(failed(chat))

        async def asked() -> bool:
            return bool(server.asked)

        await eventually_async(asked)
        await chat.close()
        assert (await task)[1].code == "provider_connection_lost"
        assert (await failed(chat))[1].code == "provider_unreachable"


# -- the key -------------------------------------------------------------------------------------------------------


async def _tell_the_key(line: Line) -> None:
    await line.head(403)
    await line.send(
        b'{"error": {"message": "the key %s is invalid"}}'
        % line.provider.asked[0].headers["authorization"][7:].encode()
    )
    await line.end()


async def _tell_the_key_in_the_stream(line: Line) -> None:
    await line.head()
    await line.send(b'data: {"error": "no more for %s"}\n\n' % KEY.encode())
    await line.end()


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize("script", [_tell_the_key, _tell_the_key_in_the_stream, _cut_at_once, _speak_no_http])
async def test_the_key_is_in_no_exception_no_log_and_no_repr(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with provider(script) as (chat, _):
        with pytest.raises(ProviderFailed) as caught:
            await said(chat)
        told = [repr(chat), repr(vars(chat)), caplog.text, *traceback.format_exception(caught.value)]
    error: BaseException | None = caught.value
    assert error is not None
    told += [str(error), repr(error), error.failure.model_dump_json()] if isinstance(error, ProviderFailed) else []
    assert error.__cause__ is None
    assert error.__context__ is None
    assert KEY not in "".join(told)
