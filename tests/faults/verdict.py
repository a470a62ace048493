"""What the journals, SQL and the counters outside say of the runs of one fault; and how it is shown."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from api_contracts.failure import RunNotFound
from api_contracts.runs import Event
from tests.acceptance.journal import is_right, lives
from tests.faults.driver import Driver
from tests.faults.mix import Order
from tests.faults.world import World

NAMED = 12
"""Runs that a row names of each sort."""


@dataclass(frozen=True)
class Struck:
    """A fault happened at this time (seconds since 1970), to the runs of this process, or to all."""

    at: float
    pid: int | None = None


class Leave(Protocol):
    """What a fault may lead to beyond the usual."""

    @property
    def loses(self) -> bool: ...
    @property
    def wipes(self) -> bool: ...


@dataclass
class Row:
    """What became of the runs under one fault."""

    fault: str
    seed: int
    runs: int
    strikes: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    finished: int = 0
    cancelled: int = 0
    wrong: list[str] = field(default_factory=list)
    open_calls: list[str] = field(default_factory=list)
    """Runs that could say of their call only that nobody answered, or that nobody knows."""
    journal_lost: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    not_dense: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lives: int = 0
    next_p50_s: float | None = None
    next_p99_s: float | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing is lost, doubled, wrong or dead."""
        return not (self.wrong or self.lost or self.doubled or self.not_dense or self.died or self.notes)

    def faults(self) -> str:
        """Say what is not good."""
        named = {name: getattr(self, name) for name in ("wrong", "lost", "doubled", "not_dense", "died", "notes")}
        return "; ".join(f"{name}: {len(found)} {found[:NAMED]}" for name, found in named.items() if found)


def judged(row: Row, world: World, driver: Driver, struck: Sequence[Struck], fault: Leave) -> Row:
    """Fill the row in."""
    row.strikes = len(struck)
    row.kinds = dict(Counter(order.kind for order in (*driver.ended, *driver.live.values())))
    row.lost = [f"{run_id} {_last(world, run_id)}" for run_id in driver.live]
    row.died = world.died()
    gaps: list[float] = []
    for order in driver.ended:
        events = world.client.events(order.run_id)
        row.lives += len(lives(events))
        _judge(row, world, order, events, fault)
        gaps += _gaps(events, struck)
    row.not_dense += [name for name in driver.live if not _is_dense(world.client.events(name))]
    if gaps:
        row.next_p50_s = round(statistics.median(gaps), 2)
        row.next_p99_s = round(sorted(gaps)[int(0.99 * (len(gaps) - 1))], 2)
    return row


def _judge(row: Row, world: World, order: Order, events: list[Event], fault: Leave) -> None:
    try:
        _ = (not events and fault.wipes) or is_right(events)
    except AssertionError as exc:
        row.not_dense.append(f"{order.run_id}: {exc!s:.200}")
    marks = world.board.marks(order.run_id)
    if len(marks) > 1:
        row.doubled.append(f"{order.run_id} {len(marks)}")
    try:
        result = world.client._stored(order.run_id)  # SQL, whatever Redis knows
    except RunNotFound:
        if fault.wipes:  # forgotten before it began: Celery said so, see `Driver`
            row.journal_lost += 1
            row.finished += 1
        else:
            row.wrong.append(f"{order.run_id}: not in SQL")
        return
    row.finished += 1
    row.cancelled += result.status == "cancelled"
    if fault.wipes and result.failure and result.failure.code == "journal_lost":
        row.journal_lost += 1
    elif not (fault.wipes and order.kind == "stt") and (wrong := order.wrong(result, world.client, marks)):
        row.wrong.append(f"{order.run_id}: {wrong}")
    if order.is_open(result):
        row.open_calls.append(order.run_id)
        if order.kind == "tool" and not fault.loses:
            row.wrong.append(f"{order.run_id}: its call was not answered")
    if events and events[-1].data.get("result", {}).get("status") not in (None, result.status):
        row.wrong.append(f"{order.run_id}: SQL and the journal disagree")


def _is_dense(events: Sequence[Event]) -> bool:
    return [event.seq for event in events] == list(range(1, len(events) + 1))


def _last(world: World, run_id: str) -> str:
    events = world.client.events(run_id)
    return events[-1].type if events else "no journal"


def _gaps(events: Sequence[Event], struck: Sequence[Struck]) -> list[float]:
    """Return for each strike that met the run at work how long its next event took."""
    found = []
    for strike in struck:
        before = [event for event in events if event.at / 1000 <= strike.at]
        after = events[len(before) :]
        if not before or not after or before[-1].type == "run.parked" or (owner := lives(before)[-1:]) == []:
            continue
        if strike.pid in (None, *owner):
            found.append(after[0].at / 1000 - strike.at)
    return found


def shown(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the table."""
    table = Table(title="faults", title_justify="left")
    for name in ("fault", "runs", "strikes", "kinds", "finished", "wrong", "lost", "doubled", "not dense"):
        table.add_column(name, justify="left" if name in ("fault", "kinds") else "right")
    for name in ("died", "journal lost", "open calls", "lives", "next p50 s", "p99 s", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        kinds = " ".join(f"{kind} {count}" for kind, count in sorted(row["kinds"].items()))
        counts = (len(row[name]) for name in ("wrong", "lost", "doubled", "not_dense", "died"))
        failed, lost, doubled, dense, died = (str(count) for count in counts)
        cells = [row["fault"], row["runs"], row["strikes"], kinds, row["finished"], failed, lost, doubled, dense, died]
        cells += [row["journal_lost"], len(row["open_calls"]), row["lives"]]
        cells += [row[name] for name in ("next_p50_s", "next_p99_s", "seconds")]
        table.add_row(*("-" if cell is None else str(cell) for cell in cells))
    console.print(table)


def written(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows as JSON, with all that was found wrong."""
    path.write_text(json.dumps(list(rows), indent=1) + "\n")


def as_json(row: Row) -> str:
    """Return the row for whoever shows it, perhaps in another process."""
    return json.dumps(asdict(row))
