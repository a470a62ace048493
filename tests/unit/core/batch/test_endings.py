"""How jobs end, what becomes of their rows, and how the run ends with them."""

from typing import Any

import pytest

from api_contracts import batch
from api_contracts.batch import RowCounts, ShardPlan
from tests.unit.core.batch.stepping import Run, harvested, job, kinds, request, view
from tests.unit.core.batch.test_submission_properties import completed, world_of
from tests.unit.core.batch.world import BUSY, REFUSED, T0
from workers.core.batch import acts, jobs, pace, plan
from workers.core.batch.acts import Counts, RowsCounted, RowsCut
from workers.core.batch.submission import ENDING_S
from workers.core.runs.frame import Finish, Park

REFUSAL = {"code": "INVALID_ARGUMENT", "message": "invalid role bananas"}


def ended(run: Run, state: str, shard: int = 1, after: float = 100, **fields: Any) -> list[str]:
    run.now += after
    return run.told(shard, view(shard, state, **fields))


def cut(*rows: int, first: int) -> RowsCut:
    return RowsCut([ShardPlan(shard=shard, rows=each, bytes=each) for shard, each in enumerate(rows, first)])


# -- jobs --------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-08")
@pytest.mark.parametrize(
    ("state", "code", "again"),
    [
        ("COMPLETED", "missing_output", "pending"),
        ("EXPIRED", "job_expired", "pending"),
        ("EARLY_STOPPED", "job_stopped_early", "pending"),
        ("FAILED", "job_failed", "pending"),
        ("CANCELLED", "job_cancelled", "failed"),
        ("DELETED", "job_cancelled", "failed"),
        ("ARCHIVED", "job_cancelled", "failed"),
        (jobs.GONE, "job_cancelled", "failed"),
    ],
)
def test_whatever_a_job_ends_as_its_output_is_read(state: str, code: str, again: str) -> None:
    run = Run().submitted(3)
    assert ended(run, state, after=120) == ["batch.state", "HarvestJob"]
    harvest = run.effect(acts.HarvestJob)
    assert harvest.output == job(1).replace("-job", "-out")
    assert (harvest.rest.code, harvest.rest.state) == (code, again)
    assert harvest.last is (again == "failed"), "where nothing is tried again, failed rows are not either"


def test_the_output_is_where_the_provider_says_it_is() -> None:
    run = Run().begin()
    run.feed(acts.RowsRead(1, 0, 1, [ShardPlan(shard=1, rows=1, bytes=1)]))
    run.feed(acts.DatasetSeen(1, ready=True))
    run.feed(acts.JobSeen(1, view(1, "VALIDATING", output="bij-n17xq2lh")))
    ended(run, "COMPLETED")
    assert run.effect(acts.HarvestJob).output == "bij-n17xq2lh"


@pytest.mark.requirement("BATCH-08")
def test_an_output_that_is_not_there_is_unavailable_and_not_asked_for_for_ever() -> None:
    run = Run(request(attempts=1)).submitted(3)
    ended(run, "EXPIRED")
    assert run.feed(acts.OutputMissing(1, 0.5)) == ["batch.trouble", "HarvestJob"]
    assert run.event(batch.BatchTrouble).kind == "no_output"
    assert run.effect(acts.HarvestJob).output is None
    assert run.effect(acts.HarvestJob).rest.state == "failed"
    assert run.feed(harvested(1, 0, 3))[0] == "batch.harvested"
    assert run.event(batch.BatchHarvested).available is False
    assert "batch.cost" not in run.types


@pytest.mark.requirement("BATCH-08", "BATCH-13")
def test_a_completed_jobs_output_is_waited_for_a_while() -> None:
    run = Run().submitted(3)
    ended(run, "COMPLETED")
    for _ in range(8):
        run.feed(acts.OutputMissing(1, 1.0))
        assert run.event(batch.BatchTrouble).kind == "step"
        run.now = run.event(batch.BatchTrouble).retry_at
        run = run.reborn()
        assert run.effect(acts.HarvestJob).output is not None
    assert run.feed(acts.OutputMissing(1, 1.0)) == ["batch.trouble", "HarvestJob"]
    assert run.effect(acts.HarvestJob).output is None
    assert run.now - T0 < 1800


