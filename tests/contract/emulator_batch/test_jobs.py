"""Jobs over HTTP, from create to download (WIRE 3.1, 3.4 to 3.8)."""

from typing import Any

import pytest

from tests.contract.emulator_batch.plane import MODEL, Plane, open_plane, rows

pytestmark = [pytest.mark.requirement("EMU-01"), pytest.mark.requirement("EMU-06")]


async def test_a_job_lives_its_life_in_virtual_time(plane: Plane) -> None:
    await plane.dataset("in-1", rows(10))
    made = await plane.job("job-1", displayName="nightly", inferenceParameters={"maxTokens": 8})
    assert (made["state"], made["jobProgress"]) == ("JOB_STATE_VALIDATING", None)
    assert made["inferenceParameters"] == {"extraBody": "{}", "maxTokens": 8}
    seen = [await plane.after(seconds, "job-1") for seconds in (59, 1, 180, 180, 30, 30)]
    assert [each["state"].removeprefix("JOB_STATE_") for each in seen] == [
        *("VALIDATING", "PENDING", "CREATING", "RUNNING", "RUNNING", "COMPLETED")
    ]
    assert [each["jobProgress"] and each["jobProgress"]["totalProcessedRequests"] for each in seen[3:]] == [0, 5, 10]
    lines = await plane.lines(seen[-1])
    assert {line["custom_id"] for line in lines} == {f"row-{number}" for number in range(10)}
    assert all(line["response"]["usage"]["completion_tokens"] <= 8 for line in lines)
    assert all(set(line) == {"custom_id", "response"} for line in lines)
    assert [line["custom_id"] for line in lines] != [f"row-{number}" for number in range(10)]


async def test_the_same_seed_gives_the_same_files() -> None:
    files = []
    for _ in range(2):
        async with open_plane() as plane:
            job = await plane.finished("job-1", rows(12), "fail_rows=2")
            files.append((await plane.lines(job), await plane.lines(job, "error-data")))
    for lines, _ in files:
        for line in lines:
            line["response"]["created"] = 0
    assert files[0] == files[1]
    assert len(files[0][1]) == 2


async def test_a_slow_machine_delays_the_end_and_takes_no_row_away() -> None:
    async with open_plane(patience_s=0) as plane:
        await plane.dataset("in-1", rows(400))
        await plane.job("job-1", outputDatasetId="out-1")
        seen = [await plane.after(1000, "job-1")]
        assert (await plane.call("GET", "datasets/out-1"))[0] == 404
        while seen[-1]["state"] != "JOB_STATE_COMPLETED":
            seen.append(await plane.after(0, "job-1"))
        states = list(dict.fromkeys(each["state"].removeprefix("JOB_STATE_") for each in seen))
        assert states[-2:] == ["RUNNING", "COMPLETED"]
        assert len(await plane.lines(seen[-1])) == 400


async def test_the_output_is_a_dataset(plane: Plane) -> None:
    job = await plane.finished("job-1", rows(3))
    assert job["outputDatasetId"].rpartition("/")[2].startswith("bij-")
    output = await plane.ok("GET", job["outputDatasetId"].removeprefix("accounts/acct/"))
    assert (output["state"], output["exampleCount"], output["sourceJobName"]) == ("READY", "3", job["name"])
    assert output["name"] in [each["name"] for each in (await plane.ok("GET", "datasets"))["datasets"]]


async def test_there_is_no_output_before_the_end(plane: Plane) -> None:
    await plane.dataset("in-1", rows(3))
    job = await plane.job("job-1", outputDatasetId="out-1")
    await plane.after(450, "job-1")
    assert (await plane.call("GET", "datasets/out-1:getDownloadEndpoint"))[0] == 404
    assert job["outputDatasetId"] == "accounts/acct/datasets/out-1"


