"""What every batch service promises, held against each implementation of the port."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import pytest

from api_contracts.failure import Failure
from tests.contract.emulator_batch.plane import MODEL, jsonl, rows
from workers.adapters.fireworks.batch import FireworksBatch
from workers.adapters.memory.batch import MemoryBatch, Operation
from workers.core.batch.acts import CreateJob
from workers.core.batch.jobs import JobView, gone
from workers.emulator import EmulatorConfig, Running, serve
from workers.emulator.batch import BatchConfig, BatchRule, BatchWhen
from workers.ports import BatchService, OutputUnavailable, ProviderFailed

IN, OUT, JOB = "fw-0-s0001-in", "fw-0-s0001-out", "fw-0-s0001-job"
ROWS = rows(3)
DATA = jsonl(ROWS)
WANTED = CreateJob(1, JOB, "run shard 1", IN, OUT, MODEL, {"maxTokens": 64}, "Be brief.")

BOTH_WAYS = pytest.mark.parametrize("signed", [False, True], ids=["direct", "signed"])


@dataclass(frozen=True)
class Trouble:
    """What the next call meets: an error with this status; `late`: after it was carried out.

    `after`: a file breaks when so many bytes of it have come.
    """

    operation: Operation
    status: int = 503
    late: bool = False
    after: int = 0


class World(Protocol):
    """A service, and its provider."""

    @property
    def service(self) -> BatchService:
        """The service."""
        ...

    def pass_time(self) -> None:
        """Let what was filled be READY, and jobs that are being cleaned up be gone."""
        ...

    def finish(self, job: str) -> None:
        """Let a job answer all of its rows."""
        ...

    async def close(self) -> None:
        """End what was started."""
        ...


class MemoryWorld:
    def __init__(self, troubles: tuple[Trouble, ...], *, slow_ready: bool) -> None:
        self.service = MemoryBatch(ready_at_once=not slow_ready, piece_bytes=100)
        for each in troubles:
            retryable = each.status == 429 or each.status >= 500
            failure = Failure(
                code="provider_unavailable", category="overloaded", message="", retryable=retryable,
                at_fault="provider", provider_status=each.status,
            )  # fmt: skip
            self.service.trouble(each.operation, failure, late=each.late, after=each.after)

    def pass_time(self) -> None:
        for name, dataset in self.service.datasets.items():
            if dataset.files:
                self.service.make_ready(name)
        for name, job in self.service.jobs.items():
            if job.view.state == "DELETING_CLEANING_UP":
                self.service.lose(name)

    def finish(self, job: str) -> None:
        answers = jsonl([{"custom_id": each, "response": {"choices": []}} for each in self.service.ids_of(job)])
        self.service.finish(job, {"BIJOutputSet.jsonl": answers, "error-data": b""})

    async def close(self) -> None:
        await self.service.close()
        assert self.service.open == 0


OPERATIONS = {
    "create_dataset": ("create_dataset",), "dataset_is_ready": ("get_dataset",), "create_job": ("create_job",),
    "upload": ("upload", "put_file"), "job": ("get_job",), "stop": ("delete_job",),
    "files": ("get_download_endpoint",), "download": ("get_file",),
}  # fmt: skip


def rule_of(trouble: Trouble) -> BatchRule:
    faults = [str(trouble.status)]
    if trouble.after:
        faults = [f"{'upload' if trouble.operation == 'upload' else 'download'}_cut={trouble.after}"]
    elif trouble.late:
        faults.append("late")
    return BatchRule(when=BatchWhen(operation=OPERATIONS[trouble.operation]), faults=tuple(faults), times=1)


class EmulatedWorld:
    def __init__(self, running: Running) -> None:
        self._running = running
        self.service = FireworksBatch(running.api_url, "acct", lambda _: "fw_secret")

    @classmethod
    async def start(cls, troubles: tuple[Trouble, ...], *, slow_ready: bool) -> "EmulatedWorld":
        rules = tuple(rule_of(each) for each in troubles)
        batch = BatchConfig(speed=0, patience_s=30, ready_after_s=30 * slow_ready, cleanup_s=30, rules=rules)
        return cls(await serve(EmulatorConfig(batch=batch)))

    def pass_time(self) -> None:
        self._running.clock.advance(30)

    def finish(self, job: str) -> None:
        self._running.clock.advance(1000)

    async def close(self) -> None:
        await self.service.close()
        assert self._running.stats.batch.keys_leaked == 0
        await self._running.close()


Begin = Callable[..., AbstractAsyncContextManager[World]]
"""Starts a world with these troubles."""


@pytest.fixture(params=["memory", "fireworks"])
def begin(request: pytest.FixtureRequest) -> Begin:
    """Each implementation in turn."""

    @asynccontextmanager
    async def begun(*troubles: Trouble, slow_ready: bool = False) -> AsyncIterator[World]:
        world: World
        if request.param == "memory":
            world = MemoryWorld(troubles, slow_ready=slow_ready)
        else:
            world = await EmulatedWorld.start(troubles, slow_ready=slow_ready)
        try:
            yield world
        finally:
            await world.close()

    return begun


class Rows:
    """An upload's rows in chunks of a few bytes. They break before byte `breaks_at`; `closed` once they were let go."""

    def __init__(self, data: bytes = DATA, breaks_at: int | None = None) -> None:
        self._data = data
        self._breaks_at = breaks_at
        self.closed = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for start in range(0, len(self._data), 7):
                if self._breaks_at is not None and start >= self._breaks_at:
                    break
                yield self._data[start : start + 7]
            if self._breaks_at is not None:
                raise LookupError("the database is gone")
        finally:
            self.closed = True


