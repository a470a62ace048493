"""A batch inference job: its plan, its rows, and its resource at any time (WIRE 3.5 to 3.7). Knows no requests.

The state is a function of (created, plan, now). Only two things lag behind virtual time if the machine is slow: a job
stays VALIDATING until its rows have been looked through, and RUNNING until those that are due have been answered.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from workers.emulator.batch.datasets import Dataset
from workers.emulator.batch.faults import BatchFaults
from workers.emulator.batch.messages import JobBody, dump_parameters
from workers.emulator.batch.preparation import Preparation
from workers.emulator.batch.schedule import CLEANING_UP, FAILED, FINAL, GONE, RUNNING, Moment, Plan, Step
from workers.emulator.batch.stamps import fresh_stamp, optional_stamp, stamp


@dataclass
class Job:
    """A job. `plan` changes only by being cut. `preparation` is set right after it is made, since the two need each
    other. `published`: its output can be downloaded; `concluded`: what comes after the end has been done.
    """

    account: str
    id: str
    created: float
    created_by: str
    body: JobBody
    model: str
    source: Dataset
    output_id: str
    plan: Plan
    faults: BatchFaults
    expires: float
    parent: "Job | None" = None
    published: bool = False
    concluded: bool = False
    preparation: Preparation = field(init=False)
    _failed: bool = False

    @property
    def name(self) -> str:
        """The full resource name."""
        return f"accounts/{self.account}/batchInferenceJobs/{self.id}"

    @property
    def output_name(self) -> str:
        """The full name of the output dataset."""
        return f"accounts/{self.account}/datasets/{self.output_id}"

    def planned(self, now: float) -> Moment:
        """Where the job should stand."""
        if self.preparation.failure is not None and not self._failed:
            self._failed = True
            self.plan = self.plan.cut(self.plan.validated, Step(FAILED))
        return self.plan.at(now - self.created)

    def behind(self, now: float) -> bool:
        """Whether rows are due that have not been looked through or answered."""
        moment, work = self.planned(now), self.preparation
        if work.failure is not None:
            return False
        if work.total is None:
            return now - self.created >= self.plan.validated
        return work.answered < self.plan.rows(moment, work.total)

    def moment(self, now: float) -> Moment:
        """Where the job stands: where it should, or where a slow machine holds it back."""
        moment = self.planned(now)
        if moment.state == GONE or not self.behind(now):
            return moment
        if self.preparation.total is None:
            return Moment(self.plan.steps[0].state, 0.0, 0.0)
        if moment.state not in FINAL:
            return moment
        held = self.plan.steps[-2].state
        return Moment(held, self.plan.first(held) or 0.0, moment.worked_s)

    def wanted(self, total: int) -> int:
        """How many of its rows it will ever have answered."""
        return self.plan.most_rows(total)

    def time_of_row(self, place: int, total: int) -> float:
        """When the row in this place of the order is answered."""
        return self.created + self.plan.age_of_row(place, total)

    @property
    def ran(self) -> bool:
        """Whether its plan came to RUNNING, or will."""
        return self.plan.first(RUNNING) is not None and self.preparation.failure is None

    def rows(self, now: float) -> int:
        """How many rows it has answered, as far as it tells."""
        work = self.preparation
        return min(work.answered, self.plan.rows(self.planned(now), work.total or 0))

    def over(self, now: float) -> bool:
        """Whether its state will not change any more, but for a deletion."""
        return self.moment(now).state in FINAL | {GONE}

    def cut(self, now: float, *then: Step) -> None:
        """End its plan here, and go on with other steps."""
        self.plan = self.plan.cut(now - self.created, *then)

    def delete(self, now: float, cleanup_s: float | None) -> None:
        """Clean up, then be gone; without a time the first look ends the cleaning."""
        self.concluded = False
        if self.planned(now).state != CLEANING_UP:
            cleaning = Step(CLEANING_UP) if cleanup_s is None else Step(CLEANING_UP, cleanup_s)
            self.cut(now, cleaning, *([] if cleanup_s is None else [Step(GONE)]))

    def seen(self, now: float) -> None:
        """Somebody has seen the job: a cleaning without a time is over."""
        last = self.plan.steps[-1]
        if last.state == CLEANING_UP and self.planned(now).state == CLEANING_UP:
            self.plan = replace(self.plan, steps=(*self.plan.steps[:-1], Step(GONE)))

    def resource(self, now: float, *, fresh: bool = False) -> dict[str, Any]:
        """The resource as JSON, defaults emitted; `fresh` is the answer to its creation."""
        moment = self.moment(now)
        spelled = fresh_stamp if fresh else stamp
        precision = self.body.precision
        duration = self.body.max_job_duration
        return {
            "name": self.name,
            "displayName": self.body.display_name,
            "createTime": spelled(self.created),
            "createdBy": self.created_by,
            "updateTime": spelled(self.created + moment.since),
            "expireTime": spelled(self.expires),
            "state": f"JOB_STATE_{moment.state}",
            "status": self._status(moment),
            "model": self.model,
            "inputDatasetId": self.source.name,
            "outputDatasetId": self.output_name,
            "inferenceParameters": dump_parameters(self.body.inference_parameters),
            "systemPrompt": self.body.system_prompt,
            "precision": "BF16" if precision == "PRECISION_UNSPECIFIED" else precision,
            "continuedFromJobName": self.parent.name if self.parent else "",
            "jobProgress": self._progress(now),
            "lifecycle": self._lifecycle(now, moment),
            "maxJobDuration": None if duration is None else f"{duration:g}s",
            "placement": None,
            "waitingOnCapacity": moment.state == RUNNING and self.faults.has("waiting_on_capacity"),
        }

    def _status(self, moment: Moment) -> dict[str, str]:
        if moment.state != FAILED:
            return {"code": "OK", "message": ""}
        if self.preparation.failure is not None:
            return {"code": "INVALID_ARGUMENT", "message": self.preparation.failure}
        return {"code": self.faults.fail_job or "INTERNAL", "message": "A fault was asked for"}

    def _begun(self, state_begins: float | None, now: float) -> float | None:
        passed = state_begins is not None and now >= self.created + state_begins
        return self.created + state_begins if passed and state_begins is not None else None

    def _progress(self, now: float) -> dict[str, int] | None:
        """Null until the job runs (WIRE 8). The total is what the dataset was declared to have (WIRE 3.5)."""
        if self._begun(self.plan.first(RUNNING), now) is None or self.preparation.total is None:
            return None
        rows, declared = self.rows(now), self.source.example_count
        totals = self.preparation.ledger.totals(rows)
        return {
            "percent": 100 * rows // max(declared, self.preparation.total),
            "epoch": 0,
            "totalInputRequests": declared,
            "totalProcessedRequests": rows,
            "successfullyProcessedRequests": totals.succeeded,
            "failedRequests": totals.failed,
            "outputRows": totals.lines,
            "inputTokens": totals.input_tokens,
            "outputTokens": totals.output_tokens,
            "cachedInputTokenCount": totals.cached_tokens,
        }

    def _lifecycle(self, now: float, moment: Moment) -> dict[str, str | None] | None:
        """Null until something is in it; a job that failed its validation has its end only (WIRE 3.7)."""
        known = self.preparation.total is not None
        validated = self._begun(self.plan.validated, now) if known else None
        ended = self.created + moment.since if moment.state in FINAL else None
        started = self._begun(self.plan.first(RUNNING), now)
        if validated is None and ended is None:
            return None
        return {
            "validatedTime": optional_stamp(validated),
            "runStartTime": optional_stamp(started),
            "endTime": optional_stamp(ended),
        }