async def test_one_bad_row_fails_the_job_and_there_is_no_output(plane: Plane) -> None:
    job = await plane.finished("job-1", [*rows(2), *rows(1, role="bananas")])
    assert (job["state"], job["status"]["code"]) == ("JOB_STATE_FAILED", "INVALID_ARGUMENT")
    assert "invalid role bananas in message 1" in job["status"]["message"]
    output = job["outputDatasetId"].rpartition("/")[2]
    assert await plane.call("GET", f"datasets/{output}:getDownloadEndpoint") == (
        404,
        {"code": 5, "message": "resource not found", "details": []},
    )


@pytest.mark.requirement("EMU-04")
async def test_an_expired_job_keeps_what_it_has(plane: Plane) -> None:
    await plane.dataset("in-1", rows(20))
    made = await plane.job("job-1", maxJobDuration="450s")
    job = await plane.after(449, "job-1")
    assert job["state"] == "JOB_STATE_RUNNING"
    job = await plane.after(1, "job-1")
    assert (job["state"], job["jobProgress"]["totalProcessedRequests"]) == ("JOB_STATE_EXPIRED", 10)
    assert len(await plane.lines(job)) == 10
    assert made["maxJobDuration"] == "450s"


async def test_windows_for_durations_can_be_fixed() -> None:
    async with open_plane(job_windows_h=frozenset({12.0, 24.0})) as plane:
        await plane.dataset("in-1", rows(1))
        given = {"model": MODEL, "inputDatasetId": "in-1", "maxJobDuration": "3600s"}
        assert (await plane.call("POST", "batchInferenceJobs", json=given))[0] == 400
        await plane.job("job-1", maxJobDuration="43200s")


@pytest.mark.parametrize(
    ("query", "change", "status", "code"),
    [
        ("", {"model": ""}, 400, 3),
        ("", {"model": None}, 400, 3),
        ("", {"inputDatasetId": ""}, 400, 3),
        ("", {"inputDatasetId": "in-2"}, 404, 5),
        ("", {"inputDatasetId": "accounts/other/datasets/in-1"}, 400, 3),
        ("", {"inputDatasetId": "accounts/acct/models/in-1"}, 400, 3),
        ("", {"inputDatasetId": "empty"}, 400, 9),
        ("", {"outputDatasetId": "in-1"}, 409, 6),
        ("", {"outputDatasetId": "taken"}, 409, 6),
        ("", {"outputDatasetId": "Not_An_Id"}, 400, 3),
        ("", {"colour": "red"}, 400, 3),
        ("", {"inferenceParameters": {"extraBody": "["}}, 400, 3),
        ("", {"maxJobDuration": "0s"}, 400, 3),
        ("", {"continuedFromJobName": "accounts/acct/batchInferenceJobs/none"}, 404, 5),
        ("", {"continuedFromJobName": "first"}, 404, 5),
        ("", {"continuedFromJobName": "accounts/acct/batchInferenceJobs/first"}, 400, 9),
        ("batchInferenceJobId=first", {}, 409, 6),
        ("batch_inference_job_id=first", {}, 409, 6),
        ("batchInferenceJobId=A", {}, 400, 3),
    ],
)
async def test_a_job_that_cannot_be_is_refused(
    plane: Plane, query: str, change: dict[str, Any], status: int, code: int
) -> None:
    await plane.dataset("in-1", rows(1))
    await plane.create("empty", 1)
    await plane.job("first", outputDatasetId="taken")
    given = {"model": MODEL, "inputDatasetId": "in-1"} | change
    answered, error = await plane.call("POST", f"batchInferenceJobs?{query}", json=given)
    assert (answered, error["code"]) == (status, code), error
    assert plane.running.stats.batch.jobs_created == 1