def test_a_job_that_is_not_found_at_once_is_not_gone() -> None:
    run = Run().submitted(3)
    run.now += 119
    assert run.told(1, jobs.gone(job(1))) == ["batch.trouble"]
    run.now += 1
    assert run.told(1, jobs.gone(job(1))) == ["batch.state", "HarvestJob"]


# -- another attempt ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-09")
def test_what_is_left_of_all_jobs_is_submitted_again_with_its_lineage() -> None:
    run = Run(request(attempts=2)).submitted(3, 3)
    ended(run, "COMPLETED", 1)
    ended(run, "EXPIRED", 2)
    assert "CutRows" not in run.feed(harvested(1, 2, 0, 0, 1))
    assert run.feed(harvested(2, 1, 1, 0, 1))[-1] == "CutRows"
    asked = run.effect(acts.CutRows)
    assert (asked.cause, asked.rows, asked.attempt, asked.first, asked.life) == ("again", 2, 2, 3, 1)
    assert run.feed(cut(2, first=3)) == ["batch.resubmitted", "CreateDataset"]
    event = run.event(batch.BatchResubmitted)
    assert (event.parents, event.attempt, event.rows) == ([1, 2], 2, 2)
    run.feed(acts.DatasetSeen(3, ready=True))
    run.feed(acts.JobSeen(3, view(3, "RUNNING")))
    assert run.event(batch.BatchSubmitted).attempt == 2
    ended(run, "COMPLETED", 3)
    assert run.effect(acts.HarvestJob).last, "attempts are used up"
    assert run.feed(harvested(3, 1, 1, reasons={"missing_output": 1}))[-1] == "CountRows"
    run.feed(RowsCounted(Counts(4, 2)))
    result = run.effect(Finish).result
    assert result["rows"] == {"total": 6, "succeeded": 4, "failed": 2, "quarantined": 0, "pending": 0}
    assert [each["attempt"] for each in result["jobs"]] == [1, 1, 2]
    assert result["reasons"] == {"missing_output": 1}


@pytest.mark.requirement("BATCH-09")
def test_attempts_are_counted_one_by_one() -> None:
    run = Run(request(attempts=3)).submitted(1)
    for attempt in (2, 3):
        ended(run, "EXPIRED", shard=attempt - 1)
        run.feed(harvested(attempt - 1, 0, 0, 0, 1))
        assert run.effect(acts.CutRows).attempt == attempt
        run.feed(cut(1, first=attempt))
        run.feed(acts.DatasetSeen(attempt, ready=True))
        run.feed(acts.JobSeen(attempt, view(attempt, "RUNNING")))
    ended(run, "EXPIRED", shard=3)
    assert run.effect(acts.HarvestJob).rest.state == "failed"


@pytest.mark.requirement("BATCH-10")
def test_a_job_that_is_refused_is_halved_until_the_poison_is_alone() -> None:
    run = Run(request(attempts=1)).submitted(3)
    assert ended(run, "FAILED", **REFUSAL) == ["batch.state", "CutRows"]
    asked = run.effect(acts.CutRows)
    assert (asked.cause, asked.parent, asked.rows, asked.attempt, asked.first) == ("split", 1, 3, 1, 2)
    assert run.feed(cut(2, 1, first=2)) == ["batch.resubmitted", "CreateDataset", "CreateDataset"]
    assert run.machine.state.splits == 1
    for shard in (2, 3):
        run.feed(acts.DatasetSeen(shard, ready=True))
        run.feed(acts.JobSeen(shard, view(shard, "RUNNING")))
    assert ended(run, "FAILED", 3, **REFUSAL)[-1] == "HarvestJob"
    harvest = run.effect(acts.HarvestJob)
    assert harvest.output is None
    assert harvest.rest == acts.Verdict("quarantined", "refused_by_provider", "invalid role bananas")
    assert run.feed(harvested(3, 0, 0, 1)) == ["batch.quarantined", "batch.harvested"]
    assert run.machine.state.counts() == RowCounts(total=3, quarantined=1, pending=2)


