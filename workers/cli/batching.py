"""`batch`: submit rows, look how they fare, read what became of them."""

import json
from pathlib import Path
from typing import Final, get_args

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api_contracts.batch import BatchRequest, BatchResult, BatchState
from api_contracts.batch_rows import RowState
from api_contracts.client import Client
from api_contracts.runs import Event, RunParked, RunResumed
from api_contracts.vocabulary import typed
from workers.cli.connecting import client
from workers.core.batch.state import BatchState as Ledger
from workers.errors import Misconfigured

_STATES: Final[TypeAdapter[list[RowState]]] = TypeAdapter(list[RowState])


def submit(file: str, *, model: str, run_id: str | None, system_prompt: str | None) -> int:
    """Submit a file; print the run's id. A path is read by the worker, so it must be the same file there."""
    source = file if file.startswith(("http://", "https://")) else str(Path(file).resolve())
    if source.startswith("/") and not Path(source).is_file():
        raise Misconfigured(f"{source} is not a file")
    with client() as service:
        try:
            request = BatchRequest(model=model, file=source, system_prompt=system_prompt)
            submitted = service.batch.submit(request, run_id=run_id)
        except (ValidationError, ValueError) as exc:
            raise Misconfigured(str(exc)) from None
    print(submitted)  # noqa: T201 - the command's output
    return 0


def status(run_id: str, *, as_json: bool) -> int:
    """Print where a batch stands."""
    with client() as service:
        standing = Standing()
        for event in service.events(run_id):
            standing.take(event)
        if not standing.events or standing.ended:
            result = service.batch.result(run_id)
            return _conclude(result, as_json=as_json)
    counts = standing.ledger.counts()
    shown = {"run_id": run_id, "status": standing.word, "done": round(standing.ledger.done, 3), **counts.model_dump()}
    if as_json:
        print(json.dumps(shown))  # noqa: T201
    else:
        Console().print(_table(shown))
    return 0


def watch(run_id: str) -> int:
    """Follow a batch with a progress bar until it ends; return 0 for a completed one."""
    console = Console(stderr=True, highlight=False)
    with client() as service, bar(console) as progress:
        show(service, run_id, progress)
        result = service.batch.result(run_id)
    return _conclude(result, as_json=False)


def rows(run_id: str, *, states: list[RowState], after: int) -> int:
    """Print rows as JSON lines, in the order of the input."""
    with client() as service:
        for row in service.batch.rows(run_id, after=after, states=states):
            print(row.model_dump_json(exclude_none=True))  # noqa: T201
    return 0


def row_states(names: list[str]) -> list[RowState]:
    """Return the states; raise `Misconfigured` for a name that is none."""
    try:
        return _STATES.validate_python(names)
    except ValidationError:
        raise Misconfigured(f"--state is one of {', '.join(get_args(RowState))}, not {', '.join(names)}") from None


class Standing:
    """A batch's journal as it is followed."""

    def __init__(self) -> None:
        self.ledger = Ledger(0.0)
        self.events = 0
        self.ended = False
        self.word = "queued"

    def take(self, event: Event) -> None:
        """Take the next event."""
        self.events, self.ended = event.seq, event.terminal
        if (said := typed(event)) is None:
            return
        self.ledger.fold(said, event.at / 1000)
        match said:
            case BatchState(state=state):
                self.word = f"job {said.shard}: {state.lower()}"
            case RunParked():
                self.word = f"{self.word.removesuffix(', parked')}, parked"
            case RunResumed():
                self.word = self.word.removesuffix(", parked")
            case _:
                pass

    @property
    def settled(self) -> int:
        """Rows that are settled, or answered by a job that is still at work."""
        return round(self.ledger.done * (self.ledger.rows - self.ledger.refused)) + self.ledger.refused


def bar(console: Console) -> Progress:
    """Return a progress bar of rows."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def show(service: Client, run_id: str, progress: Progress) -> None:
    """Move the bar as the journal grows, until the run ends."""
    standing, task = Standing(), progress.add_task("queued", total=None)
    for event in service.follow(run_id):
        standing.take(event)
        progress.update(
            task, description=standing.word, completed=standing.settled, total=standing.ledger.rows or None
        )  # fmt: skip


def _conclude(result: BatchResult, *, as_json: bool) -> int:
    if as_json:
        print(result.model_dump_json(exclude_none=True))  # noqa: T201
    else:
        shown = {"run_id": result.run_id, "status": result.status, **result.rows.model_dump()}
        if result.failure:
            shown["failure"] = f"{result.failure.code}: {result.failure.message}"
        if result.reasons:
            shown["reasons"] = json.dumps(result.reasons)
        shown |= {"jobs": len(result.jobs), "tokens": result.usage.prompt_tokens + result.usage.completion_tokens}
        Console().print(_table(shown))
    return 0 if result.status == "completed" else 1


def _table(shown: dict[str, object]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in shown.items():
        table.add_row(name, str(value))
    return table
