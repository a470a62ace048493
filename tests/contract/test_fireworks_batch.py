"""The control plane over real sockets: what is asked, and what its answers mean (WIRE 3)."""

import asyncio
import gc
import json
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.contract.scripted_plane import (
    KEY,
    LATER,
    SOON,
    Exchange,
    Rows,
    Script,
    always,
    by_call,
    download,
    failed,
    plane,
    stored,
    upload,
    warnings_in,
)
from tests.contract.scripted_provider import listening
from tests.waiting import eventually_async
from workers.adapters.fireworks.batch import FireworksBatch
from workers.adapters.fireworks.control_plane import BatchTimeouts
from workers.core.batch.acts import CreateJob
from workers.core.batch.jobs import gone
from workers.ports import OutputUnavailable, ProviderFailed

DATASET = {"name": "accounts/acct/datasets/in-1", "state": "READY"}
JOB = {
    "name": "accounts/acct/batchInferenceJobs/job-1", "state": "JOB_STATE_RUNNING",
    "inputDatasetId": "accounts/acct/datasets/in-1", "outputDatasetId": "accounts/acct/datasets/out-1",
}  # fmt: skip
WANTED = CreateJob(1, "job-1", "run shard 1", "in-1", "out-1", "accounts/fireworks/models/m", {"maxTokens": 64}, None)
NOT_FOUND = always({"code": 5, "message": "resource not found", "details": []}, 404)
CONFLICT = always({"code": 6, "message": "already exists", "details": []}, 409)
A_PAGE = b"<html><title>Not Found</title></html>"

Step = Callable[[FireworksBatch], Awaitable[Any]]


async def files(batch: FireworksBatch) -> list[str]:
    return [file.name async for file in batch.files("d", credential=None)]


STEPS: dict[str, Step] = {
    "create_dataset": lambda batch: batch.create_dataset("in-1", "a name", 3, credential=None),
    "dataset_is_ready": lambda batch: batch.dataset_is_ready("in-1", credential=None),
    "upload": upload,
    "upload_signed": lambda batch: upload(batch, signed=True),
    "create_job": lambda batch: batch.create_job(WANTED, credential=None),
    "job": lambda batch: batch.job("job-1", credential=None),
    "stop": lambda batch: batch.stop("job-1", credential=None),
    "files": files,
}


# -- asking ------------------------------------------------------------------------------------------------------------


async def test_a_dataset_declares_its_rows_as_a_string_inside_the_dataset() -> None:
    async with plane(always(DATASET)) as (batch, server):
        assert await STEPS["create_dataset"](batch)
    [asked] = server.asked
    assert (asked.method, asked.target) == ("POST", "/v1/accounts/acct/datasets")
    dataset = {"displayName": "a name", "userUploaded": {}, "exampleCount": "3"}
    assert json.loads(asked.sent) == {"datasetId": "in-1", "dataset": dataset}
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.requirement("BATCH-20")
async def test_a_job_names_its_datasets_in_full_and_its_id_in_the_query() -> None:
    wanted = replace(WANTED, system_prompt="Be brief.", parameters={"topP": 0.5, "extraBody": '{"stop":["x"]}'})
    async with plane(always(JOB)) as (batch, server):
        view = await batch.create_job(wanted, credential=None)
        await batch.create_job(replace(WANTED, parameters={}), credential=None)
    full, bare = server.asked
    assert full.target == "/v1/accounts/acct/batchInferenceJobs?batchInferenceJobId=job-1"
    body = {
        "model": "accounts/fireworks/models/m", "displayName": "run shard 1",
        "inputDatasetId": "accounts/acct/datasets/in-1", "outputDatasetId": "accounts/acct/datasets/out-1",
    }  # fmt: skip
    said = {"systemPrompt": "Be brief.", "inferenceParameters": {"topP": 0.5, "extraBody": '{"stop":["x"]}'}}
    assert [json.loads(full.sent), json.loads(bare.sent)] == [body | said, body]
    assert (view.job, view.state, view.output) == ("job-1", "RUNNING", "out-1")


