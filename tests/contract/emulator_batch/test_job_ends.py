"""Cancel and delete (WIRE 3.1, 3.6, 3.7), and what is kept of a job that ended early."""

import pytest

from tests.contract.emulator_batch.plane import Plane, open_plane, rows

pytestmark = pytest.mark.requirement("EMU-01")


async def _running(plane: Plane) -> None:
    """A job of 60 rows, 10 of which are done."""
    await plane.dataset("in-1", rows(60))
    await plane.job("job-1", outputDatasetId="out-1")
    job = await plane.after(430, "job-1")
    assert job["jobProgress"]["totalProcessedRequests"] == 10


async def test_a_deleted_job_is_cleaning_up_once_and_then_not_found(plane: Plane) -> None:
    await _running(plane)
    assert await plane.ok("DELETE", "batchInferenceJobs/job-1") == {}
    assert (await plane.after(0, "job-1"))["state"] == "JOB_STATE_DELETING_CLEANING_UP"
    assert (await plane.call("GET", "batchInferenceJobs/job-1"))[0] == 404
    assert (await plane.call("DELETE", "batchInferenceJobs/job-1"))[0] == 404
    assert (await plane.ok("GET", "batchInferenceJobs"))["totalSize"] == 0
    assert (await plane.call("GET", "datasets/out-1:getDownloadEndpoint"))[0] == 404


async def test_the_id_of_a_deleted_job_is_free_again(plane: Plane) -> None:
    await _running(plane)
    await plane.ok("DELETE", "batchInferenceJobs/job-1")
    await plane.after(0, "job-1")
    await plane.job("job-1", outputDatasetId="out-1")
    assert len(await plane.lines(await plane.after(1000, "job-1"))) == 60


async def test_the_output_of_a_deleted_job_is_free_at_once(plane: Plane) -> None:
    await _running(plane)
    await plane.ok("DELETE", "batchInferenceJobs/job-1")
    await plane.job("job-2", outputDatasetId="out-1")


async def test_an_id_can_be_used_up() -> None:
    async with open_plane(ids_reusable=False, cleanup_s=0) as plane:
        await _running(plane)
        await plane.ok("DELETE", "batchInferenceJobs/job-1")
        given = {"model": "m", "inputDatasetId": "in-1"}
        status, _ = await plane.call("POST", "batchInferenceJobs?batchInferenceJobId=job-1", json=given)
        assert status == 409


async def test_a_deletion_can_take_its_time() -> None:
    async with open_plane(cleanup_s=120) as plane:
        await _running(plane)
        await plane.ok("DELETE", "batchInferenceJobs/job-1")
        assert (await plane.after(119, "job-1"))["state"] == "JOB_STATE_DELETING_CLEANING_UP"
        plane.running.clock.advance(1)
        assert (await plane.call("GET", "batchInferenceJobs/job-1"))[0] == 404


async def test_rows_of_a_deleted_job_can_be_kept() -> None:
    async with open_plane(usable_outputs=frozenset({"COMPLETED", "DELETED"}), cleanup_s=10) as plane:
        await _running(plane)
        await plane.ok("DELETE", "batchInferenceJobs/job-1")
        plane.running.clock.advance(10)
        assert len(await plane.lines({"outputDatasetId": "out-1"})) == 10


async def test_the_output_of_a_job_outlives_it(plane: Plane) -> None:
    job = await plane.finished("job-1", rows(5))
    await plane.ok("DELETE", "batchInferenceJobs/job-1")
    await plane.after(0, "job-1")
    assert len(await plane.lines(job)) == 5


@pytest.mark.parametrize(("switch", "status", "code"), [(404, 404, 5), (501, 501, 12)])
async def test_cancel_does_not_exist_unless_it_is_switched_on(switch: int, status: int, code: int) -> None:
    async with open_plane(cancel_missing=switch) as plane:
        await _running(plane)
        answered, error = await plane.call("POST", "batchInferenceJobs/job-1:cancel", json={})
        assert (answered, error["code"]) == (status, code)
        assert (await plane.after(0, "job-1"))["state"] == "JOB_STATE_RUNNING"


async def test_a_cancelled_job_finishes_rows_meanwhile_and_keeps_them() -> None:
    async with open_plane(cancel=True, cancelling_s=5) as plane:
        await _running(plane)
        for _ in range(2):
            assert await plane.ok("POST", "batchInferenceJobs/job-1:cancel", json={}) == {}
        job = await plane.after(2, "job-1")
        assert (job["state"], job["jobProgress"]["totalProcessedRequests"]) == ("JOB_STATE_CANCELLING", 12)
        job = await plane.after(1000, "job-1")
        assert (job["state"], job["jobProgress"]["totalProcessedRequests"]) == ("JOB_STATE_CANCELLED", 15)
        assert len(await plane.lines(job)) == 15
        status, error = await plane.call("POST", "batchInferenceJobs/job-1:cancel", json={})
        assert (status, error["code"]) == (400, 9)


async def test_what_is_cancelled_before_it_runs_has_no_output() -> None:
    async with open_plane(cancel=True) as plane:
        await plane.dataset("in-1", rows(3))
        await plane.job("job-1", outputDatasetId="out-1")
        await plane.after(100, "job-1")
        await plane.ok("POST", "batchInferenceJobs/job-1:cancel", json={})
        assert (await plane.after(1000, "job-1"))["state"] == "JOB_STATE_CANCELLED"
        assert (await plane.call("GET", "datasets/out-1"))[0] == 404


async def test_which_ends_leave_an_output_is_a_switch() -> None:
    async with open_plane(usable_outputs=frozenset({"COMPLETED"})) as plane:
        job = await plane.finished("job-1", rows(3), "states=RUNNING:60/EARLY_STOPPED")
        assert job["state"] == "JOB_STATE_EARLY_STOPPED"
        path = f"{job['outputDatasetId'].removeprefix('accounts/acct/')}:getDownloadEndpoint"
        assert (await plane.call("GET", path))[0] == 404
