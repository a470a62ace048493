"""Batch inference jobs: create, look at, delete, and cancel where that is switched on (WIRE 3.1, 3.5 to 3.7)."""

import re

from workers.emulator import catalogue
from workers.emulator.batch.answers import Answers, JobTerms
from workers.emulator.batch.books import Books, linked
from workers.emulator.batch.calls import Call
from workers.emulator.batch.datasets import Dataset
from workers.emulator.batch.jobs import Job
from workers.emulator.batch.listing import Resource, masked, page, read_query
from workers.emulator.batch.messages import JobBody, Nothing, read_message
from workers.emulator.batch.preparation import Assignment, Preparation
from workers.emulator.batch.refusals import exists, invalid, no_such_method, not_found, not_ready
from workers.emulator.batch.rows import Input, InputFile, Validation
from workers.emulator.batch.schedule import CLEANING_UP, EXPIRED, FAILED, FINAL, Plan, Step, read_plan
from workers.emulator.batch.stamps import last_segment
from workers.emulator.batch.state import BatchStats
from workers.emulator.config import EmulatorConfig
from workers.emulator.faults import FaultSyntax
from workers.emulator.state import derived


class JobDesk:
    """Answers the calls about jobs. Each method returns the JSON of a 200, or raises Refused."""

    def __init__(self, books: Books, config: EmulatorConfig, answers: Answers, stats: BatchStats) -> None:
        self._books = books
        self._emulator = config
        self._config = books.config
        self._answers = answers
        self._stats = stats

    async def create_job(self, call: Call) -> Resource:
        """POST batchInferenceJobs?batchInferenceJobId={id}. Once it is answered, the job is known."""
        body = read_message(JobBody, call.body)
        job_id = self._job_id(call)
        parent = await self._parent(call, body)
        model = body.model or (parent.model if parent else "")
        if not model:
            raise invalid("model is required")
        source = parent.source if parent and not body.input_dataset_id else await self._source(call, body)
        job = Job(
            account=call.account,
            id=job_id,
            created=call.now,
            created_by=self._config.created_by,
            body=body,
            model=model,
            source=source,
            output_id=self._output_id(call, body, job_id),
            plan=self._plan(call, body, model),
            faults=call.faults,
            expires=call.now + self._lives(call, body),
            parent=parent,
        )
        self._prepare(job)
        self._books.enter(job)
        self._stats.jobs_created += 1
        return job.resource(call.now, fresh=True)

    async def get_job(self, call: Call) -> Resource:
        """GET batchInferenceJobs/{id}."""
        job = await self._found(call)
        shown = masked(job.resource(call.now), call.query("readMask", "read_mask"))
        job.seen(call.now)
        return shown

    async def list_jobs(self, call: Call) -> Resource:
        """GET batchInferenceJobs."""
        query = read_query(call.request.query, order="created_time")
        await self._books.refresh(call.account)
        mine = [self._books.job(account, job_id) for account, job_id in self._books.jobs if account == call.account]
        shown, token, total = page([job.resource(call.now) for job in mine if job is not None], query)
        return {"batchInferenceJobs": shown, "nextPageToken": token, "totalSize": total}

    async def delete_job(self, call: Call) -> Resource:
        """DELETE batchInferenceJobs/{id}, the only documented way to cancel. What was published stays."""
        (await self._found(call)).delete(call.now, self._config.cleanup_s)
        return {}

    async def cancel_job(self, call: Call) -> Resource:
        """POST batchInferenceJobs/{id}:cancel, which nobody saw (WIRE 3.1). Rows go on being answered for a while."""
        if not self._config.cancel:
            raise not_found() if self._config.cancel_missing == 404 else no_such_method()
        read_message(Nothing, call.body)
        job = await self._found(call)
        moment = job.planned(call.now)
        if moment.state in FINAL or moment.state == CLEANING_UP:
            raise not_ready(f"{job.name} is {moment.state}")
        if moment.state != "CANCELLING":
            goes_on = any(step.works and step.state == moment.state for step in job.plan.steps)
            cancelling = Step("CANCELLING", self._config.cancelling_s, works=goes_on)
            job.cut(call.now, cancelling, Step("CANCELLED"))
        return {}

    async def _found(self, call: Call) -> Job:
        job = self._books.job(call.account, call.id)
        if job is None:
            raise not_found()
        await self._books.catch_up([job])
        return job

    def _job_id(self, call: Call) -> str:
        given = call.query("batchInferenceJobId", "batch_inference_job_id")
        number = len(self._books.jobs)
        job_id = given or derived(self._emulator.seed, "job", call.account, number)[:8]
        if not re.fullmatch(self._config.id_pattern, job_id):
            raise invalid(f"invalid batch_inference_job_id {job_id!r:.100}")
        before = self._books.jobs.get((call.account, job_id))
        if before and (not self._config.ids_reusable or self._books.job(call.account, job_id)):
            raise exists(before.name)
        return job_id

    def _dataset_id(self, call: Call, name: str) -> str:
        """The id in a dataset's name, full or bare."""
        prefix = f"accounts/{call.account}/datasets/"
        if "/" in name:
            if not name.startswith(prefix) or "/" in name.removeprefix(prefix):
                raise invalid(f"invalid dataset name {name!r:.200}")
        elif not self._config.bare_ids:
            raise invalid(f"not a full dataset name: {name!r:.200}")
        return last_segment(name)

    async def _source(self, call: Call, body: JobBody) -> Dataset:
        if not body.input_dataset_id:
            raise invalid("input_dataset_id is required")
        await self._books.refresh(call.account)
        dataset = self._books.dataset(call.account, self._dataset_id(call, body.input_dataset_id))
        if dataset is None:
            raise not_found()
        if not dataset.files or (self._config.needs_ready and dataset.state(call.now) != "READY"):
            raise not_ready(f"{dataset.name} is not READY")
        return dataset

    async def _parent(self, call: Call, body: JobBody) -> Job | None:
        if not body.continued_from_job_name:
            return None
        job = self._books.job(call.account, last_segment(body.continued_from_job_name))
        if job is None or job.name != body.continued_from_job_name:
            raise not_found()
        await self._books.catch_up([job])
        if not job.over(call.now):
            raise not_ready(f"{job.name} is not over")
        return job

    def _output_id(self, call: Call, body: JobBody, job_id: str) -> str:
        if not body.output_dataset_id:
            return f"bij-{derived(self._emulator.seed, 'output', call.account, job_id, len(self._books.jobs))[:8]}"
        output_id = self._dataset_id(call, body.output_dataset_id)
        if not re.fullmatch(self._config.id_pattern, output_id):
            raise invalid(f"invalid output_dataset_id {output_id!r:.100}")
        if self._books.taken(call.account, output_id):
            raise exists(f"accounts/{call.account}/datasets/{output_id}")
        return output_id

    def _lives(self, call: Call, body: JobBody) -> float:
        """Seconds until the job expires."""
        asked, windows = body.max_job_duration, self._config.job_windows_h
        if asked is not None and (asked <= 0 or (windows is not None and asked / 3600 not in windows)):
            raise invalid(f"invalid max_job_duration {asked:g}s")
        if call.faults.expire_after is not None:
            return call.faults.expire_after
        return self._config.expires_after_s if asked is None else asked

    def _plan(self, call: Call, body: JobBody, model: str) -> Plan:
        """The job's life as scripted, until it expires."""
        faults, stuck = call.faults, call.faults.stuck
        if catalogue.find(self._emulator.models, model) is None:
            if self._config.unknown_model == "refused":
                raise invalid(f"model {model!r:.200} is not available for batch inference")
            stuck = stuck or "PENDING"
        try:
            plan = read_plan(faults.states or self._config.states, faults.rows_done, stuck)
        except ValueError as error:
            raise FaultSyntax(f"emulator fault stuck: {error}") from None
        if faults.fail_job is not None and not faults.states:
            plan = plan.cut(plan.validated, Step(FAILED))
        lives = self._lives(call, body)
        return plan.cut(lives, Step(EXPIRED)) if lives < plan.end else plan

    def _prepare(self, job: Job) -> None:
        """Give the job its rows: all of its dataset's, or those that its parent left."""
        private, public = self._books.folder.new_folder(), self._books.folder.new_folder()
        parameters = job.body.inference_parameters
        terms = JobTerms(job.name, job.model, parameters.given if parameters else {}, job.body.system_prompt)
        parent = job.parent if job.parent and job.source is job.parent.source else None
        if parent:
            files = parent.preparation.input_files
        else:
            files = [InputFile(name, file.path, file.size) for name, file in job.source.files.items()]
        source = Input(linked(files, private))
        left = parent.preparation.unsettled(parent.rows(job.created)) if parent and parent.preparation.total else None
        assignment = Assignment(
            source=source,
            faults=job.faults,
            seed=derived(self._emulator.seed, job.name),
            answer=lambda body, place, total: self._answers.answer(body, terms, job.time_of_row(place, total)),
            wanted=job.wanted,
            validation=Validation(source, self._emulator.roles, true_numbers=self._config.line_numbers == "true"),
            offsets=left,
        )
        job.preparation = Preparation(assignment, private, public)
