"""A batch's effects, one at a time: rows in, shards to the provider, outputs back (`runners.batch`)."""

import asyncio
from typing import Any, cast

import pytest

from api_contracts.batch import BatchRequest, RowSample
from api_contracts.chat import Usage
from tests.unit.core.batch.provider import answer, error
from tests.unit.runners.batch_cell import BUSY, REFUSED, BatchCell, ask, body, jsonl
from tests.waiting import idle, one_turn
from workers.adapters.memory.model import Hold
from workers.core.batch import acts, ids
from workers.core.batch.acts import Counts, CutRows, HarvestJob, Step, Verdict
from workers.core.batch.desk import Desk
from workers.core.batch.jobs import JobView, gone
from workers.core.runs.frame import Effect
from workers.ports import LeaseLost, RowStore, WatchedJob
from workers.runners.batch import BatchPerformer

RUN = "Run-1"
IN, OUT, JOB = (make(RUN, 1) for make in (ids.dataset_id, ids.output_id, ids.job_id))
CREATE = acts.CreateDataset(1, IN, "Run-1 shard 1", 2)
MAKE_JOB = acts.CreateJob(1, JOB, "Run-1 shard 1", IN, OUT, "m", {}, None)
MISSING = Verdict("failed", "missing_output", "no file speaks of it")
ANSWERS, ERRORS = "BIJOutputSet.jsonl", "error-data"

EFFECTS: list[tuple[Effect, int, Step]] = [
    (acts.ReadRows(1), 0, "read"),
    (CREATE, 1, "create"),
    (acts.Upload(1, IN, 10, signed=False), 1, "upload"),
    (acts.LookAtDataset(1, IN), 1, "ready"),
    (MAKE_JOB, 1, "submit"),
    (acts.LookAtJob(1, JOB), 1, "look"),
    (acts.StopJob(1, JOB), 1, "stop"),
    (HarvestJob(1, 1, JOB, OUT, last=True, rest=None), 1, "harvest"),
    (CutRows(1, "again", 0, 2, 2, 2), 0, "cut"),
    (CutRows(1, "split", 1, 2, 1, 2), 0, "cut"),
    (acts.CountRows(), 0, "count"),
]
"""Each effect, and the number and step under which the machine waits for it."""
EACH_EFFECT = pytest.mark.parametrize(
    ("effect", "shard", "step"), EFFECTS, ids=lambda each: getattr(each, "cause", None)
)

PLACE: dict[Step, str] = {
    "read": "restart", "create": "create_dataset", "upload": "upload", "ready": "dataset_is_ready",
    "submit": "create_job", "look": "job", "stop": "stop", "harvest": "ids", "cut": "cut", "count": "counts",
}  # fmt: skip
"""The first call of the world in each step."""


class Stage:
    """A performer, and what it posted."""

    def __init__(self, submitted_at: float = 0.0, **fields: Any) -> None:
        self.cell = BatchCell()
        fields = fields if fields.keys() & {"file", "dataset", "rows"} else {"rows": [ask(1), ask(2)]} | fields
        request = BatchRequest.model_validate({"model": "m", "credential": "theirs"} | fields)
        self.performer = BatchPerformer(RUN, request, self.cell.parts, submitted_at)
        self.posted: list[Any] = []

    async def does(self, effect: Effect) -> Any:
        """Perform an effect; return the one fact that it posts."""
        self.performer.perform(effect, self.posted.append)
        await idle()
        (fact,) = self.posted
        self.posted.clear()
        return fact

    async def read(self) -> acts.RowsRead:
        fact = await self.does(acts.ReadRows(1))
        assert isinstance(fact, acts.RowsRead)
        return fact

    def breaks_at(self, step: Step, *, hold: bool = False) -> Any:
        """Let the first call of the world in a step fail, or be held."""
        place: Any = PLACE[step]
        if hasattr(self.cell.rows, place):
            if hold:
                self.cell.line.held[place] = Hold()
                return self.cell.line.held[place]
            self.cell.line.away.add(place)
            return None
        return self.cell.service.hold(place) if hold else self.cell.service.trouble(place, BUSY)

    def rows(self) -> list[tuple[int, str | None, str, int]]:
        return [(row.number, row.custom_id, row.state, row.shard) for row in self.cell.rows.rows(RUN)]


