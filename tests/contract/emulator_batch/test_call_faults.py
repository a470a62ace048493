"""Faults of single calls, as a client meets them, and of the jobs and files that calls make (WIRE 8, FEAT D4)."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.contract.emulator_batch.plane import Plane, jsonl, open_plane, rows
from workers.emulator.batch import OPERATIONS, BatchRule, BatchWhen

pytestmark = pytest.mark.requirement("EMU-04")

DATASET = {"datasetId": "in-1", "dataset": {"userUploaded": {}, "exampleCount": "3"}}
PATHS = {
    "create_dataset": ("POST", "datasets"),
    "get_dataset": ("GET", "datasets/in-1"),
    "list_datasets": ("GET", "datasets"),
    "update_dataset": ("PATCH", "datasets/in-1"),
    "delete_dataset": ("DELETE", "datasets/in-1"),
    "upload": ("POST", "datasets/in-1:upload"),
    "get_upload_endpoint": ("POST", "datasets/in-1:getUploadEndpoint"),
    "validate_upload": ("POST", "datasets/in-1:validateUpload"),
    "get_download_endpoint": ("GET", "datasets/in-1:getDownloadEndpoint"),
    "create_job": ("POST", "batchInferenceJobs"),
    "get_job": ("GET", "batchInferenceJobs/job-1"),
    "list_jobs": ("GET", "batchInferenceJobs"),
    "delete_job": ("DELETE", "batchInferenceJobs/job-1"),
    "cancel_job": ("POST", "batchInferenceJobs/job-1:cancel"),
}


def _once(*faults: str, times: int | None = 1, **when: Any) -> tuple[BatchRule, ...]:
    return (BatchRule(when=BatchWhen(**when), faults=faults, times=times),)


@pytest.mark.parametrize("operation", PATHS)
async def test_any_call_can_be_answered_by_a_status(operation: str) -> None:
    assert set(PATHS) | {"put_file", "get_file"} == set(OPERATIONS)
    async with open_plane(rules=_once("429=30", operation=operation)) as plane:
        method, path = PATHS[operation]
        async with plane.http.request(method, f"{plane.running.api_url}/v1/accounts/acct/{path}") as response:
            assert (response.status, response.headers["retry-after"]) == (429, "30")
            assert (await response.json())["code"] == 8
        assert (await plane.call(method, path))[0] != 429  # once only
        assert plane.running.stats.batch.calls[operation] == 2
        assert plane.running.stats.batch.struck == 1


@pytest.mark.parametrize(("fault", "status"), [("503", 503), ("502", 502), ("error_shape=E1", 400), ("403", 403)])
async def test_a_call_can_ask_for_its_own_fault(plane: Plane, fault: str, status: int) -> None:
    answered, _ = await plane.call("GET", "datasets", headers={"x-emulator-fault": fault})
    assert answered == status
    answered, error = await plane.call("GET", "datasets", headers={"x-emulator-fault": "exploding"})
    assert (answered, "exploding" in json.dumps(error)) == (400, True)


async def test_a_call_can_ask_for_it_so_many_times(plane: Plane) -> None:
    fault = {"x-emulator-fault": "500,times=2"}
    assert [(await plane.call("GET", "datasets", headers=fault))[0] for _ in range(3)] == [500, 500, 200]


async def test_a_rule_means_the_ids_that_it_names() -> None:
    when = {"operation": "create_dataset", "dataset": "bad-*"}
    async with open_plane(rules=_once("500", times=None, **when)) as plane:
        await plane.create("good-1", 1)
        bad = {"dataset_id": "bad-1", "dataset": {"exampleCount": 1}}
        assert (await plane.call("POST", "datasets", json=bad))[0] == 500


async def test_a_late_error_hides_a_success() -> None:
    async with open_plane(rules=_once("504", "late", operation="create_dataset")) as plane:
        assert (await plane.call("POST", "datasets", json=DATASET))[0] == 504
        assert (await plane.call("POST", "datasets", json=DATASET))[0] == 409
        other = DATASET | {"datasetId": "in-2"}  # with nothing to hide, late changes nothing
        assert (await plane.call("POST", "datasets", json=other, headers={"x-emulator-fault": "late"}))[0] == 200


@pytest.mark.parametrize(("faults", "then"), [(("drop",), 200), (("drop", "late"), 409)])
async def test_a_connection_can_be_dropped_before_or_after_the_work(faults: tuple[str, ...], then: int) -> None:
    async with open_plane(rules=_once(*faults, operation="create_dataset")) as plane:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await plane.call("POST", "datasets", json=DATASET)
        assert (await plane.call("POST", "datasets", json=DATASET))[0] == then


async def test_a_call_can_be_left_without_an_answer_after_it_was_accepted(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    waiting = asyncio.create_task(plane.job("job-1", faults="stall,late"))
    while not plane.running.stats.batch.struck:
        await plane.call("GET", "datasets")
    assert not waiting.done()
    assert (await plane.ok("GET", "batchInferenceJobs/job-1"))["state"] == "JOB_STATE_VALIDATING"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_slow_answer_comes(plane: Plane) -> None:
    status, _ = await plane.call("GET", "datasets", headers={"x-emulator-fault": "slow=0.01"})
    assert status == 200


@pytest.mark.parametrize("signed", [False, True])
async def test_an_upload_can_be_cut(signed: bool) -> None:
    data = jsonl(rows(50))
    times = 2 if signed else 1  # aiohttp's client sends a PUT again by itself, once
    async with open_plane(rules=_once("upload_cut=100", operation=("upload", "put_file"), times=times)) as plane:
        await plane.create("in-1", 50)

        async def send() -> int:
            if not signed:
                return (await plane.upload("in-1", data))[0]
            sizes = {"filenameToSize": {"a.jsonl": len(data)}}
            urls = await plane.ok("POST", "datasets/in-1:getUploadEndpoint", json=sizes)
            size = f"{len(data)},{len(data)}"
            headers = {"Content-Type": "application/octet-stream", "X-Goog-Content-Length-Range": size}
            url = urls["filenameToSignedUrls"]["a.jsonl"]
            async with plane.bare.put(url, data=data, headers=headers) as response:
                return response.status

        with pytest.raises(aiohttp.ClientError):
            await send()
        assert (await plane.ok("GET", "datasets/in-1"))["state"] == "UPLOADING"
        assert plane.running.stats.batch.bytes_uploaded == 0
        assert await send() == 200


async def test_a_download_can_be_cut_and_resumed_or_find_its_url_expired() -> None:
    rules = (
        BatchRule(when=BatchWhen(operation="get_file"), faults=("download_cut=100",), times=1),
        BatchRule(when=BatchWhen(operation="get_file"), faults=("expired",), times=1),
    )
    async with open_plane(rules=rules) as plane:
        await plane.dataset("in-1", rows(10))
        url, read = (await plane.urls("in-1"))["input.jsonl"], bytearray()
        async with plane.bare.get(url) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                read += await _until_cut(response, read)
        assert len(read) == 100
        status, text = await plane.fetch(url, Range="bytes=100-")
        assert (status, b"ExpiredToken" in text) == (400, True)
        fresh = (await plane.urls("in-1"))["input.jsonl"]
        status, rest = await plane.fetch(fresh, Range="bytes=100-")
        assert (status, bytes(read) + rest) == (206, jsonl(rows(10)))


async def _until_cut(response: aiohttp.ClientResponse, read: bytearray) -> bytes:
    async for part in response.content.iter_any():
        read.extend(part)
    return b""


async def test_ranges_can_be_ignored_and_the_storage_can_fail() -> None:
    rules = (
        BatchRule(when=BatchWhen(operation="get_file", file="*.jsonl"), faults=("503",), times=1),
        BatchRule(when=BatchWhen(operation="get_file"), faults=("no_range",)),
    )
    async with open_plane(rules=rules) as plane:
        await plane.dataset("in-1", rows(3))
        url = (await plane.urls("in-1"))["input.jsonl"]
        status, text = await plane.fetch(url)
        assert (status, text.startswith(b"<?xml")) == (503, True)
        assert (await plane.fetch(url, **{"x-emulator-fault": "429,late"}))[0] == 429  # no file is taken back
        assert await plane.fetch(url, Range="bytes=5-") == (200, jsonl(rows(3)))


async def test_urls_can_be_born_expired() -> None:
    async with open_plane(rules=_once("url_expires=0", operation="get_download_endpoint")) as plane:
        await plane.dataset("in-1", rows(3))
        assert (await plane.fetch((await plane.urls("in-1"))["input.jsonl"]))[0] == 400
        assert (await plane.fetch((await plane.urls("in-1"))["input.jsonl"]))[0] == 200


async def test_the_names_of_files_can_have_a_path_before_them_that_says_error() -> None:
    async with open_plane(rules=_once("error_path", operation="get_download_endpoint")) as plane:
        await plane.dataset("in-1", rows(3))
        named = (await plane.ok("GET", "datasets/in-1:getDownloadEndpoint"))["filenameToSignedUrls"]
        assert list(named) == ["error-data/dataset/in-1/input.jsonl"]


async def test_ready_can_be_slow_for_one_dataset() -> None:
    async with open_plane(rules=_once("slow_ready=30", operation="upload", dataset="slow")) as plane:
        await plane.dataset("slow", rows(1))
        await plane.dataset("fast", rows(1))
        states = [(await plane.ok("GET", f"datasets/{name}"))["state"] for name in ("slow", "fast")]
        plane.running.clock.advance(30)
        states.append((await plane.ok("GET", "datasets/slow"))["state"])
        assert states == ["UPLOADING", "READY", "READY"]


async def test_three_rows_of_two_hundred_fail_and_the_job_is_completed(plane: Plane) -> None:
    job = await plane.finished("job-1", rows(200), "fail_rows=3")
    progress = job["jobProgress"]
    assert job["state"] == "JOB_STATE_COMPLETED"
    assert (progress["successfullyProcessedRequests"], progress["failedRequests"]) == (197, 3)
    errors = await plane.lines(job, "error-data")
    assert [set(line) for line in errors] == [{"custom_id", "error"}] * 3
    assert set(errors[0]["error"]) == {"message", "code"}
    ids = [line["custom_id"] for line in await plane.lines(job) + errors]
    assert sorted(ids) == sorted(row["custom_id"] for row in rows(200))


async def test_a_job_can_be_stuck_until_it_expires(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    await plane.job("job-1", faults="stuck=PENDING,expire_after=7200")
    assert (await plane.after(7199, "job-1"))["state"] == "JOB_STATE_PENDING"
    assert (await plane.after(1, "job-1"))["state"] == "JOB_STATE_EXPIRED"


async def test_a_job_cannot_be_stuck_in_a_state_that_it_does_not_have(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    given = {"model": "m", "inputDatasetId": "in-1"}
    headers = {"x-emulator-fault": "stuck=IDLE"}
    status, error = await plane.call("POST", "batchInferenceJobs", json=given, headers=headers)
    assert (status, "IDLE" in error["error"]["message"]) == (400, True)


async def test_a_job_can_fail_with_any_code(plane: Plane) -> None:
    job = await plane.finished("job-1", rows(1), "fail_job=INTERNAL")
    assert (job["state"], job["status"]["code"]) == ("JOB_STATE_FAILED", "INTERNAL")


async def test_a_job_can_be_in_a_state_that_nobody_knows(plane: Plane) -> None:
    job = await plane.finished("job-1", rows(1), "states=RUNNING:60/DREAMING")
    assert job["state"] == "JOB_STATE_DREAMING"


async def test_a_job_can_be_lost(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    await plane.job("job-1", faults="states=RUNNING:60/GONE")
    plane.running.clock.advance(60)
    assert (await plane.call("GET", "batchInferenceJobs/job-1"))[0] == 404
    assert (await plane.ok("GET", "batchInferenceJobs"))["totalSize"] == 0


async def test_a_job_can_be_completed_before_its_output_is_visible(plane: Plane) -> None:
    job = await plane.finished("job-1", rows(1), "output_after=1000")
    path = f"{job['outputDatasetId'].removeprefix('accounts/acct/')}:getDownloadEndpoint"
    assert job["state"] == "JOB_STATE_COMPLETED"
    assert (await plane.call("GET", path))[0] == 404
    plane.running.clock.advance(1000)
    assert (await plane.call("GET", path))[0] == 200


async def test_an_output_can_be_a_404() -> None:
    when = {"operation": "get_download_endpoint", "dataset": "out-*"}
    async with open_plane(rules=_once("404", times=None, **when)) as plane:
        await plane.finished("job-1", rows(1), outputDatasetId="out-1")
        assert (await plane.call("GET", "datasets/out-1:getDownloadEndpoint"))[0] == 404