def test_a_failure_that_blames_no_row_splits_nothing() -> None:
    run = Run().submitted(3)
    assert ended(run, "FAILED", code="INTERNAL", message="oops") == ["batch.state", "HarvestJob"]
    assert run.effect(acts.HarvestJob).rest.message == "the job failed: oops"


def test_jobs_are_not_split_for_ever() -> None:
    run = Run().submitted(3)
    run.machine.state.splits = plan.MOST_SPLITS
    assert ended(run, "FAILED", **REFUSAL) == ["batch.state", "HarvestJob"]
    assert run.effect(acts.HarvestJob).rest.state == "failed"


@pytest.mark.requirement("BATCH-10")
def test_poison_among_many_rows_is_found_and_the_others_are_answered() -> None:
    fates: list[Any] = ["ok"] * 20
    fates[3] = fates[17] = "poison"
    world = world_of(fates, {"shard_rows": 10})
    result = completed(world)
    assert (result.rows.succeeded, result.rows.quarantined) == (18, 4)
    assert {row.custom_id for row in world.store.rows.values() if row.state == "quarantined"} == {"r3", "r17"}


# -- what does not add up ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-19")
@pytest.mark.parametrize("counts", [(2,), (4,), (1, 1, 1, 1)])
def test_rows_that_do_not_add_up_end_the_run(counts: tuple[int, ...]) -> None:
    run = Run(request(attempts=1)).submitted(3, 3)
    ended(run, "COMPLETED")
    assert run.feed(harvested(1, *counts))[0] == "batch.trouble"
    assert run.machine.state.ending is not None
    assert run.machine.state.ending.failure is not None
    assert run.machine.state.ending.failure.code == "rows_do_not_add_up"


@pytest.mark.requirement("BATCH-19")
def test_rows_may_not_stay_open_after_their_last_attempt() -> None:
    run = Run(request(attempts=1)).submitted(3)
    ended(run, "COMPLETED")
    run.feed(harvested(1, 2, 0, 0, 1))
    assert run.effect(Finish).failure.code == "rows_do_not_add_up"


@pytest.mark.requirement("BATCH-19")
def test_what_is_read_and_what_is_cut_must_add_up_too() -> None:
    run = Run().begin()
    run.feed(acts.RowsRead(4, 0, 9, [ShardPlan(shard=1, rows=3, bytes=9)]))
    assert run.effect(Finish).failure.code == "rows_do_not_add_up"
    assert "batch.validated" not in run.types
    run = Run().submitted(3)
    ended(run, "COMPLETED")
    run.feed(harvested(1, 1, 0, 0, 2))
    run.feed(cut(1, first=2))
    assert run.effect(Finish).failure.code == "rows_do_not_add_up"
    assert "batch.resubmitted" not in run.types


@pytest.mark.requirement("BATCH-19")
def test_at_the_end_the_ledger_is_held_against_sql() -> None:
    run = Run().submitted(3)
    ended(run, "COMPLETED")
    run.feed(harvested(1, 3))
    assert run.feed(RowsCounted(Counts(2, 1))) == ["Finish"]
    finish = run.effect(Finish)
    assert (finish.status, finish.failure.code) == ("failed", "rows_do_not_add_up")