# -- rows in -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-01", "BATCH-05")
async def test_rows_of_the_request_are_kept_and_cut_into_shards() -> None:
    stage = Stage(rows=[ask(n) for n in range(1, 6)], shard_rows=2)
    read = await stage.read()
    assert (read.rows, read.quarantined, [plan.rows for plan in read.shards]) == (5, 0, [2, 2, 1])
    assert stage.rows() == [(n, f"row-{n}", "pending", (n + 1) // 2) for n in range(1, 6)]
    lines = [b"".join([data async for data in stage.cell.rows.lines(RUN, shard)]) for shard in (1, 2, 3)]
    assert [plan.bytes for plan in read.shards] == [len(each) for each in lines]
    assert read.bytes == sum(map(len, lines))


@pytest.mark.requirement("BATCH-01")
async def test_rows_of_a_file_are_read_as_it_comes() -> None:
    stage = Stage(file="/rows.jsonl")
    stage.cell.inputs.files["/rows.jsonl"] = b"\xef\xbb\xbf" + jsonl([ask(1)]) + b"\r\n" + jsonl([ask(2)]).rstrip()
    assert (await stage.read()).rows == 2
    assert stage.rows() == [(1, "row-1", "pending", 1), (3, "row-2", "pending", 1)]
    assert stage.cell.inputs.open == 0


@pytest.mark.requirement("BATCH-01")
async def test_rows_of_a_dataset_are_read_file_by_file() -> None:
    stage = Stage(dataset="accounts/a/datasets/mine")
    files = {"a.jsonl": jsonl([ask(1)]).rstrip(), "b.jsonl": jsonl([ask(2), ask(3)])}
    stage.cell.service.put_dataset("mine", files)
    assert (await stage.read()).rows == 3
    assert [custom_id for _, custom_id, *_ in stage.rows()] == ["row-1", "row-2", "row-3"]
    assert stage.cell.service.open == 0
    assert {call.credential for call in stage.cell.service.calls} == {"theirs"}


@pytest.mark.parametrize("source", [{"file": "/gone.jsonl"}, {"dataset": "gone"}])
async def test_an_input_that_is_not_there_is_the_callers_failure(source: dict[str, Any]) -> None:
    failed = await Stage(**source).does(acts.ReadRows(1))
    assert isinstance(failed, acts.StepFailed)
    assert (failed.shard, failed.step, failed.jitter) == (0, "read", 1.0)
    assert (failed.failure.code, failed.failure.at_fault, failed.failure.retryable) == (
        "input_unreadable", "caller", False,
    )  # fmt: skip


@pytest.mark.requirement("BATCH-02")
async def test_bad_rows_are_set_aside_and_the_others_go_on() -> None:
    stage = Stage(file="/rows.jsonl")
    good = [jsonl([ask(number)]) for number in range(1, 30)]
    bad = [b'{"custom_id":"x"}\n', b"{nonsense\n", jsonl([ask(77, body={"messages": []})])] * 10
    stage.cell.inputs.files["/rows.jsonl"] = b"".join([*good, *bad])
    read = await stage.read()
    assert (read.rows, read.quarantined, sum(read.reasons.values())) == (59, 30, 30)
    assert (read.reasons["no_body"], read.reasons["not_json"]) == (10, 10)
    assert [plan.rows for plan in read.shards] == [29]
    assert len(read.samples) == 20
    assert read.samples[0] == RowSample(
        number=30, custom_id="x", code="no_body", message="'body' must be an object, not nothing"
    )
    assert await stage.cell.rows.counts(RUN) == Counts(quarantined=30, pending=29)


@pytest.mark.requirement("BATCH-01", "BATCH-02")
async def test_of_rows_with_one_custom_id_the_first_is_kept() -> None:
    stage = Stage(rows=[ask(1), ask(2), ask(1, body=body("other")), ask(1)], shard_rows=2)
    read = await stage.read()
    assert (read.rows, read.quarantined, read.reasons) == (4, 2, {"duplicate_custom_id": 2})
    assert [(sample.number, sample.custom_id) for sample in read.samples] == [(3, "row-1"), (4, "row-1")]
    assert stage.rows()[2:] == [(3, "row-1", "quarantined", 0), (4, "row-1", "quarantined", 0)]
    assert [plan.rows for plan in read.shards] == [2], "shards have the rows that are kept"


@pytest.mark.requirement("BATCH-01")
async def test_rows_without_an_id_get_one_from_their_content_and_equal_ones_are_told_apart() -> None:
    made = ids.made_custom_id(b'{"messages":[{"role":"user","content":"hi"}]}')
    theirs = {"custom_id": f"{made}-4", "body": body("other")}
    stage = Stage(rows=[{"body": body()}, theirs, {"body": body()}, {"body": body()}, {"body": body("else")}])
    read = await stage.read()
    found = stage.rows()
    assert [custom_id for _, custom_id, *_ in found[:4]] == [made, f"{made}-4", f"{made}-3", f"{made}-4"]
    assert [state for *_, state, _ in found] == ["pending"] * 3 + ["quarantined", "pending"]
    assert (read.quarantined, [plan.rows for plan in read.shards]) == (1, [4])


async def test_duplicates_are_found_across_transactions() -> None:
    rows = [{"body": body(str(n % 700))} for n in range(1400)] + [ask(1), ask(1)]
    read = await Stage(rows=rows, shard_rows=500).read()
    assert (read.rows, read.quarantined) == (1402, 1)
    assert sum(plan.rows for plan in read.shards) == 1401


async def test_rows_go_into_sql_some_hundreds_at_a_time_and_large_ones_few_at_a_time() -> None:
    stage = Stage(rows=[ask(n) for n in range(1, 1206)])
    await stage.read()
    assert [len(rows) for rows in stage.cell.line.added] == [500, 500, 205]
    stage = Stage(file="/large.jsonl")
    stage.cell.inputs.piece = 250_000
    stage.cell.inputs.files["/large.jsonl"] = jsonl([ask(n, body=body("x" * 700_000)) for n in range(1, 12)])
    await stage.read()
    assert max(sum(row.size for row in rows) for rows in stage.cell.line.added) < 3_000_000


async def test_other_runs_have_their_turn_while_rows_are_checked() -> None:
    stage, turns = Stage(rows=[ask(n) for n in range(1, 1001)]), 0
    stage.performer.perform(acts.ReadRows(1), stage.posted.append)
    while not stage.posted:
        await one_turn()
        turns += 1
    assert turns >= 10, "a hundred rows at a time"


async def test_a_reading_that_broke_is_begun_anew() -> None:
    stage = Stage(file="/rows.jsonl")
    stage.cell.inputs.files["/rows.jsonl"] = jsonl([ask(n) for n in range(1, 2001)])
    stage.cell.inputs.breaks = 1
    failed = await stage.does(acts.ReadRows(1))
    assert isinstance(failed, acts.StepFailed)
    assert failed.failure.retryable
    assert len(stage.rows()) > 500
    assert (await stage.read()).rows == len(stage.rows()) == 2000


# -- to the provider ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-03", "BATCH-04")
async def test_a_shard_goes_up_and_becomes_a_job_that_is_watched() -> None:
    stage = Stage()
    read = await stage.read()
    assert await stage.does(CREATE) == acts.DatasetSeen(1, ready=False)
    assert await stage.does(acts.Upload(1, IN, read.bytes, signed=False)) == acts.RowsUploaded(1)
    (data,) = stage.cell.service.datasets[IN].files.values()
    assert len(data) == read.bytes
    assert await stage.does(acts.LookAtDataset(1, IN)) == acts.DatasetSeen(1, ready=True)
    view = JobView(JOB, "VALIDATING", output=OUT)
    for _ in range(2):
        assert await stage.does(MAKE_JOB) == acts.JobSeen(1, view)
    assert await stage.does(acts.LookAtJob(1, JOB)) == acts.JobSeen(1, view)
    now = stage.cell.clock.now()
    assert stage.cell.rows.watched(RUN) == {1: now + 30.0}
    (job,) = await stage.cell.rows.claim_jobs(now + 30, now + 99, 5)
    assert (job.job, job.credential, job.submitted_at, job.changed_at, job.seen) == (JOB, "theirs", now, now, view)
    assert await stage.does(acts.StopJob(1, JOB)) == acts.JobStopped(1)
    assert {call.credential for call in stage.cell.service.calls} == {"theirs"}


async def test_a_job_that_is_not_there_is_seen_as_gone() -> None:
    stage = Stage()
    assert await stage.does(acts.LookAtJob(1, JOB)) == acts.JobSeen(1, gone(JOB))
    assert await stage.does(acts.StopJob(1, JOB)) == acts.JobStopped(1)


async def test_rows_that_cannot_be_read_for_an_upload_are_an_outage() -> None:
    stage = Stage()
    read = await stage.read()
    await stage.does(CREATE)
    stage.cell.line.away.add("lines")
    failed = await stage.does(acts.Upload(1, IN, read.bytes, signed=False))
    assert (failed.step, failed.failure.code) == ("upload", "store_unavailable")


# -- back --------------------------------------------------------------------------------------------------------------


async def harvesting(files: dict[str, bytes] | None, **fields: Any) -> Stage:
    """Return a stage with four rows in shard 1, and a job's output."""
    stage = Stage(rows=[ask(n) for n in range(1, 5)], **fields)
    await stage.read()
    if files is not None:
        stage.cell.service.put_dataset(OUT, files)
    return stage


@pytest.mark.requirement("BATCH-07", "BATCH-13")
async def test_an_output_settles_its_rows_and_every_line_is_accounted_for() -> None:
    answers = [answer("row-1"), answer("row-2", "length"), b"{broken", answer("row-1"), answer("nobody")]
    errors = [error("row-1"), error("row-3")]
    files = {f"dataset/x/{ANSWERS}": b"\n".join(answers), f"dataset/x/{ERRORS}": b"\n".join(errors), "notes": b"?\n"}
    stage = await harvesting(files)
    await stage.cell.rows.watch(WatchedJob(RUN, 1, JOB, None, 1.0, 1.0, gone(JOB)), 1.0)
    harvested = await stage.does(HarvestJob(1, 1, JOB, OUT, last=True, rest=MISSING))
    assert harvested == acts.JobHarvested(
        1, Counts(1, 3), lines=7, duplicates=2, strangers=1, corrupt=1,
        usage=Usage(prompt_tokens=20, completion_tokens=4, estimated=False),
        reasons={"finish_length": 1, "missing_output": 1, "provider_500": 1},
    )  # fmt: skip
    kept = stage.cell.kept(RUN)
    assert [kept[f"row-{n}"].state for n in range(1, 5)] == ["succeeded", "failed", "failed", "failed"]
    assert kept["row-2"].response is not None
    assert stage.cell.rows.watched(RUN) == {}
    assert stage.cell.service.open == 0


async def test_rows_that_another_attempt_may_mend_stay_pending() -> None:
    stage = await harvesting({ANSWERS: answer("row-1", "length"), ERRORS: error("row-2") + b"\n" + error("row-3", 400)})
    again = Verdict("pending", "missing_output", "not yet")
    harvested = await stage.does(HarvestJob(1, 1, JOB, OUT, last=False, rest=again))
    assert (harvested.counts, harvested.reasons) == (Counts(0, 1, 0, 3), {"provider_400": 1})
    assert stage.cell.kept(RUN)["row-4"].code == "missing_output"


async def test_an_output_is_read_twice_to_the_same_end() -> None:
    stage = await harvesting({ANSWERS: answer("row-1"), ERRORS: error("row-2")})
    effect = HarvestJob(1, 1, JOB, OUT, last=True, rest=MISSING)
    once, before = await stage.does(effect), stage.cell.rows.rows(RUN)
    assert await stage.does(effect) == once
    assert stage.cell.rows.rows(RUN) == before


async def test_an_output_that_breaks_off_keeps_what_came() -> None:
    lines = b"\n".join(answer(f"row-{n}") for n in range(1, 5))
    stage = await harvesting({ANSWERS: lines})
    stage.cell.service.trouble("download", BUSY, after=len(lines) // 2)
    failed = await stage.does(HarvestJob(1, 1, JOB, OUT, last=True, rest=MISSING))
    assert failed == acts.StepFailed(1, "harvest", BUSY, 1.0)
    assert stage.cell.service.open == 0
    harvested = await stage.does(HarvestJob(1, 1, JOB, OUT, last=True, rest=MISSING))
    assert harvested.counts == Counts(4)


async def test_an_output_that_is_not_there_is_told_and_nothing_is_decided() -> None:
    stage = await harvesting(None)
    assert await stage.does(HarvestJob(1, 1, JOB, OUT, last=True, rest=MISSING)) == acts.OutputMissing(1, 1.0)
    assert await stage.cell.rows.counts(RUN) == Counts(pending=4)


async def test_without_an_output_the_verdict_is_for_all() -> None:
    stage = await harvesting({ANSWERS: answer("row-1")})
    harvested = await stage.does(HarvestJob(1, 1, JOB, None, last=True, rest=MISSING))
    assert harvested == acts.JobHarvested(1, Counts(0, 4), reasons={"missing_output": 4})


async def test_without_a_verdict_the_others_stay_as_they_are() -> None:
    stage = await harvesting({ANSWERS: answer("row-1")})
    harvested = await stage.does(HarvestJob(1, 1, JOB, OUT, last=True, rest=None))
    assert harvested.counts == Counts(1, 0, 0, 3)


# -- cutting and counting ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-05", "BATCH-10")
async def test_rows_are_cut_by_the_requests_shards_or_in_halves() -> None:
    stage = Stage(rows=[ask(n) for n in range(1, 8)], shard_rows=3)
    await stage.read()
    halves = await stage.does(CutRows(1, "split", 1, 3, 1, 4))
    assert [(plan.shard, plan.rows) for plan in halves.shards] == [(4, 2), (5, 1)]
    again = await stage.does(CutRows(1, "again", 0, 7, 2, 6))
    assert [(plan.shard, plan.rows) for plan in again.shards] == [(6, 3), (7, 3), (8, 1)]
    assert await stage.does(acts.CountRows()) == acts.RowsCounted(Counts(pending=7))


# -- whatever goes wrong -----------------------------------------------------------------------------------------------


@EACH_EFFECT
async def test_a_step_that_fails_says_so_where_the_machine_waits_for_it(effect: Effect, shard: int, step: Step) -> None:
    stage, desk = Stage(), Desk(0.0)
    stage.breaks_at(step)
    desk.begin(shard, effect)
    failed = await stage.does(effect)
    assert isinstance(failed, acts.StepFailed)
    assert failed.failure.retryable
    assert desk.settle(failed.shard, (failed.step,)) is effect, "else the machine would wait for ever"


@EACH_EFFECT
async def test_a_step_that_is_stopped_says_nothing_any_more(effect: Effect, shard: int, step: Step) -> None:
    stage = Stage()
    hold = stage.breaks_at(step, hold=True)
    stage.performer.perform(effect, stage.posted.append)
    await hold.reached.wait()
    stage.performer.perform(acts.StopStep(shard, step), stage.posted.append)
    hold.go.set()
    await idle()
    assert (stage.posted, stage.performer._tasks) == ([], {})


@EACH_EFFECT
async def test_a_step_that_is_stopped_before_it_began_never_does(effect: Effect, shard: int, step: Step) -> None:
    stage = Stage()
    stage.performer.perform(effect, stage.posted.append)
    stage.performer.perform(acts.StopStep(shard, step), stage.posted.append)
    await idle()
    assert (stage.posted, stage.cell.service.calls, stage.cell.line.calls) == ([], [], {})


@EACH_EFFECT
async def test_closing_leaves_nothing_behind(effect: Effect, shard: int, step: Step) -> None:
    stage = Stage()
    hold = stage.breaks_at(step, hold=True)
    stage.performer.perform(effect, stage.posted.append)
    await hold.reached.wait()
    await stage.performer.close()
    await idle()
    assert stage.posted == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await stage.performer.close()


async def test_a_provider_that_refuses_fails_the_step_with_its_reason() -> None:
    stage = Stage()
    stage.cell.service.trouble("create_dataset", REFUSED)
    assert await stage.does(CREATE) == acts.StepFailed(1, "create", REFUSED, 1.0)


async def test_steps_of_other_shards_go_on_when_one_is_stopped() -> None:
    stage = Stage()
    hold = stage.cell.service.hold("job")
    stage.performer.perform(acts.LookAtJob(1, JOB), stage.posted.append)
    await hold.reached.wait()
    second = stage.cell.service.hold("job")
    stage.performer.perform(acts.LookAtJob(2, "other"), stage.posted.append)
    await second.reached.wait()
    stage.performer.perform(acts.StopStep(1, "look"), stage.posted.append)
    second.go.set()
    await idle()
    assert stage.posted == [acts.JobSeen(2, gone("other"))]


@pytest.mark.requirement("RUN-03")
async def test_who_was_replaced_is_told_by_the_rows() -> None:
    stage = Stage()
    await stage.cell.rows.restart(RUN, 9)
    for effect in (
        acts.ReadRows(8),
        CutRows(8, "again", 0, 0, 2, 2),
        HarvestJob(8, 1, JOB, None, last=True, rest=MISSING),
    ):
        assert isinstance(await stage.does(effect), LeaseLost)


async def test_the_first_worker_of_a_later_submit_comes_after_all_of_an_earlier_one() -> None:
    earlier, later = Stage(submitted_at=1_700_000_000.0), Stage(submitted_at=1_700_000_000.5)
    later.cell = earlier.cell
    later.performer._rows = earlier.performer._rows
    assert isinstance(await earlier.does(acts.ReadRows(500)), acts.RowsRead)
    assert isinstance(await later.does(acts.ReadRows(1)), acts.RowsRead)
    assert isinstance(await earlier.does(acts.ReadRows(501)), LeaseLost)


async def test_a_defect_is_posted_for_the_driver() -> None:
    class Broken:
        async def counts(self, run_id: str) -> Counts:
            raise KeyError(run_id)

    stage = Stage()
    stage.performer._rows = cast("RowStore", Broken())
    assert isinstance(await stage.does(acts.CountRows()), KeyError)


def test_an_effect_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no effect Effect"):
        Stage().performer.perform(Effect(), print)