@pytest.mark.parametrize("step", ["dataset_is_ready", "job", "files", "stop"])
async def test_a_call_that_only_looks_or_deletes_has_no_body(step: str) -> None:
    answer = {"stop": {}, "job": JOB, "files": {"filenameToSignedUrls": {"a": "@/storage/a"}}}.get(step, DATASET)
    async with plane(always(answer)) as (batch, server):
        await STEPS[step](batch)
    [asked] = server.asked
    assert asked.method == ("DELETE" if step == "stop" else "GET")
    assert asked.headers.get("content-length", "0") == "0"
    assert not {"transfer-encoding", "content-type"} & asked.headers.keys()


async def test_a_credential_chooses_the_key() -> None:
    async with plane(always(JOB)) as (batch, server):
        await batch.job("job-1", credential="team-b")
    assert server.asked[0].headers["authorization"] == "Bearer key-of-b"


async def test_without_a_key_or_an_account_nobody_is_asked() -> None:
    async with plane(always(JOB)) as (batch, server):
        failure = await failed(batch.job("job-1", credential="team-x"))
    assert (failure.code, failure.at_fault, failure.retryable) == ("unknown_credential", "caller", False)
    assert server.asked == []
    async with plane(always(JOB), account="") as (batch, server):
        failures = [await failed(step(batch)) for step in STEPS.values()]
    assert {(each.code, each.at_fault) for each in failures} == {("account_id_missing", "us")}
    assert server.asked == []


@pytest.mark.parametrize("key", ["a\r\nb: c", "schlüssel"])
async def test_a_key_that_cannot_be_sent_is_not_told_either(key: str) -> None:
    batch = FireworksBatch("http://127.0.0.1:1", "acct", lambda _: key)
    failure = await failed(batch.job("job-1", credential=None))
    assert (failure.code, key in failure.message) == ("unknown_credential", False)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("d:upload", "acct/datasets/d%3Aupload"),
        ("a/b?c#d", "acct/datasets/a%2Fb%3Fc%23d"),
        ("%2e%2e é", "acct/datasets/%252e%252e%20%C3%A9"),
        ("accounts/other/datasets/d", "other/datasets/d"),
        ("accounts/a?b/datasets/d/e", "a%3Fb/datasets/d%2Fe"),
    ],
)
async def test_a_name_stays_one_segment_of_the_path(name: str, path: str) -> None:
    async with plane(NOT_FOUND) as (batch, server):
        await failed(batch.dataset_is_ready(name, credential=None))
        with pytest.raises(OutputUnavailable):
            await anext(batch.files(name, credential=None))
    assert [each.target for each in server.asked] == [
        f"/v1/accounts/{path}", f"/v1/accounts/{path}:getDownloadEndpoint"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a\r\nb", "\ud800", "accounts/", "accounts/a", "accounts/a/models/m",
             "accounts//datasets/d", "accounts/../datasets/d", "accounts/a/datasets/..", "accounts/a/datasets/"],
)  # fmt: skip
async def test_a_name_of_nothing_asks_nobody(name: str) -> None:
    async with plane(always(DATASET)) as (batch, server):
        failure = await failed(batch.dataset_is_ready(name, credential=None))
    assert (failure.code, failure.retryable, server.asked) == ("bad_resource_name", False, [])


@pytest.mark.parametrize("odd", [{"seed": 2**70}, {"stop": "\ud83d"}, {"x": object()}])
async def test_what_cannot_be_written_as_json_asks_nobody(odd: dict[str, Any]) -> None:
    async with plane(always(JOB)) as (batch, server):
        failure = await failed(batch.create_job(replace(WANTED, parameters=odd), credential=None))
    assert (failure.code, failure.at_fault, server.asked) == ("request_not_sendable", "caller", [])


# -- adopting ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-03")
async def test_a_dataset_that_is_taken_but_not_there_is_worth_another_try() -> None:
    async with plane(by_call(post_datasets=CONFLICT)) as (batch, server):
        failure = await failed(STEPS["create_dataset"](batch))
    assert (failure.code, failure.retryable) == ("provider_conflict", True)
    assert server.calls == ["POST datasets", "GET datasets/in-1"]


@pytest.mark.requirement("BATCH-03")
async def test_a_job_that_is_taken_but_not_there_is_worth_another_try() -> None:
    async with plane(by_call(post_batchInferenceJobs=CONFLICT)) as (batch, server):
        failure = await failed(STEPS["create_job"](batch))
    assert (failure.code, failure.retryable) == ("provider_conflict", True)
    assert server.calls == ["POST batchInferenceJobs", "GET batchInferenceJobs/job-1", "GET datasets/out-1"]


