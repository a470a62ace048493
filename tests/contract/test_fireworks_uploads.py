"""Files to the provider over real sockets: what is sent, and what stops an upload (WIRE 3.3)."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.contract.scripted_plane import (
    BOTH_WAYS,
    LATER,
    NO_ACCESS,
    SOON,
    Exchange,
    Rows,
    Script,
    always,
    by_call,
    failed,
    plane,
    rest,
    upload,
)
from workers.adapters.fireworks.control_plane import ControlPlane
from workers.adapters.fireworks.transfer import Transfer

MEGABYTE = 1024 * 1024
DATASET = {"name": "accounts/acct/datasets/in-1", "state": "UPLOADING"}
UPLOADED = {"id": "accounts/acct/datasets/in-1", "object": "file", "bytes": 1}
URL = {"filenameToSignedUrls": {"in-1.jsonl": "@/storage/in-1?X-Goog-Credential=a%2Fb&X-Goog-Signature=%2b+~%20'"}}


async def taken(exchange: Exchange) -> None:
    await exchange.body()
    await (exchange.answer(200) if exchange.method == "PUT" else exchange.json(UPLOADED))


def uploads(file: Script, **others: Script) -> Script:
    """Let `file` answer whatever sends one; the other calls go well."""
    calls = {"get_datasets": always(DATASET), "post_getUploadEndpoint": always(URL), "post_validateUpload": always({})}
    return by_call(**{**calls, "post_upload": file, "put_storage": file, **others})


@pytest.mark.requirement("BATCH-04")
async def test_a_direct_upload_is_a_form_of_known_length_with_one_file() -> None:
    async with plane(uploads(taken)) as (batch, server):
        await upload(batch, rows := Rows())
    [asked] = server.asked
    assert (asked.method, asked.target) == ("POST", "/v1/accounts/acct/datasets/in-1:upload")
    assert int(asked.headers["content-length"]) == len(asked.sent)
    assert "transfer-encoding" not in asked.headers
    kind, _, border = asked.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    head, _, rest = asked.sent.partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        f"--{border}", 'Content-Disposition: form-data; name="file"; filename="in-1.jsonl"',
        "Content-Type: application/jsonl",
    ]  # fmt: skip
    assert rest == b"".join(rows.chunks) + f"\r\n--{border}--\r\n".encode()


@pytest.mark.requirement("BATCH-04")
async def test_a_signed_upload_sends_what_was_signed_and_no_key() -> None:
    async with plane(uploads(taken)) as (batch, server):
        await upload(batch, rows := Rows(), signed=True)
    assert server.calls == [
        "GET datasets/in-1", "POST datasets/in-1:getUploadEndpoint", "PUT storage/in-1",
        "POST datasets/in-1:validateUpload",
    ]  # fmt: skip
    _, endpoint, put, validate = server.asked
    assert endpoint.sent == b'{"filenameToSize":{"in-1.jsonl":"%d"}}' % rows.size
    assert put.target == "/storage/in-1?X-Goog-Credential=a%2Fb&X-Goog-Signature=%2b+~%20'"  # not one byte otherwise
    assert put.headers["content-type"] == "application/octet-stream"
    assert put.headers["x-goog-content-length-range"] == f"{rows.size},{rows.size}"
    assert int(put.headers["content-length"]) == rows.size
    assert not {"authorization", "cookie", "transfer-encoding"} & put.headers.keys()
    assert put.sent == b"".join(rows.chunks)
    assert validate.sent == b"{}"


@BOTH_WAYS
@pytest.mark.parametrize("how", ["at once", "with all buffers full", "and hangs up"])
async def test_a_refusal_ends_an_upload_that_is_still_under_way(signed: bool, how: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        if how == "with all buffers full":
            await rest(SOON)
        await exchange.answer(413, NO_ACCESS)
        if how == "and hangs up":
            exchange.writer.close()
        await exchange.until_gone()

    rows = Rows(*[b"x" * MEGABYTE] * 30, wait=asyncio.Event())
    async with plane(uploads(refuse)) as (batch, server):
        failure = await failed(upload(batch, rows, signed=signed))
        await asyncio.wait_for(server.gone.wait(), LATER)
    assert (failure.provider_status, failure.category) == (413, "protocol" if signed else "limit")
    assert rows.closed


@BOTH_WAYS
async def test_more_rows_than_were_announced_are_not_cut_to_fit(signed: bool) -> None:
    rows = Rows(b"x" * MEGABYTE, b"y" * MEGABYTE)
    rows.size = MEGABYTE
    async with plane(uploads(taken)) as (batch, server):
        with pytest.raises(ValueError, match="announced"):
            await upload(batch, rows, signed=signed)
    assert (server.asked[-1].method, server.asked[-1].sent) == ("PUT" if signed else "POST", b"")


@BOTH_WAYS
async def test_an_upload_that_ends_leaves_nothing_behind(signed: bool) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        for _ in range(10):
            yield b"x" * MEGABYTE
        raise LookupError("the database is gone")

    async def hush(exchange: Exchange) -> None:
        await exchange.until_gone()

    before = asyncio.all_tasks()
    async with plane(uploads(hush)) as (batch, server):
        with pytest.raises(LookupError) as caught:
            await batch.upload("in-1", endless, 30 * MEGABYTE, signed=signed, credential=None)
        assert asyncio.all_tasks() - server.handlers - before == set()
        assert caught.value.__context__ is None
        await asyncio.wait_for(server.gone.wait(), LATER)


@BOTH_WAYS
async def test_an_acknowledgement_before_the_last_byte_is_none(signed: bool) -> None:
    rows = Rows(*[b"x" * MEGABYTE] * 30)
    early = always(UPLOADED)

    async def at_once(exchange: Exchange) -> None:
        exchange.sent = b""
        await exchange.json(UPLOADED)
        await exchange.until_gone()

    async with plane(uploads(at_once)) as (batch, _):
        failure = await failed(upload(batch, rows, signed=signed))
    assert (failure.code, failure.retryable, rows.closed) == ("provider_unexpected_answer", True, True)
    async with plane(uploads(early)) as (batch, _):
        await upload(batch, rows, signed=signed)


@BOTH_WAYS
@pytest.mark.requirement("BATCH-03")
async def test_a_refused_upload_into_a_dataset_that_is_ready_has_been_done_before(signed: bool) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.body()
        seen.append(exchange)
        await exchange.json({"code": 9, "message": "takes no uploads"}, 400)

    async def look(exchange: Exchange) -> None:
        await exchange.json(DATASET | {"state": states.pop(0)})

    for last in ("READY", "UPLOADING"):
        seen: list[Exchange] = []
        states = [*["UPLOADING"] * signed, last]
        async with plane(uploads(refuse, get_datasets=look)) as (batch, _):
            if last == "READY":
                await upload(batch, signed=signed)
            else:
                assert (await failed(upload(batch, signed=signed))).provider_status == 400
        assert len(seen) == 1


@pytest.mark.parametrize(("state", "sent"), [("", 1), ("ENCRYPTION_STATE_PLAINTEXT", 1), ("ENCRYPTION_STATE_CMEK", 0)])
async def test_a_file_goes_by_a_signed_url_only_where_it_is_kept_as_it_is(state: str, sent: int) -> None:
    """So does the official client (WIRE 3.3)."""
    look = always(DATASET | {"encryptionState": state})
    async with plane(uploads(taken, get_datasets=look)) as (batch, server):
        if sent:
            await upload(batch, signed=True)
        else:
            assert (await failed(upload(batch, signed=True))).code == "dataset_encrypted"
    assert server.calls.count("PUT storage/in-1") == sent


async def test_a_signed_upload_into_a_ready_dataset_sends_nothing() -> None:
    async with plane(uploads(taken, get_datasets=always(DATASET | {"state": "READY"}))) as (batch, server):
        await upload(batch, signed=True)
    assert server.calls == ["GET datasets/in-1"]


@pytest.mark.parametrize("urls", [{}, {"filenameToSignedUrls": {}}, {"filenameToSignedUrls": {"other": "@/x"}}])
async def test_without_a_url_nothing_is_sent(urls: Any) -> None:
    async with plane(uploads(taken, post_getUploadEndpoint=always(urls))) as (batch, server):
        failure = await failed(upload(batch, signed=True))
    assert (failure.code, failure.retryable) == ("provider_unexpected_answer", True)
    assert "PUT storage/in-1" not in server.calls


@pytest.mark.parametrize(
    "url", ["http://h/x", "ftp://h/x", "//h/x", "/x", "", "None", "https://", "https://u:p@h/x", "https://h/a b",
            "https://h/a\r\nX:x", "https://h/a\tb", "https://h/é", "https://[h/x", "https://h:99999/x"],
)  # fmt: skip
async def test_a_url_that_is_less_safe_than_the_control_planes_is_refused(url: str) -> None:
    async def url_of() -> str:
        return url

    control = ControlPlane("https://api.example.com", "acct", lambda _: "k")
    transfer, rows = Transfer(control), Rows()
    for step in (transfer.put_file(url, rows, rows.size), anext(transfer.download(url_of))):
        failure = await failed(step)
        assert (failure.code, failure.retryable) == ("provider_unexpected_answer", False)
    await control.close()


@BOTH_WAYS
async def test_a_provider_that_takes_nothing_more_is_noticed(signed: bool) -> None:
    async def stall(exchange: Exchange) -> None:
        await done.wait()  # asyncio reads a little ahead, and no more
        await exchange.until_gone()

    done, rows = asyncio.Event(), Rows(*[b"x" * MEGABYTE] * 30)
    async with plane(uploads(stall), gap_s=SOON) as (batch, server):
        failure = await failed(upload(batch, rows, signed=signed))
        done.set()
        await asyncio.wait_for(server.gone.wait(), LATER)
    assert (failure.code, failure.retryable, rows.closed) == ("provider_gap_timeout", True, True)


@BOTH_WAYS
async def test_a_provider_that_never_acknowledges_is_noticed(signed: bool) -> None:
    async def hush(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.until_gone()

    async with plane(uploads(hush), answer_s=SOON) as (batch, server):
        failure = await failed(upload(batch, signed=signed))
        await asyncio.wait_for(server.gone.wait(), LATER)
    assert (failure.code, failure.retryable) == ("provider_answer_timeout", True)
    async with plane(uploads(taken, post_validateUpload=hush), answer_s=SOON) as (batch, server):
        assert (await failed(upload(batch, signed=True))).code == "provider_answer_timeout"


@BOTH_WAYS
async def test_the_time_that_the_rows_take_is_no_gap(signed: bool) -> None:
    rows = Rows(b"a" * MEGABYTE, b"b", wait=asyncio.Event())
    async with plane(uploads(taken), gap_s=3 * SOON, answer_s=3 * SOON) as (batch, _):
        sending = asyncio.create_task(upload(batch, rows, signed=signed))
        await rest(5 * SOON)
        assert not sending.done()
        assert rows.wait
        rows.wait.set()
        await sending


@pytest.mark.parametrize("status", [400, 403, 404, 503])
async def test_a_storages_refusal_is_worth_another_url_and_quotes_only_its_code(status: int) -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    async def refuse(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.answer(status, NO_ACCESS, Retry_After=in_a_minute)

    async with plane(uploads(refuse)) as (batch, _):
        failure = await failed(upload(batch, signed=True))
    assert (failure.code, failure.retryable, failure.at_fault) == ("provider_file_refused", True, "provider")
    assert failure.message == f"the storage answered {status} (SignatureDoesNotMatch)"
    assert 30 <= (failure.retry_after_s or 0) <= 60


async def test_a_put_that_breaks_is_not_sent_again_behind_our_back() -> None:
    """aiohttp repeats a PUT whose kept connection breaks; of a stream it has only the rest."""

    async def cut(exchange: Exchange) -> None:
        await exchange.reader.readexactly(1000)
        exchange.writer.transport.abort()

    async with plane(uploads(cut)) as (batch, server):
        failure = await failed(upload(batch, Rows(b"x" * MEGABYTE), signed=True))
    assert (failure.code, server.calls.count("PUT storage/in-1")) == ("provider_connection_lost", 1)