async def create(world: World) -> bool:
    return await world.service.create_dataset(IN, "run shard 1", len(ROWS), credential=None)


async def upload(world: World, given: Rows | None = None, *, signed: bool = False, size: int = len(DATA)) -> None:
    await world.service.upload(IN, given or Rows(), size, signed=signed, credential=None)


async def is_ready(world: World) -> bool:
    return await world.service.dataset_is_ready(IN, credential=None)


async def submitted(world: World) -> JobView:
    await create(world)
    await upload(world)
    return await world.service.create_job(WANTED, credential=None)


async def read(world: World, dataset: str) -> dict[str, bytes]:
    """Return the files of a dataset."""
    found = {}
    async with aclosing(world.service.files(dataset, credential=None)) as files:
        async for file in files:
            found[file.name] = b"".join([chunk async for chunk in file.chunks])
    return found


async def failure_of(world: World, step: Callable[[World], object]) -> Failure:
    with pytest.raises(ProviderFailed) as caught:
        await step(world)  # type: ignore[misc]
    return caught.value.failure


# -- datasets ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-03")
async def test_a_dataset_is_created_once_and_then_adopted(begin: Begin) -> None:
    async with begin() as world:
        assert [await create(world), await create(world), await is_ready(world)] == [False, False, False]
        await upload(world)
        assert [await create(world), await is_ready(world)] == [True, True]


async def test_a_dataset_that_nobody_created_is_a_failure(begin: Begin) -> None:
    async with begin() as world:
        failures = [await failure_of(world, step) for step in (is_ready, upload, lambda it: upload(it, signed=True))]
    assert {each.code for each in failures} == {"provider_not_found"}
    assert [each.retryable for each in failures] == [False, True, True]  # who uploads again, creates again


@BOTH_WAYS
@pytest.mark.requirement("BATCH-04")
async def test_rows_arrive_as_they_are(begin: Begin, signed: bool) -> None:
    async with begin() as world:
        await create(world)
        await upload(world, given := Rows(), signed=signed)
        assert await is_ready(world)
        assert await read(world, IN) == {f"{IN}.jsonl": DATA}
        assert given.closed


@BOTH_WAYS
async def test_a_dataset_may_be_ready_later(begin: Begin, signed: bool) -> None:
    async with begin(slow_ready=True) as world:
        await create(world)
        await upload(world, signed=signed)
        assert [await is_ready(world), await create(world)] == [False, False]
        assert (await failure_of(world, lambda world: world.service.create_job(WANTED, credential=None))).at_fault
        world.pass_time()
        assert [await is_ready(world), await create(world)] == [True, True]