# -- cancelled, late, refused ------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-11")
def test_a_cancelled_run_stops_its_jobs_and_keeps_what_they_finished() -> None:
    run = Run().submitted(3, 3)
    ended(run, "COMPLETED", 1)
    assert run.letter("cancel", {"reason": "enough"}) == ["run.cancelling", "StopJob"], "the harvest goes on"
    assert run.effect(acts.StopJob).job == job(2)
    run.feed(harvested(1, 2, 0, 0, 1))
    assert run.feed(acts.JobStopped(2)) == ["LookAtJob"]
    assert run.feed(acts.JobSeen(2, view(2, "RUNNING"))) == ["batch.state"]
    run.later(2)
    assert run.effect(Park).until <= run.now + 15
    run.now += 15
    run = run.reborn()
    assert kinds(run.last) == ["run.resumed", "StopJob"], "nobody knows any more that it was told"
    assert run.feed(acts.JobStopped(2)) == ["LookAtJob"], "nor would the next life"
    assert run.feed(acts.JobSeen(2, view(2, "DELETING_CLEANING_UP"))) == ["batch.state"]
    run.later(2)
    run.now += 15
    run = run.reborn()
    assert kinds(run.last) == ["run.resumed", "LookAtJob"], "it is being stopped"
    assert run.feed(acts.JobSeen(2, jobs.gone(job(2)))) == ["batch.state", "HarvestJob"]
    assert run.effect(acts.HarvestJob).rest is None
    assert run.feed(harvested(2, 1, 1, 0, 1, usage=batch.Usage()))[-1] == "Finish"
    finish = run.effect(Finish)
    assert (finish.status, finish.reason) == ("cancelled", "enough")
    assert finish.result["rows"] == {"total": 6, "succeeded": 3, "failed": 1, "quarantined": 0, "pending": 2}


def test_a_run_that_has_submitted_nothing_is_cancelled_at_once() -> None:
    run = Run().begin()
    assert run.letter("cancel") == ["run.cancelling", "StopStep", "Finish"]
    run = Run().begin()
    run.feed(acts.RowsRead(1, 0, 1, [ShardPlan(shard=1, rows=1, bytes=1)]))
    assert run.letter("cancel") == ["run.cancelling", "StopStep", "Finish"]


@pytest.mark.requirement("BATCH-11")
def test_a_job_that_is_being_created_is_known_before_it_is_stopped() -> None:
    run = Run().begin()
    run.feed(acts.RowsRead(1, 0, 1, [ShardPlan(shard=1, rows=1, bytes=1)]))
    assert run.feed(acts.DatasetSeen(1, ready=True)) == ["batch.uploaded", "CreateJob"]
    assert run.letter("cancel") == ["run.cancelling"]
    assert run.feed(acts.JobSeen(1, view(1, "VALIDATING"))) == ["batch.submitted", "batch.state", "StopJob"]


def test_what_a_stopped_step_says_afterwards_counts_nothing() -> None:
    run = Run().begin()
    run.feed(acts.RowsRead(1, 0, 1, [ShardPlan(shard=1, rows=1, bytes=1)]))
    run.feed(acts.DatasetSeen(1, ready=False))
    assert run.feed(acts.RowsUploaded(1)) == ["batch.uploaded", "LookAtDataset"]
    assert run.letter("cancel") == ["run.cancelling", "StopStep", "StopJob"]
    assert run.feed(acts.DatasetSeen(1, ready=True)) == []
    assert run.failed(1, "ready", REFUSED) == []
    assert run.feed(acts.JobStopped(1)) == ["Finish"]


def test_a_run_that_is_ending_does_not_begin_to_end_again() -> None:
    run = Run().submitted(3)
    ended(run, "COMPLETED")
    run.letter("cancel")
    assert run.feed(harvested(1, 1)) == ["batch.trouble", "Finish"]
    assert run.event(batch.BatchTrouble).kind == "no_output"
    assert run.effect(Finish).status == "cancelled"


def test_a_run_that_cannot_stop_its_jobs_ends_all_the_same() -> None:
    run = Run().submitted(3)
    run.letter("cancel")
    assert run.machine.deadline == run.now + ENDING_S, "the step under way is not waited for any longer"
    assert run.later(ENDING_S - 1) == []
    assert run.later(1) == ["Finish"]


def test_a_run_that_is_late_fails_and_stops_its_jobs() -> None:
    run = Run(request(deadline_s=50)).submitted(3)
    run.now = T0 + 50
    run = run.reborn()
    assert kinds(run.last) == ["run.resumed", "batch.trouble", "StopJob"]
    assert run.machine.deadline != T0 + 50
    assert run.feed(acts.JobStopped(1)) == ["LookAtJob"]
    run.feed(acts.JobSeen(1, jobs.gone(job(1))))
    assert run.feed(acts.OutputMissing(1, 0.5)) == ["batch.trouble", "Finish"]
    assert run.effect(Finish).failure.code == "deadline_exceeded"