@pytest.mark.requirement("BATCH-03")
async def test_only_the_output_is_taken_so_the_provider_chooses_another() -> None:
    async def create(exchange: Exchange) -> None:
        taken = "outputDatasetId" in json.loads(await exchange.body())
        await (exchange.json({"code": 6}, 409) if taken else exchange.json(JOB | {"outputDatasetId": "bij-1"}))

    there = always({"name": "accounts/acct/datasets/out-1"})
    async with plane(by_call(post_batchInferenceJobs=create, get_datasets=there)) as (batch, _):
        view = await STEPS["create_job"](batch)
    assert (view.job, view.output) == ("job-1", "bij-1")


@pytest.mark.parametrize("says", [{}, {"name": "accounts/acct/datasets/x"}, {"name": 1}])
@pytest.mark.parametrize("step", ["create_dataset", "dataset_is_ready", "create_job", "job"])
async def test_an_answer_about_something_else_is_not_believed(step: str, says: dict[str, Any]) -> None:
    async with plane(always(says)) as (batch, _):
        failure = await failed(STEPS[step](batch))
    assert (failure.code, failure.retryable) == ("provider_unexpected_answer", True)


@pytest.mark.parametrize("step", ["job", "stop", "files", "create_dataset", "create_job"])
async def test_a_gateways_page_does_not_mean_that_something_is_gone_or_taken(step: str) -> None:
    """A job that is GONE is given up for good: the provider itself has to say so."""

    async def page(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.answer(404 if not step.startswith("create") else 409, A_PAGE, Content_Type="text/html")

    async with plane(page) as (batch, _):
        failure = await failed(STEPS[step](batch))
    assert (failure.code, failure.retryable) == ("provider_unexpected_answer", True)


@pytest.mark.parametrize(
    ("code", "retryable"), [("INVALID_ARGUMENT", False), ("INTERNAL", True), ("FAILED_PRECONDITION", False)]
)
async def test_a_dataset_whose_rows_were_refused_is_a_failure_at_once(code: str, retryable: bool) -> None:
    status = {"code": code, "message": "line 3 is bad, value: 'private'"}
    said = DATASET | {"state": "UPLOADING", "status": status}
    async with plane(by_call(get=always(said), post_datasets=CONFLICT)) as (batch, _):
        failure = await failed(STEPS["dataset_is_ready"](batch))
        assert not await STEPS["create_dataset"](batch)  # it may be filled again
    assert (failure.code, failure.retryable) == ("dataset_refused", retryable)
    assert ("line 3" in failure.message, "private" in failure.message) == (True, False)


@pytest.mark.parametrize("status", [{}, {"code": "OK"}, {"code": ""}, None, "OK"])
async def test_a_dataset_that_is_only_slow_is_no_failure(status: Any) -> None:
    async with plane(always(DATASET | {"state": "UPLOADING", "status": status})) as (batch, _):
        assert not await STEPS["dataset_is_ready"](batch)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "provider_bad_request", False),
        (403, "provider_authentication", False),
        (412, "provider_account", False),
        (429, "provider_rate_limited", True),
        (499, "provider_unavailable", True),
        (500, "provider_unavailable", True),
        (504, "provider_unavailable", True),
    ],
)
async def test_a_refusal_is_read(step: str, status: int, code: str, retryable: bool) -> None:
    async with plane(always({"code": 13, "message": "because"}, status, X_Request_Id="p-1")) as (batch, _):
        failure = await failed(STEPS[step](batch))
    assert (failure.code, failure.retryable, failure.provider_status) == (code, retryable, status)
    assert ("because" in failure.message, failure.provider_request_id) == (True, "p-1")


async def test_a_conflict_where_nothing_is_made_passes() -> None:
    async with plane(always({"code": 10, "message": "aborted"}, 409)) as (batch, _):
        failure = await failed(STEPS["stop"](batch))
    assert (failure.code, failure.retryable, failure.at_fault) == ("provider_conflict", True, "provider")
    async with plane(always({}, 409, X_Should_Retry="false")) as (batch, _):
        assert not (await failed(STEPS["stop"](batch))).retryable


