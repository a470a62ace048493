"""A job's resource at any time (WIRE 3.5 to 3.7)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.emulator.batch.batching import MADE, USUAL, finish, make_job, rows
from workers.emulator.batch.jobs import Job
from workers.emulator.batch.schedule import Step

pytestmark = pytest.mark.requirement("EMU-06")

ALL_STATES = (
    *("VALIDATING", "CREATING", "RUNNING", "WRITING_RESULTS", "CANCELLED", "DELETING", "DELETING_CLEANING_UP"),
    *("PENDING", "EXPIRED", "RE_QUEUEING", "CREATING_INPUT_DATASET", "IDLE", "CANCELLING", "EARLY_STOPPED", "PAUSED"),
    *("DELETED", "ARCHIVED", "ROLLOUT", "EVALUATION", "FAILED_CLEANING_UP", "POLICY_UPDATE", "EXPIRED_CLEANING_UP"),
    *("CREATING_DEPENDENCIES", "COMPLETED", "FAILED", "UNSPECIFIED", "NEVER_HEARD_OF"),
)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Ten rows, two of which fail; declared as twelve."""
    made = make_job(tmp_path, rows(10), "fail_rows=2", declared=12, displayName="nightly")
    finish(made)
    yield made
    made.preparation.stop()


def _at(job: Job, age: float) -> dict[str, Any]:
    return job.resource(MADE + age)


def test_right_after_create_it_is_as_it_was_observed(job: Job) -> None:
    shown = job.resource(MADE, fresh=True)
    assert list(shown) == [
        *("name", "displayName", "createTime", "createdBy", "updateTime", "expireTime", "state", "status", "model"),
        *("inputDatasetId", "outputDatasetId", "inferenceParameters", "systemPrompt", "precision"),
        *("continuedFromJobName", "jobProgress", "lifecycle", "maxJobDuration", "placement", "waitingOnCapacity"),
    ]
    assert shown["name"] == "accounts/acct/batchInferenceJobs/job-1"
    assert shown["inputDatasetId"] == "accounts/acct/datasets/in-1"
    assert shown["outputDatasetId"] == "accounts/acct/datasets/out-1"
    assert (shown["state"], shown["status"]) == ("JOB_STATE_VALIDATING", {"code": "OK", "message": ""})
    assert (shown["jobProgress"], shown["lifecycle"], shown["placement"]) == (None, None, None)
    assert len(shown["createTime"]) == len("2026-11-01T10:00:12.029803417Z")


def test_the_state_follows_the_time(job: Job) -> None:
    states = [_at(job, age)["state"].removeprefix("JOB_STATE_") for age in (0, 60, 90, 189, 190, 1e6)]
    assert states == ["VALIDATING", "PENDING", "RUNNING", "RUNNING", "COMPLETED", "COMPLETED"]


def test_progress_is_null_until_the_job_runs_and_then_counts(job: Job) -> None:
    assert _at(job, 89)["jobProgress"] is None
    assert _at(job, 90)["jobProgress"] == dict.fromkeys(
        [
            *("percent", "epoch", "totalProcessedRequests", "successfullyProcessedRequests", "failedRequests"),
            *("outputRows", "inputTokens", "outputTokens", "cachedInputTokenCount"),
        ],
        0,
    ) | {"totalInputRequests": 12}
    half, whole = _at(job, 140)["jobProgress"], _at(job, 190)["jobProgress"]
    assert (half["totalProcessedRequests"], half["percent"]) == (5, 41)
    assert (whole["totalProcessedRequests"], whole["percent"]) == (10, 83)
    assert (whole["successfullyProcessedRequests"], whole["failedRequests"], whole["outputRows"]) == (8, 2, 8)
    assert 0 < half["outputTokens"] < whole["outputTokens"]


def test_the_lifecycle_fills_up(job: Job) -> None:
    assert _at(job, 59)["lifecycle"] is None
    assert _at(job, 60)["lifecycle"] == {
        "validatedTime": "2026-09-21T14:14:20.000000Z",
        "runStartTime": None,
        "endTime": None,
    }
    assert _at(job, 500)["lifecycle"] == {
        "validatedTime": "2026-09-21T14:14:20.000000Z",
        "runStartTime": "2026-09-21T14:14:50.000000Z",
        "endTime": "2026-09-21T14:16:30.000000Z",
    }
    assert _at(job, 500)["updateTime"] == "2026-09-21T14:16:30.000000Z"


@pytest.mark.requirement("EMU-04")
@pytest.mark.parametrize("state", ALL_STATES)
def test_every_state_can_be_scripted(tmp_path: Path, state: str) -> None:
    job = make_job(tmp_path, rows(2), f"states=VALIDATING:10/{state}:10/COMPLETED")
    finish(job)
    assert _at(job, 15)["state"] == f"JOB_STATE_{state}"
    assert _at(job, 25)["state"] == "JOB_STATE_COMPLETED"


