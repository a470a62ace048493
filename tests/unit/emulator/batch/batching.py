"""Jobs without a server: rows in files, answered by the real machinery, at times that the test names."""

import json
from pathlib import Path
from typing import Any

from tests.unit.emulator.making import CLASSIC
from workers.emulator import EmulatorConfig
from workers.emulator.batch.answers import Answers, JobTerms
from workers.emulator.batch.datasets import Dataset
from workers.emulator.batch.faults import parse_batch_faults
from workers.emulator.batch.jobs import Job
from workers.emulator.batch.messages import JobBody, read_message
from workers.emulator.batch.preparation import Assignment, Preparation
from workers.emulator.batch.rows import Input, InputFile, Validation
from workers.emulator.batch.schedule import read_plan
from workers.emulator.state import EmulatorState

MADE = 1_790_000_000.0
USUAL = "VALIDATING:60/PENDING:30/RUNNING:100/COMPLETED"


def rows(count: int, role: str = "user") -> list[dict[str, Any]]:
    """Rows with ids row-0, row-1 ..."""
    said = [{"messages": [{"role": role, "content": f"{number} plus two?"}]} for number in range(count)]
    return [{"custom_id": f"row-{number}", "body": body} for number, body in enumerate(said)]


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """Rows as a file."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def make_job(
    folder: Path,
    lines: list[dict[str, Any]],
    *faults: str,
    states: str = USUAL,
    declared: int = 0,
    seed: str = "seed",
    **body: Any,
) -> Job:
    """A job over these rows, made at MADE. Whoever makes it ends it with `job.preparation.stop()`."""
    read = parse_batch_faults(faults)
    path = folder / "input"
    path.write_bytes(jsonl(lines))
    source = Dataset("acct", "in-1", MADE, "dev", "PLAIN", example_count=declared or len(lines))
    job = Job(
        account="acct",
        id="job-1",
        created=MADE,
        created_by="dev@example.com",
        body=read_message(JobBody, {"model": CLASSIC} | body),
        model=CLASSIC,
        source=source,
        output_id="out-1",
        plan=read_plan(read.states or states, read.rows_done, read.stuck),
        faults=read,
        expires=MADE + 86_400,
    )
    job.preparation = Preparation(_assignment(job, path, seed), _made(folder / "private"), _made(folder / "public"))
    return job


def _assignment(job: Job, path: Path, seed: str) -> Assignment:
    config = EmulatorConfig()
    answers = Answers(config, EmulatorState(config.seed))
    terms = JobTerms(job.name, job.model, {})
    files = Input([InputFile("input.jsonl", path, path.stat().st_size)])
    return Assignment(
        source=files,
        faults=job.faults,
        seed=seed,
        answer=lambda body, place, total: answers.answer(body, terms, job.time_of_row(place, total)),
        wanted=job.wanted,
        validation=Validation(files, config.roles, true_numbers=True),
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def finish(job: Job) -> None:
    """Answer everything that will ever be wanted."""
    while job.preparation.work(60):
        pass


def output_lines(job: Job) -> list[Any]:
    """The lines of the output, None for those that are no JSON."""
    return [_read(line) for line in job.preparation.output.read_bytes().splitlines()]


def error_lines(job: Job) -> list[Any]:
    """The lines of error-data."""
    return [_read(line) for line in job.preparation.errors.read_bytes().splitlines()]


def _read(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