async def test_a_job_without_an_id_gets_one(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    given = {"model": MODEL, "inputDatasetId": "in-1"}
    names = {(await plane.ok("POST", "batchInferenceJobs", json=given))["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(len(name.rpartition("/")[2]) == 8 for name in names)


async def test_bare_names_can_be_switched_off() -> None:
    async with open_plane(bare_ids=False) as plane:
        await plane.dataset("in-1", rows(1))
        given = {"model": MODEL, "inputDatasetId": "in-1"}
        assert (await plane.call("POST", "batchInferenceJobs", json=given))[0] == 400
        await plane.job("job-1")


async def test_a_model_that_is_not_served_waits_until_it_expires(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    await plane.job("job-1", model="accounts/fireworks/models/unheard-of")
    assert (await plane.after(80_000, "job-1"))["state"] == "JOB_STATE_PENDING"
    assert (await plane.after(10_000, "job-1"))["state"] == "JOB_STATE_EXPIRED"
    assert plane.running.stats.batch.rows == 0


async def test_a_model_that_is_not_served_can_be_refused() -> None:
    async with open_plane(unknown_model="refused") as plane:
        await plane.dataset("in-1", rows(1))
        given = {"model": "unheard-of", "inputDatasetId": "in-1"}
        assert (await plane.call("POST", "batchInferenceJobs", json=given))[0] == 400


async def test_an_input_can_be_deleted_while_a_job_reads_it(plane: Plane) -> None:
    await plane.dataset("in-1", rows(5))
    await plane.job("job-1")
    await plane.ok("DELETE", "datasets/in-1")
    assert len(await plane.lines(await plane.after(1000, "job-1"))) == 5


async def test_a_job_goes_on_where_another_ended(plane: Plane) -> None:
    first = await plane.finished("job-1", rows(10), "rows_done=6,fail_rows=row-1,states=RUNNING:60/EXPIRED")
    done = {line["custom_id"] for line in await plane.lines(first)}
    await plane.ok("DELETE", "datasets/job-1-in")  # the job has its rows
    given = {"continuedFromJobName": first["name"]}
    second = await plane.ok("POST", "batchInferenceJobs?batchInferenceJobId=job-2", json=given)
    assert (second["model"], second["inputDatasetId"]) == (MODEL, first["inputDatasetId"])
    assert second["continuedFromJobName"] == first["name"]
    second = await plane.after(1000, "job-2")
    rest = {line["custom_id"] for line in await plane.lines(second)}
    assert (done & rest, done | rest) == (set(), {f"row-{number}" for number in range(10)})
    assert "row-1" in rest
    path = f"{second['outputDatasetId'].removeprefix('accounts/acct/')}:getDownloadEndpoint"
    with_parents = await plane.ok("GET", path, params={"downloadLineage": "true"})
    assert len(with_parents["filenameToSignedUrls"]) == 4
    assert len((await plane.ok("GET", path))["filenameToSignedUrls"]) == 2


async def test_after_a_failed_validation_everything_is_left(plane: Plane) -> None:
    first = await plane.finished("job-1", [*rows(2), *rows(1)])
    assert first["state"] == "JOB_STATE_FAILED"
    second = await plane.ok("POST", "batchInferenceJobs", json={"continuedFromJobName": first["name"]})
    again = await plane.after(1000, second["name"].rpartition("/")[2])
    assert (again["state"], again["status"]["message"]) == ("JOB_STATE_FAILED", first["status"]["message"])


async def test_pages_one_after_the_other_are_all_jobs_oldest_first(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    for number in (3, 1, 2, 5, 4):
        await plane.job(f"job-{number}", faults="states=RUNNING:60/COMPLETED" if number > 3 else "")
        plane.running.clock.advance(1)
    names: list[str] = []
    token, calls = "", 0
    while token or not calls:
        body = await plane.ok("GET", "batchInferenceJobs", params={"pageSize": "2", "pageToken": token})
        names += [each["name"][-1] for each in body["batchInferenceJobs"]]
        token, calls = body["nextPageToken"], calls + 1
    assert (names, calls, body["totalSize"]) == (["3", "1", "2", "5", "4"], 3, 5)
    running = await plane.ok("GET", "batchInferenceJobs", params={"filter": 'state="JOB_STATE_RUNNING"'})
    assert [each["name"][-1] for each in running["batchInferenceJobs"]] == ["5", "4"]