async def test_the_provider_says_how_long_to_wait() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    for given, least, most in (("7", 7, 7), (in_a_minute, 30, 60)):
        async with plane(always({}, 503, Retry_After=given)) as (batch, _):
            assert least <= ((await failed(STEPS["job"](batch))).retry_after_s or 0) <= most


@pytest.mark.parametrize("body", [b"", b"OK", b"[]", b"null", b'{"name": ', b"\xff{}", b"[" * 100_000])
async def test_an_answer_that_is_no_json_object_is_worth_another_try(body: bytes) -> None:
    async def odd(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.answer(200, body)

    async with plane(odd) as (batch, _):
        failures = [await failed(STEPS[step](batch)) for step in ("job", "create_dataset", "upload", "stop")]
    assert {(each.code, each.retryable) for each in failures} == {("provider_unexpected_answer", True)}


@pytest.mark.parametrize(("status", "code"), [(200, "provider_unexpected_answer"), (503, "provider_unavailable")])
async def test_an_answer_without_bounds_is_not_read_to_its_end(status: int, code: str) -> None:
    async def huge(exchange: Exchange) -> None:
        await exchange.head(status, Transfer_Encoding="chunked")
        while True:
            await exchange.raw(b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20)))

    async with plane(huge) as (batch, _):
        assert (await failed(STEPS["job"](batch))).code == code


async def test_a_refusal_without_an_end_is_known_by_its_status() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(503, Content_Length=1000)
        await exchange.until_gone()

    async def cut(exchange: Exchange) -> None:
        await exchange.head(503, Content_Length=1000)
        exchange.writer.close()

    for script in (endless, cut):
        async with plane(script, refusal_s=SOON) as (batch, _):
            failures = [await failed(STEPS[step](batch)) for step in ("job", "upload")]
        assert {each.code for each in failures} == {"provider_unavailable"}


@pytest.mark.parametrize("step", STEPS)
async def test_a_redirect_is_not_followed_with_our_key(step: str) -> None:
    async with plane(always({}, 307, Location="@/elsewhere")) as (batch, server):
        failure = await failed(STEPS[step](batch))
    assert (failure.code, failure.provider_status) == ("provider_unexpected_answer", 307)
    assert len(server.asked) == 1


# -- connections -------------------------------------------------------------------------------------------------------


async def silent(exchange: Exchange) -> None:
    await exchange.until_gone()