def test_one_bad_row_fails_the_whole_job_at_the_end_of_its_validation(tmp_path: Path) -> None:
    job = make_job(tmp_path, [*rows(3), *rows(1, role="bananas")])
    finish(job)
    assert _at(job, 59)["state"] == "JOB_STATE_VALIDATING"
    failed = _at(job, 60)
    assert failed["state"] == "JOB_STATE_FAILED"
    assert failed["status"]["code"] == "INVALID_ARGUMENT"
    assert failed["status"]["message"].startswith(
        "Dataset has a syntax error: chat dataset validation failed on input."
    )
    assert failed["lifecycle"] == {
        "validatedTime": None,
        "runStartTime": None,
        "endTime": "2026-09-21T14:14:20.000000Z",
    }
    assert failed["jobProgress"] is None
    assert not job.ran


def test_a_slow_machine_holds_a_job_back_and_never_lies(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(10))
    assert job.behind(MADE + 1000)
    assert _at(job, 1000)["state"] == "JOB_STATE_VALIDATING"
    for _ in range(13):
        job.preparation.work(0)
    shown = _at(job, 1000)
    assert shown["state"] == "JOB_STATE_RUNNING"
    assert shown["jobProgress"]["totalProcessedRequests"] == 3
    assert not job.behind(MADE + 120)
    finish(job)
    assert _at(job, 1000)["state"] == "JOB_STATE_COMPLETED"


def test_a_state_that_is_not_final_is_told_though_the_rows_lag(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(10), "states=VALIDATING:60/RUNNING:100/IDLE:60/WRITING_RESULTS:60/COMPLETED")
    for _ in range(13):
        job.preparation.work(0)
    assert [_at(job, age)["state"] for age in (170, 1000)] == ["JOB_STATE_IDLE", "JOB_STATE_WRITING_RESULTS"]
    assert _at(job, 170)["jobProgress"]["totalProcessedRequests"] == 3
    job.preparation.stop()


def test_percent_is_of_the_rows_that_there_are_if_too_few_were_declared(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(10), declared=2)
    finish(job)
    progress = _at(job, 140)["jobProgress"]
    assert (progress["percent"], progress["totalInputRequests"]) == (50, 2)


def test_waiting_on_capacity_is_said_while_it_runs(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(2), "waiting_on_capacity")
    finish(job)
    assert [_at(job, age)["waitingOnCapacity"] for age in (70, 100, 200)] == [False, True, False]


def test_a_cancelled_job_tells_what_it_finished_meanwhile(job: Job) -> None:
    job.cut(MADE + 120, Step("CANCELLING", 30, works=True), Step("CANCELLED"))
    assert _at(job, 125)["state"] == "JOB_STATE_CANCELLING"
    assert _at(job, 125)["jobProgress"]["totalProcessedRequests"] == 3
    assert _at(job, 500)["jobProgress"]["totalProcessedRequests"] == 6
    assert (_at(job, 500)["state"], job.over(MADE + 500)) == ("JOB_STATE_CANCELLED", True)


def test_a_deleted_job_is_cleaned_up_until_somebody_saw_it(job: Job) -> None:
    job.delete(MADE + 120, cleanup_s=None)
    job.delete(MADE + 130, cleanup_s=None)
    assert _at(job, 1e6)["state"] == "JOB_STATE_DELETING_CLEANING_UP"
    job.seen(MADE + 1e6)
    assert job.planned(MADE + 1e6).state == "GONE"


def test_a_deletion_can_take_its_time_instead(job: Job) -> None:
    job.delete(MADE + 500, cleanup_s=30)
    job.seen(MADE + 501)
    assert [job.planned(MADE + age).state for age in (499, 529, 530)] == ["COMPLETED", "DELETING_CLEANING_UP", "GONE"]


@pytest.mark.requirement("EMU-04")
def test_a_failure_can_have_any_code(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(2), "fail_job=RESOURCE_EXHAUSTED", states="VALIDATING:1/FAILED")
    finish(job)
    assert _at(job, 5)["status"]["code"] == "RESOURCE_EXHAUSTED"


def test_what_was_asked_for_comes_back(tmp_path: Path) -> None:
    body: dict[str, Any] = {
        "inferenceParameters": {"maxTokens": 256},
        "maxJobDuration": "43200s",
        "systemPrompt": "Be brief",
    }
    job = make_job(tmp_path, rows(1), **body)
    shown = _at(job, 0)
    assert shown["inferenceParameters"] == {"extraBody": "{}", "maxTokens": 256}
    assert (shown["maxJobDuration"], shown["systemPrompt"], shown["precision"]) == ("43200s", "Be brief", "BF16")
    job.preparation.stop()
    assert USUAL.startswith("VALIDATING:60")
