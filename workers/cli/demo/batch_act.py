"""Act three: two hundred prompts for the provider's batch service; the whole service is stopped in the middle."""

import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from celery.result import AsyncResult
from rich.console import Console
from rich.progress import Progress

from api_contracts.batch import BatchProgress, BatchResult
from api_contracts.client import Client
from api_contracts.runs import Event
from workers.cli.batching import Standing, bar
from workers.cli.demo.checks import Checks, Seen, check_agreement, check_journal
from workers.cli.demo.stage import BATCH, Stage, start_service

ROWS, FAILING = 200, 3
"""How many rows, and how many of them the provider's stand-in lets fail (scene.json)."""

_STOP_AT = 0.3
"""Share of the rows that the provider has answered when the service is stopped."""
_AWAY_S = 2.0
_PATIENCE_S = 90.0


def batch_act(console: Console, on: Stage, client: Client, checks: Checks) -> str:
    """Play the act; return its summary."""
    rows = [
        {"custom_id": f"row-{n}", "body": {"messages": [{"role": "user", "content": f"Number {n}, please."}]}}
        for n in range(1, ROWS + 1)
    ]
    run_id = client.batch.submit(model="accounts/fireworks/models/emulated-classic", rows=rows, attempts=1)
    console.print(f"run {run_id}", style="dim")
    acting = _Acting(console, on, client, run_id)
    with bar(console) as progress:
        acting.follow(progress)
    result = client.batch.result(run_id, timeout_s=60)
    seen = Seen(acting.events, 0, 0)
    check_journal(checks, client, run_id, seen)
    _check_park(checks, acting, on)
    _check_rows(checks, client, result)
    check_agreement(checks, seen, result, on.env["FW_REDIS_URL"])
    parked = sum(event.type == "run.parked" for event in acting.events)
    return (
        f"batch {run_id}: {result.rows.total} rows, {len(result.jobs)} job, parked {parked} times, "
        f"{result.timings.get('total_s', 0):.1f} s (a minute of the provider's takes a second)"
    )


@dataclass
class _Acting:
    """Follows the run; stops the service once a share of the rows is answered, and starts it again."""

    console: Console
    on: Stage
    client: Client
    run_id: str
    events: list[Event] = field(default_factory=list)
    state_when_stopped: str = ""
    went: bool = False
    left: list[str] = field(default_factory=list)
    silent: bool = False

    def follow(self, progress: Progress) -> None:
        """Follow to the end."""
        standing, task, stopped = Standing(), progress.add_task("queued", total=ROWS), False
        for event in self.client.follow(self.run_id, timeout_s=_PATIENCE_S):
            self.events.append(event)
            standing.take(event)
            progress.update(task, description=standing.word, completed=standing.settled)
            is_parked = event.type == "run.parked"
            if is_parked and not stopped and _answered(self.events) >= _STOP_AT * ROWS:
                stopped = True
                self._stop_and_start(progress)

    def _stop_and_start(self, progress: Progress) -> None:
        say = progress.console.print
        self.state_when_stopped = self._state()
        say("--- every process of the service is stopped; the provider works on ---", style="bold red")
        self.went = self.on.stop_service()
        self.left = [name for name in self.on.pids() if name not in ("emulator", "tools")]
        before = len(self.client.events(self.run_id))
        time.sleep(_AWAY_S)
        self.silent = len(self.client.events(self.run_id)) == before
        start_service(self.on)
        self.on.wait(*BATCH)
        say("the service is up again, in new processes", style="dim")

    def _state(self) -> str:
        """Return Celery's state of the task once the park is known to it."""
        app = Celery(backend=self.on.env["FW_REDIS_URL"], set_as_current=False)
        result, until = AsyncResult(self.run_id, app=app), time.monotonic() + 5
        while (state := str(result.state)) != "RETRY" and time.monotonic() < until:
            time.sleep(0.05)
        return state


def _answered(events: list[Event]) -> int:
    counts = [event.data["processed"] for event in events if event.type == BatchProgress.TYPE]
    return max(counts, default=0)


def _check_park(checks: Checks, acting: _Acting, on: Stage) -> None:
    checks.claim(
        "parked: no worker, and RETRY for Celery", acting.state_when_stopped == "RETRY",
        f"state {acting.state_when_stopped}",
    )  # fmt: skip
    checks.claim(
        "the whole service stopped, and was silent", acting.went and not acting.left and acting.silent,
        f"exit without a kill: {acting.went}",
    )  # fmt: skip
    owners = [event.data["owner"] for event in acting.events if "owner" in event.data]
    pids = {owner.split(":")[1] for owner in owners}
    checks.claim("it woke in a new process", len(pids) >= 2, f"{len(owners)} lives in {len(pids)} processes")
    jobs = _stats(on)["calls"].get("create_job", 0)
    checks.claim("the provider was asked for one job", jobs == 1, f"{jobs} create_job")


def _check_rows(checks: Checks, client: Client, result: BatchResult) -> None:
    rows, counts = list(client.batch.rows(result.run_id)), result.rows
    adds_up = counts.total == counts.succeeded + counts.failed + counts.quarantined + counts.pending == ROWS
    checks.claim(
        "every row is accounted for", adds_up and counts.pending == 0,
        f"{counts.succeeded} answered, {counts.failed} failed, {counts.quarantined} set aside",
    )  # fmt: skip
    in_order = [row.custom_id for row in rows] == [f"row-{n}" for n in range(1, ROWS + 1)]
    right = all(_content(row.response) == f"This is number {row.number}." for row in rows if row.state == "succeeded")
    checks.claim("the rows are in order, each with its answer", in_order and right, f"{len(rows)} rows from SQL")
    failed = [row for row in rows if row.state == "failed"]
    told = {row.fault.code for row in failed if row.fault}
    checks.claim(
        f"{FAILING} rows failed, and say why", len(failed) == FAILING and bool(told), ", ".join(sorted(told))
    )  # fmt: skip


def _content(response: dict[str, Any] | None) -> str:
    return str(response["choices"][0]["message"]["content"]) if response else ""


def _stats(on: Stage) -> dict[str, Any]:
    url = f"{on.env['FIREWORKS_API_URL']}/_emulator/stats"
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own stand-in on loopback
        found: dict[str, Any] = json.load(answer)
    return dict(found["batch"])