async def half_an_answer(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.head(200, Content_Length=1000)
    await exchange.raw(b'{"name"')
    await exchange.until_gone()


async def no_http(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.raw(b"220 mail.example.org ESMTP\r\n\r\n")
    await exchange.until_gone()


async def hang_up(exchange: Exchange) -> None:
    await exchange.body()
    exchange.writer.close()


async def hang_up_in_the_answer(exchange: Exchange) -> None:
    await exchange.body()
    await exchange.head(200, Content_Length=1000)
    exchange.writer.close()


@pytest.mark.requirement("BATCH-03")
@pytest.mark.parametrize("script", [silent, half_an_answer])
async def test_a_call_without_an_answer_in_time_may_be_repeated(script: Script) -> None:
    async with plane(script, call_s=SOON) as (batch, server):
        failure = await failed(STEPS["create_job"](batch))
        await asyncio.wait_for(server.gone.wait(), LATER)
    assert (failure.code, failure.category, failure.retryable) == ("provider_answer_timeout", "timeout", True)


@pytest.mark.parametrize("step", ["create_job", "job", "upload"])
@pytest.mark.parametrize("script", [no_http, hang_up, hang_up_in_the_answer])
async def test_a_connection_that_breaks_may_be_opened_again(script: Script, step: str) -> None:
    async with plane(script) as (batch, _):
        failure = await failed(STEPS[step](batch))
    assert (failure.code, failure.category, failure.retryable) == ("provider_connection_lost", "transport", True)


async def test_a_connection_that_does_not_come_about_has_its_own_code() -> None:
    async def no_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1000):
                pass
        finally:
            writer.close()

    async with listening(no_handshake) as port:
        times = BatchTimeouts(connect_s=SOON)
        batch = FireworksBatch(f"https://127.0.0.1:{port}", "acct", lambda _: KEY, timeouts=times)
        failures = [await failed(STEPS[step](batch)) for step in ("job", "upload")]
        await batch.close()
    assert {(each.code, each.retryable) for each in failures} == {("provider_connect_timeout", True)}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://no-such-host.invalid"])
async def test_a_provider_that_cannot_be_reached_is_a_retryable_failure(url: str) -> None:
    batch = FireworksBatch(url, "acct", lambda _: KEY)
    for step in ("job", "upload"):
        failure = await failed(STEPS[step](batch))
        assert (failure.category, failure.retryable) == ("transport", True)
    await batch.close()


@pytest.mark.parametrize("url", ["x:1", "http://h:99999", "http://[h", "ftp://h"])
async def test_an_address_that_cannot_be_used_is_our_mistake(url: str) -> None:
    batch = FireworksBatch(url, "acct", lambda _: KEY)
    for step in ("job", "upload"):
        failure = await failed(STEPS[step](batch))
        assert (failure.code, failure.at_fault, failure.retryable) == ("request_not_sendable", "us", False)
    await batch.close()


IN_THE_MIDDLE: dict[str, tuple[Step, Script]] = {
    "call": (STEPS["job"], silent),
    "answer": (STEPS["job"], half_an_answer),
    "upload": (lambda batch: upload(batch, Rows(b"x" * 9_000_000)), silent),
    "upload_unanswered": (upload, half_an_answer),
    "download": (download, stored(half_an_answer)),
}


@pytest.mark.parametrize("where", IN_THE_MIDDLE)
async def test_closing_ends_what_is_under_way(where: str, caplog: pytest.LogCaptureFixture) -> None:
    step, script = IN_THE_MIDDLE[where]
    async with plane(script) as (batch, server):
        task = asyncio.create_task(failed(step(batch)))
        await _asked(server, 2 if where == "download" else 1)
        await batch.close()
        assert (await task).code == "provider_connection_lost"
        assert (await failed(step(batch))).code == "provider_unreachable"
    gc.collect()
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("where", IN_THE_MIDDLE)
async def test_cancelling_closes_the_connection_and_leaves_no_task(where: str) -> None:
    step, script = IN_THE_MIDDLE[where]
    before = asyncio.all_tasks()
    async with plane(script) as (batch, server):
        task = asyncio.create_task(failed(step(batch)))
        await _asked(server, 2 if where == "download" else 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() - server.handlers - before == set()
        await asyncio.wait_for(server.gone.wait(), LATER)


async def _asked(server: Any, calls: int) -> None:
    async def there() -> bool:
        return len(server.asked) >= calls

    await eventually_async(there)


# -- the key -----------------------------------------------------------------------------------------------------------


async def tell_the_key(exchange: Exchange) -> None:
    await exchange.body()
    key = exchange.headers["authorization"].removeprefix("Bearer ")
    # Quoted messages are cut: the second mention is the one that is cut in two.
    await exchange.json({"code": 7, "message": f"{key} {'x' * (490 - len(key))}{key}"}, 403)


async def spell_the_key(exchange: Exchange) -> None:
    await exchange.body()
    key = exchange.headers["authorization"].removeprefix("Bearer ").replace("/", "\\/")
    await exchange.answer(403, b'{"code": 7, "message": "the key %s is bad"}' % key.encode())


@pytest.mark.requirement("RUN-09")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("script", [tell_the_key, spell_the_key, no_http, hang_up, hang_up_in_the_answer])
async def test_the_key_is_in_no_failure_no_log_and_no_repr(
    step: str, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with plane(script) as (batch, _):
        with pytest.raises(ProviderFailed) as caught:
            await STEPS[step](batch)
        told = [repr(batch), repr(vars(batch)), caplog.text, *traceback.format_exception(caught.value)]
    told.append(caught.value.failure.model_dump_json())
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert KEY[:8] not in "".join(told)


@pytest.mark.requirement("BATCH-08")
async def test_what_the_provider_does_not_know_is_gone_or_unavailable() -> None:
    async with plane(NOT_FOUND) as (batch, _):
        assert await batch.job("job-1", credential=None) == gone("job-1")
        await batch.stop("job-1", credential=None)
        with pytest.raises(OutputUnavailable):
            await files(batch)
    async with plane(always({"filenameToSignedUrls": {}})) as (batch, _):
        with pytest.raises(OutputUnavailable):
            await files(batch)
