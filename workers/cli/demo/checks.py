"""What the story claims, checked: each line of the final table. What every act claims of its run is here."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from celery import Celery
from celery.result import AsyncResult
from rich.table import Table

from api_contracts.client import Client
from api_contracts.runs import Event, Result
from api_contracts.vocabulary import typed_result

MOST_EXTRA_S = 2.0
"""Recovery may take lease + sweep + this (RUN-04)."""


@dataclass(slots=True)
class Checks:
    """Claims and whether they held, act by act."""

    lines: list[tuple[str, str, bool, str]] = field(default_factory=list)
    act: str = ""

    def claim(self, what: str, held: bool, seen: str) -> None:
        """Add a line."""
        self.lines.append((self.act, what, held, seen))

    @property
    def held(self) -> bool:
        """Whether every claim held."""
        return bool(self.lines) and all(held for _, _, held, _ in self.lines)

    def table(self) -> Table:
        """Return the table."""
        table = Table("act", "checked", "", "seen", box=None, pad_edge=False)
        last = ""
        for act, what, held, seen in self.lines:
            table.add_row("" if act == last else act, what, "[green]true[/]" if held else "[bold red]FALSE[/]", seen)
            last = act
        return table


@dataclass(frozen=True, slots=True)
class Seen:
    """What an act saw: every event as it was followed, the killed pid, and when it was killed (ms)."""

    events: Sequence[Event]
    killed_pid: int
    killed_at_ms: int


def check_journal(checks: Checks, client: Client, run_id: str, seen: Seen) -> None:
    """Check that following and replaying give the same."""
    seqs = [event.seq for event in seen.events]
    checks.claim("followed live: each event once", seqs == list(range(1, len(seqs) + 1)), f"seq 1..{len(seqs)}")
    replayed = client.events(run_id)
    checks.claim("replayed from the start: the same", replayed == list(seen.events), f"{len(replayed)} events")


def check_lives(checks: Checks, seen: Seen, allowed_s: float) -> None:
    """Check that one worker died and another went on, in time."""
    owners = [event.data["owner"] for event in seen.events if event.type in ("run.started", "run.resumed")]
    pids = [owner.split(":")[1] for owner in owners]
    checks.claim(
        "its worker was killed, another went on",
        len(owners) == 2 and pids[0] == str(seen.killed_pid) and pids[1] != pids[0],
        f"pid {' then '.join(pids)}",
    )
    resumed = next((event for event in seen.events if event.type == "run.resumed"), None)
    took = (resumed.at - seen.killed_at_ms) / 1000 if resumed else float("inf")
    checks.claim("within lease + sweep + 2 s", took <= allowed_s, f"{took:.1f} s of {allowed_s:.0f} s")
    stale = [event.seq for event in seen.events if resumed and event.seq > resumed.seq and event.epoch != resumed.epoch]
    checks.claim("the dead worker wrote nothing more", resumed is not None and not stale, "epoch 1, then 2")


def check_agreement(checks: Checks, seen: Seen, result: Result, url: str) -> None:
    """Check that the last event, SQL and Celery say the same; `result` is what the client read."""
    stored = AsyncResult(result.run_id, app=Celery(backend=url, set_as_current=False)).get(timeout=60)
    same = stored == seen.events[-1].data.get("result") and typed_result(stored) == result
    checks.claim("event, SQL and AsyncResult agree", same, f"status {result.status}, three times")
