"""A batch whose journal goes on behind its end: an operator reopened it (RUN-18)."""

import pytest

from api_contracts import batch, runs
from api_contracts.failure import Failure
from api_contracts.runs import Result
from tests.unit.core.batch.stepping import Run, harvested, job, read, request, view
from workers.core.batch import acts
from workers.core.batch.acts import Counts
from workers.core.runs.frame import Begin, Finish, Retry

pytestmark = pytest.mark.requirement("RUN-18")

REFUSED = Failure(code="provider_authentication", category="authentication", message="no", at_fault="us")


def end_of(run: Run) -> Finish:
    finish: Finish = run.effect(Finish)
    return finish


def reopened(run: Run, *, after: float = 1000.0) -> Run:
    """Return the life that follows when an operator retries what has just ended."""
    finish = end_of(run)
    result = Result(run_id="run-1", kind="batch", status=finish.status).model_dump(mode="json")
    end = (
        runs.RunFailedEvent(result=result, failure=finish.failure) if finish.failure
        else runs.RunCancelled(result=result)
    )  # fmt: skip
    again = Run(run.asked, [*run.journal, (end, run.now)])
    again.letters, again.now = run.letters, run.now + after
    again.feed(Begin("x", Retry("9999999-0", "ann", "paid")))
    return again


def cancelled(run: Run) -> Run:
    """Cancel a run whose one job is at work, and let the job stop without output."""
    run.letter("cancel", {"reason": "enough"})
    run.feed(acts.JobStopped(1))
    run.feed(acts.JobSeen(1, view(1, "CANCELLED")))
    run.feed(acts.OutputMissing(1, 1.0))
    assert end_of(run).status == "cancelled"
    return run


def test_a_batch_whose_input_was_refused_reads_it_again() -> None:
    run = Run().begin()
    run.failed(0, "read", REFUSED)
    run = reopened(run)
    assert isinstance(run.effect(acts.ReadRows), acts.ReadRows)
    assert run.effect(acts.ReadRows).life == 2, "SQL refuses what comes of the life before"
    assert "CreateDataset" in run.feed(read(3))


def test_a_batch_without_a_good_row_does_not_complete_by_a_retry() -> None:
    run = Run().begin()
    run.feed(read(quarantined=2))
    assert end_of(run).status == "failed"
    run = reopened(run)
    run.feed(read(quarantined=2))
    assert end_of(run).status == "failed"
    assert end_of(run).result["rows"]["quarantined"] == 2, "counted once"


def test_a_batch_whose_dataset_was_refused_creates_it_again_and_completes() -> None:
    run = Run().begin()
    run.feed(read(3))
    run.failed(1, "create", REFUSED)
    assert end_of(run).failure == REFUSED
    run = reopened(run)
    assert run.effect(acts.CreateDataset).shard == 1
    run.feed(acts.DatasetSeen(1, ready=True))
    run.feed(acts.JobSeen(1, view(1, "COMPLETED")))
    run.feed(harvested(1, 3, 0, 0, 0))
    run.feed(acts.RowsCounted(Counts(3, 0, 0, 0)))
    assert end_of(run).status == "completed"


def test_rows_of_a_job_that_the_cancel_stopped_go_into_another_job() -> None:
    run = reopened(cancelled(Run().submitted(3)))
    harvest = run.effect(acts.HarvestJob)
    assert (harvest.shard, harvest.rest.state) == (1, "pending")
    run.feed(acts.OutputMissing(1, 1.0))
    assert run.effect(acts.HarvestJob).output is None, "there is no output: the rows are given their verdict"
    run.feed(harvested(1, 0, 0, 0, 3))
    cut = run.effect(acts.CutRows)
    assert (cut.cause, cut.rows, cut.first) == ("again", 3, 2)
    run.feed(acts.RowsCut(read(3).shards))
    assert run.machine.state.counts().pending == 3
    assert run.machine.state.adds_up


def test_rows_that_were_settled_before_the_end_are_not_submitted_again() -> None:
    run = Run().submitted(3, 4)
    run.told(1, view(1, "COMPLETED"))
    run.feed(harvested(1, 3, 0, 0, 0))
    run.letter("cancel")
    run.feed(acts.JobStopped(2))
    run.feed(acts.JobSeen(2, view(2, "CANCELLED")))
    run.feed(harvested(2, 1, 0, 0, 3))
    assert end_of(run).status == "cancelled"
    run = reopened(run)
    assert run.effect(acts.CutRows).rows == 3
    assert run.machine.state.counts().succeeded == 4


def test_a_job_that_outlived_the_end_is_waited_for() -> None:
    run = Run().submitted(3)
    run.letter("cancel")
    run.feed(acts.JobStopped(1))
    run.later(601)
    assert end_of(run).status == "cancelled"
    run = reopened(run)
    assert run.effect(acts.LookAtJob).job == job(1)
    run.feed(acts.JobSeen(1, view(1, "COMPLETED")))
    run.feed(harvested(1, 3, 0, 0, 0))
    run.feed(acts.RowsCounted(Counts(3, 0, 0, 0)))
    assert end_of(run).status == "completed"


def test_a_deadline_counts_anew_from_the_retry_on() -> None:
    run = Run(request(deadline_s=50)).submitted(3)
    run.later(50)
    run.feed(acts.JobStopped(1))
    run.feed(acts.JobSeen(1, view(1, "CANCELLED")))
    run.feed(acts.OutputMissing(1, 1.0))
    assert end_of(run).failure is not None
    run = reopened(run)
    assert run.machine.deadline is not None
    assert run.machine.state.ending is None


def test_a_parked_batch_that_an_operator_wakes_waits_for_no_pause_any_more() -> None:
    run = Run().begin()
    run.feed(read(3))
    busy = REFUSED.model_copy(update={"retryable": True, "retry_after_s": 500.0})
    run.failed(1, "create", busy)
    assert run.event(batch.BatchTrouble).retry_at is not None
    again = Run(run.asked, run.journal)
    assert "CreateDataset" in again.feed(Begin("x", Retry("9999999-0", "ann", "")))
