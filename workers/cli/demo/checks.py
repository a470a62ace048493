"""What the story claims, checked: each line of the final table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from celery import Celery
from celery.result import AsyncResult
from redis import Redis
from rich.table import Table

from api_contracts.chat import ChatResult
from api_contracts.client import Client
from api_contracts.runs import Event
from workers.cli.demo.tools import EFFECTS, READINGS

MOST_EXTRA_S = 2.0
"""Recovery may take lease + sweep + this (RUN-04)."""


@dataclass(slots=True)
class Checks:
    """Claims and whether they held."""

    lines: list[tuple[str, bool, str]] = field(default_factory=list)

    def claim(self, what: str, held: bool, seen: str) -> None:
        """Add a line."""
        self.lines.append((what, held, seen))

    @property
    def held(self) -> bool:
        """Whether every claim held."""
        return bool(self.lines) and all(held for _, held, _ in self.lines)

    def table(self) -> Table:
        """Return the table."""
        table = Table("checked", "", "seen", title="What was checked", title_justify="left")
        for what, held, seen in self.lines:
            table.add_row(what, "[green]true[/]" if held else "[bold red]FALSE[/]", seen)
        return table


@dataclass(frozen=True, slots=True)
class Seen:
    """What the story saw: every event as it was followed, the killed pid, and when it was killed (ms)."""

    events: Sequence[Event]
    killed_pid: int
    killed_at_ms: int


def check_chat(checks: Checks, client: Client, run_id: str, seen: Seen, url: str, allowed_s: float) -> ChatResult:
    """Check the chat act; return the run's result."""
    result = client.result(run_id, timeout_s=10)
    _check_journal(checks, client, run_id, seen)
    _check_lives(checks, seen, allowed_s)
    _check_tool(checks, seen, result, url)
    _check_answer(checks, seen, result)
    stored = AsyncResult(run_id, app=Celery(backend=url, set_as_current=False)).get(timeout=10)
    last = seen.events[-1]
    same = stored == last.data.get("result") and ChatResult.model_validate(stored) == result
    checks.claim("event, SQL and AsyncResult agree", same, f"status {result.status}, three times")
    return result


def _check_journal(checks: Checks, client: Client, run_id: str, seen: Seen) -> None:
    seqs = [event.seq for event in seen.events]
    checks.claim("followed live: each event once", seqs == list(range(1, len(seqs) + 1)), f"seq 1..{len(seqs)}")
    replayed = client.events(run_id)
    checks.claim("replayed from the start: the same", replayed == list(seen.events), f"{len(replayed)} events")


def _check_lives(checks: Checks, seen: Seen, allowed_s: float) -> None:
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


def _check_tool(checks: Checks, seen: Seen, result: ChatResult, url: str) -> None:
    with Redis.from_url(url, decode_responses=True) as redis:
        effects = sum(int(count) for count in redis.hvals(EFFECTS))
        readers = redis.lrange(READINGS, 0, -1)
    owners = {event.data["owner"].split(":")[1] for event in seen.events if "owner" in event.data}
    elsewhere = bool(readers) and not owners & set(readers) and str(os.getpid()) not in readers
    checks.claim("the tool ran in another process", elsewhere, f"pid {', '.join(readers)}")
    calls = len(result.tool_calls)
    checks.claim("its effect was counted once", effects == calls == 1, f"{effects} effect, {calls} call in the ledger")


def _check_answer(checks: Checks, seen: Seen, result: ChatResult) -> None:
    last = max((event.data["attempt"] for event in seen.events if event.type == "chat.requested"), default=0)
    text = "".join(e.data["text"] for e in seen.events if e.type == "chat.delta" and e.data["attempt"] == last)
    answer = str((result.message or {}).get("content"))
    checks.claim("the streamed words are the answer", text == answer != "", f"{len(answer)} characters")
    replaced = [event for event in seen.events if event.type == "chat.replaced"]
    checks.claim("the half-answer was declared void", len(replaced) == 1, f"{len(replaced)} chat.replaced")
    told = result.tool_calls[0].content if result.tool_calls else None
    checks.claim("the answer uses the tool's words", bool(told) and str(told)[:4] in answer, str(told))
