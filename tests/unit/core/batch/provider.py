"""The provider's batch service, as a thing of plain numbers: datasets, jobs and their files, in virtual time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

Fate = Literal["ok", "length", "error", "invalid", "missing", "poison", "fickle"]
"""What becomes of a row: `fickle` is missing at its first attempt, then answered."""

Outcome = Literal["COMPLETED", "EXPIRED", "EARLY_STOPPED", "FAILED", "CANCELLED", "STUCK", "UNHEARD_OF"]

WINDOW_S = 2400.0
"""After so long a job expires."""


@dataclass
class Dataset:
    """`rows` is None until it was filled."""

    examples: int
    rows: list[str] | None = None
    ready_at: float = 0.0


@dataclass
class Job:
    """`ids` are the custom ids of its input."""

    number: int
    ids: list[str]
    created_at: float
    outcome: Outcome
    output: str
    tries: dict[str, int]
    """How often each row was submitted by now."""
    deleted_at: float | None = None


@dataclass
class Provider:
    """`outcomes` says how the first, second ... job ends; the last one stands for all that follow."""

    fates: dict[str, Fate]
    outcomes: Sequence[Outcome] = ("COMPLETED",)
    ready_s: float = 0.5
    litter: bool = False
    late_output_s: float = 0.0
    datasets: dict[str, Dataset] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    created: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)

    # -- datasets --------------------------------------------------------------------------------------------------

    def create_dataset(self, name: str, examples: int, now: float) -> bool:
        """Create or adopt; return whether it is READY."""
        found = self.datasets.setdefault(name, Dataset(examples))
        assert found.examples == examples, "adopted a dataset of other rows"
        return self.is_ready(name, now)

    def is_ready(self, name: str, now: float) -> bool:
        found = self.datasets[name]
        return found.rows is not None and now >= found.ready_at

    def upload(self, name: str, rows: list[str], now: float) -> None:
        found = self.datasets[name]
        assert found.rows in (None, rows), "filled again with other rows"
        assert len(rows) == found.examples
        found.rows, found.ready_at = rows, now + self.ready_s

    # -- jobs ------------------------------------------------------------------------------------------------------

    def create_job(self, name: str, dataset: str, output: str, now: float) -> dict[str, Any]:
        """Create or adopt; return the resource."""
        if name not in self.jobs or self._is_gone(self.jobs[name], now):
            assert self.is_ready(dataset, now), "a job on a dataset that is not READY"
            ids = self.datasets[dataset].rows or []
            number = len(self.jobs)
            outcome = self.outcomes[min(number, len(self.outcomes) - 1)]
            if any(self.fates[each] == "poison" for each in ids):
                outcome = "FAILED"
            self.attempts.update(ids)
            self.jobs[name] = Job(number, ids, now, outcome, output, {each: self.attempts[each] for each in ids})
            self.created[name] += 1
            assert self.created[name] == 1, f"a second job for {name}"
        assert self.jobs[name].output == output
        return self.resource(name, now) or {}

    def delete_job(self, name: str, now: float) -> None:
        if name in self.jobs:
            job = self.jobs[name]
            job.deleted_at = job.deleted_at or now

    def resource(self, name: str, now: float) -> dict[str, Any] | None:
        """Return the job as GET shows it (WIRE 3.5); None for a 404."""
        job = self.jobs.get(name)
        if job is None or self._is_gone(job, now):
            return None
        state, processed = self._state(job, now), self._processed(job, now)
        refused = state == "FAILED" and any(self.fates[each] == "poison" for each in job.ids)
        status = {"code": "INVALID_ARGUMENT", "message": "Dataset has a syntax error"} if refused else {"code": "OK"}
        return {
            "name": f"accounts/a/batchInferenceJobs/{name}", "state": f"JOB_STATE_{state}", "status": status,
            "outputDatasetId": f"accounts/a/datasets/{job.output}",
            "expireTime": datetime.fromtimestamp(job.created_at + WINDOW_S, UTC).isoformat(),
            "jobProgress": {
                "totalProcessedRequests": processed, "successfullyProcessedRequests": processed,
                "totalInputRequests": str(len(job.ids)), "inputTokens": str(10 * processed),
            } if processed else None,
        }  # fmt: skip

    def files(self, output: str, now: float) -> dict[str, bytes] | None:
        """Return the files of an output dataset; None for a 404."""
        job = next((each for each in self.jobs.values() if each.output == output), None)
        if job is None or not self.is_readable(job, now):
            return None
        answers, errors = list[bytes](), list[bytes]()
        for custom_id in self._reached(job):
            fate = self.fates[custom_id]
            if fate == "fickle":
                fate = "missing" if job.tries[custom_id] == 1 else "ok"
            if fate in ("ok", "length"):
                answers.append(answer(custom_id, "length" if fate == "length" else "stop"))
            elif fate in ("error", "invalid"):
                errors.append(error(custom_id, 500 if fate == "error" else 400))
        answers.reverse()  # no order is promised
        if self.litter:
            answers = [b"", b'{"custom_id": "ha', *answers, *answers[:2], answer("nobody"), b"[]"]
            errors = [*errors, *(error(orjson.loads(each)["custom_id"]) for each in answers[2:3] if each)]
        folder = "dataset/error-prone-id"
        return {f"{folder}/BIJOutputSet.jsonl": b"\n".join(answers), f"{folder}/error-data": b"\r\n".join(errors)}

    def is_readable(self, job: Job, now: float) -> bool:
        """Return whether the output is there: of a failed job, and of one deleted before it worked, it is not."""
        if job.deleted_at is not None:
            return self._reach_time(job) <= job.deleted_at and job.outcome != "FAILED"
        usable = job.outcome in ("COMPLETED", "EXPIRED", "EARLY_STOPPED", "CANCELLED", "UNHEARD_OF")
        return usable and now >= self._end_time(job) + self.late_output_s

    def answered(self, output: str, now: float, fail_on: Sequence[str]) -> set[str]:
        """Return the custom ids that the output answers well."""
        well = [b'"%b"' % reason.encode() for reason in {"stop", "length"} - set(fail_on)]
        found: set[str] = set()
        for line in (self.files(output, now) or {}).get("dataset/error-prone-id/BIJOutputSet.jsonl", b"").split(b"\n"):
            if line.endswith(b"}") and any(reason in line for reason in well):
                found.add(orjson.loads(line)["custom_id"])
        return found - {"nobody"}

    def _reached(self, job: Job) -> list[str]:
        """The rows that the job came to before its end."""
        if job.outcome in ("EXPIRED", "EARLY_STOPPED", "CANCELLED") or job.deleted_at is not None:
            return job.ids[: len(job.ids) // 2]
        return job.ids

    def _is_gone(self, job: Job, now: float) -> bool:
        return job.deleted_at is not None and now >= job.deleted_at + 60

    def _reach_time(self, job: Job) -> float:
        return job.created_at + 300

    def _end_time(self, job: Job) -> float:
        return job.created_at + (WINDOW_S if job.outcome == "EXPIRED" else 480)

    def _state(self, job: Job, now: float) -> str:
        if job.deleted_at is not None:
            return "DELETING_CLEANING_UP"
        age = now - job.created_at
        if age < 60:
            return "VALIDATING"
        if job.outcome == "FAILED":
            return "FAILED"
        if age < 120 or job.outcome == "STUCK":
            return "PENDING"
        if now < self._end_time(job):
            return "POLISHING" if job.outcome == "UNHEARD_OF" and age > 240 else "RUNNING"
        return "COMPLETED" if job.outcome == "UNHEARD_OF" else job.outcome

    def _processed(self, job: Job, now: float) -> int:
        if self._state(job, now) in ("VALIDATING", "PENDING", "FAILED"):
            return 0
        share = min(max((now - job.created_at - 120) / 360, 0.0), 1.0)
        return int(share * len(self._reached(job)))


def answer(custom_id: str, finish: str = "stop") -> bytes:
    """Return a line of the answers (WIRE 3.4)."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    return orjson.dumps({"custom_id": custom_id, "response": {"id": "c", "choices": [choice], "usage": usage}})


def error(custom_id: str, code: int = 500) -> bytes:
    """Return a line of `error-data`, as consumers expect it."""
    return orjson.dumps({"custom_id": custom_id, "error": {"message": "no", "code": code}})