@BOTH_WAYS
@pytest.mark.requirement("BATCH-03")
async def test_an_upload_may_be_repeated(begin: Begin, signed: bool) -> None:
    async with begin() as world:
        await create(world)
        for _ in range(2):
            await upload(world, signed=signed)
        assert await is_ready(world)
        assert await read(world, IN) == {f"{IN}.jsonl": DATA}


@BOTH_WAYS
@pytest.mark.parametrize("breaks_at", [0, len(DATA) // 2, len(DATA)])
async def test_rows_that_cannot_be_read_break_the_upload_as_they_broke(
    begin: Begin, signed: bool, breaks_at: int
) -> None:
    async with begin() as world:
        await create(world)
        with pytest.raises(LookupError, match="the database is gone"):
            await upload(world, given := Rows(breaks_at=breaks_at), signed=signed)
        assert given.closed
        assert not await is_ready(world)
        with pytest.raises(OutputUnavailable):
            await read(world, IN)
        await upload(world, signed=signed)
        assert await is_ready(world)


@BOTH_WAYS
@pytest.mark.parametrize("wrong_by", [-8, -1, 1, 8, 1000])
async def test_rows_of_another_size_than_was_announced_never_arrive(begin: Begin, signed: bool, wrong_by: int) -> None:
    async with begin() as world:
        await create(world)
        with pytest.raises(ValueError, match="announced"):
            await upload(world, given := Rows(), signed=signed, size=len(DATA) + wrong_by)
        assert given.closed
        assert not await is_ready(world)


@BOTH_WAYS
async def test_an_upload_that_is_cut_leaves_nothing(begin: Begin, signed: bool) -> None:
    async with begin(Trouble("upload", after=50)) as world:
        await create(world)
        assert (await failure_of(world, lambda world: upload(world, signed=signed))).retryable
        assert not await is_ready(world)
        await upload(world, signed=signed)
        assert await read(world, IN) == {f"{IN}.jsonl": DATA}


# -- jobs --------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-03")
async def test_a_job_is_created_once_and_then_adopted(begin: Begin) -> None:
    async with begin() as world:
        view = await submitted(world)
        assert (view.job, view.state, view.group, view.output) == (JOB, "VALIDATING", "waiting", OUT)
        assert await world.service.create_job(WANTED, credential=None) == view
        assert await world.service.job(JOB, credential=None) == view


async def test_a_job_with_another_input_is_not_adopted(begin: Begin) -> None:
    async with begin() as world:
        await submitted(world)
        other = replace(WANTED, dataset="fw-0-s0002-in")
        await world.service.create_dataset("fw-0-s0002-in", "other", 3, credential=None)
        await world.service.upload("fw-0-s0002-in", Rows(), len(DATA), signed=False, credential=None)
        failure = await failure_of(world, lambda world: world.service.create_job(other, credential=None))
        assert (failure.code, failure.retryable) == ("batch_id_taken", False)


@pytest.mark.requirement("BATCH-03")
async def test_a_job_whose_outputs_id_is_taken_writes_elsewhere(begin: Begin) -> None:
    async with begin() as world:
        await world.service.create_dataset(OUT, "left over", 1, credential=None)
        view = await submitted(world)
        assert view.output not in ("", OUT)
        assert await world.service.create_job(WANTED, credential=None) == view
        world.finish(JOB)
        assert sorted(await read(world, view.output)) == ["BIJOutputSet.jsonl", "error-data"]


async def test_a_job_that_nobody_created_is_gone(begin: Begin) -> None:
    async with begin() as world:
        assert await world.service.job(JOB, credential=None) == gone(JOB)
        await world.service.stop(JOB, credential=None)


@pytest.mark.requirement("BATCH-11")
async def test_a_job_that_is_stopped_ends_and_is_gone(begin: Begin) -> None:
    async with begin() as world:
        await submitted(world)
        for _ in range(2):
            await world.service.stop(JOB, credential=None)
            view = await world.service.job(JOB, credential=None)
            assert (view.state, view.group) == ("DELETING_CLEANING_UP", "ending")
        world.pass_time()
        assert await world.service.job(JOB, credential=None) == gone(JOB)
        await world.service.stop(JOB, credential=None)


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("BATCH-07")
async def test_the_output_has_a_file_of_answers_and_a_file_of_errors(begin: Begin) -> None:
    async with begin() as world:
        view = await submitted(world)
        world.finish(JOB)
        assert (await world.service.job(JOB, credential=None)).is_over
        found = await read(world, view.output)
        assert list(found) == ["BIJOutputSet.jsonl", "error-data"]
        answered = {json.loads(line)["custom_id"] for line in found["BIJOutputSet.jsonl"].splitlines()}
        assert answered == {row["custom_id"] for row in ROWS}
        assert found["error-data"] == b""
        assert await read(world, f"accounts/acct/datasets/{view.output}") == found


@pytest.mark.requirement("BATCH-08")
async def test_an_output_that_is_not_there_is_unavailable_and_no_failure(begin: Begin) -> None:
    async with begin() as world:
        await submitted(world)
        for name in (OUT, "no-such-thing"):
            with pytest.raises(OutputUnavailable):
                await read(world, name)


async def test_files_may_be_left_in_the_middle_or_unread(begin: Begin) -> None:
    async with begin() as world:
        view = await submitted(world)
        world.finish(JOB)
        async with aclosing(world.service.files(view.output, credential=None)) as files:
            first = await anext(files)
            assert await anext(first.chunks)
            second = await anext(files)
            assert second.name == "error-data"
            assert [chunk async for chunk in first.chunks] == []
        assert [chunk async for chunk in second.chunks] == []
        assert len(await read(world, view.output)) == 2


# -- what goes wrong ---------------------------------------------------------------------------------------------------

STEPS: dict[Operation, Callable[[World], object]] = {
    "create_dataset": create,
    "dataset_is_ready": is_ready,
    "upload": upload,
    "create_job": lambda world: world.service.create_job(WANTED, credential=None),
    "job": lambda world: world.service.job(JOB, credential=None),
    "stop": lambda world: world.service.stop(JOB, credential=None),
    "files": lambda world: read(world, IN),
}


@pytest.mark.parametrize("operation", STEPS)
@pytest.mark.parametrize(("status", "retryable"), [(503, True), (429, True), (403, False)])
async def test_a_refusal_says_whether_to_try_again(
    begin: Begin, operation: Operation, status: int, retryable: bool
) -> None:
    async with begin(Trouble(operation, status)) as world:
        if operation != "create_dataset":
            await create(world)
        if operation in ("create_job", "files"):
            await upload(world)
        failure = await failure_of(world, STEPS[operation])
        assert (failure.provider_status, failure.retryable) == (status, retryable)
        await STEPS[operation](world)  # type: ignore[misc]


@pytest.mark.requirement("BATCH-03")
async def test_what_was_done_although_its_answer_was_lost_is_adopted(begin: Begin) -> None:
    steps: list[Operation] = ["create_dataset", "upload", "create_job", "stop"]
    async with begin(*(Trouble(each, late=True) for each in steps)) as world:
        assert (await failure_of(world, create)).retryable
        assert not await create(world)
        assert (await failure_of(world, upload)).retryable
        assert await create(world)
        assert (await failure_of(world, STEPS["create_job"])).retryable
        view = await world.service.create_job(WANTED, credential=None)
        assert view == await world.service.job(JOB, credential=None)
        assert (await failure_of(world, STEPS["stop"])).retryable
        assert (await world.service.job(JOB, credential=None)).group == "ending"
        await world.service.stop(JOB, credential=None)


async def test_after_its_end_a_service_refuses_everything(begin: Begin) -> None:
    async with begin() as world:
        await submitted(world)
        await world.service.close()  # type: ignore[attr-defined]
        for step in STEPS.values():
            failure = await failure_of(world, step)
            assert (failure.code, failure.retryable, failure.at_fault) == ("provider_unreachable", True, "us")