def test_a_shard_that_cannot_be_submitted_leaves_the_others_alone() -> None:
    run = Run().begin()
    run.feed(acts.RowsRead(4, 0, 4, [ShardPlan(shard=shard, rows=2, bytes=2) for shard in (1, 2)]))
    run.feed(acts.DatasetSeen(1, ready=True))
    run.feed(acts.JobSeen(1, view(1, "RUNNING")))
    assert run.failed(2, "create", REFUSED) == ["batch.trouble", "HarvestJob"]
    harvest = run.effect(acts.HarvestJob)
    assert (harvest.output, harvest.rest) == (None, acts.Verdict("failed", "refused", "no"))
    run.feed(harvested(2, 0, 2))
    ended(run, "COMPLETED", 1)
    run.feed(harvested(1, 2))
    run.feed(RowsCounted(Counts(2, 2)))
    assert run.effect(Finish).status == "completed"


def test_a_job_whose_creation_failed_for_good_is_stopped_in_case_it_exists() -> None:
    run = Run().begin()
    run.feed(acts.RowsRead(2, 0, 2, [ShardPlan(shard=shard, rows=1, bytes=1) for shard in (1, 2)]))
    for shard in (1, 2):
        run.feed(acts.DatasetSeen(shard, ready=True))
    run.feed(acts.JobSeen(1, view(1, "RUNNING")))
    for _ in range(pace.BUDGET - 1):
        run.failed(2, "submit", BUSY, jitter=0.0)
        if "CreateJob" not in kinds(run.last):
            run = run.reborn()
    assert run.failed(2, "submit", BUSY) == ["batch.trouble", "StopJob"]
    assert run.feed(acts.JobStopped(2)) == ["HarvestJob"]
    assert run.effect(acts.HarvestJob).output is None


def test_a_job_that_may_not_be_stopped_is_not_told_again() -> None:
    run = Run().submitted(3)
    run.letter("cancel")
    assert run.failed(1, "stop", REFUSED) == ["LookAtJob"]
    run.feed(acts.JobSeen(1, view(1, "RUNNING")))
    run.now += 15
    assert run.later(0) == ["LookAtJob"]


def test_an_upload_that_failed_begins_with_its_dataset() -> None:
    run = Run().begin()
    run.feed(acts.RowsRead(1, 0, 1, [ShardPlan(shard=1, rows=1, bytes=1)]))
    assert run.feed(acts.DatasetSeen(1, ready=False)) == ["Upload"]
    run.failed(1, "upload", BUSY)
    assert run.later(2) == ["CreateDataset"], "it may have come through"
    run.failed(1, "create", BUSY)
    assert run.event(batch.BatchTrouble).failures == 2
    assert run.later(4) == ["CreateDataset"]
    assert run.feed(acts.DatasetSeen(1, ready=True)) == ["batch.uploaded", "CreateJob"]
    run.failed(1, "submit", BUSY)
    assert run.event(batch.BatchTrouble).failures == 1, "it has got on since"


def test_failures_in_a_row_are_counted_over_lives() -> None:
    run = Run().begin()
    for failures in (1, 2, 3):
        run.failed(0, "read", BUSY)
        assert run.event(batch.BatchTrouble).failures == failures
        run.now = run.event(batch.BatchTrouble).retry_at
        run = run.reborn()
    run.feed(acts.RowsRead(1, 0, 1, [ShardPlan(shard=1, rows=1, bytes=1)]))
    run.failed(1, "create", BUSY)
    assert run.event(batch.BatchTrouble).failures == 1


def test_a_look_that_fails_is_told_once_a_life_and_ends_nothing() -> None:
    run = Run().submitted(3)
    run.now += 1000
    run = run.reborn()
    assert kinds(run.last) == ["run.resumed", "LookAtJob"]
    assert run.failed(1, "look", REFUSED) == ["batch.trouble"]
    assert run.later(700) == ["LookAtJob"]
    assert run.failed(1, "look", REFUSED) == ["Park"]
    assert run.machine.state.ending is None
