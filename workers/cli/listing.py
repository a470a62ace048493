"""`runs list`: which runs there are and how each stands: from Redis those that live, from SQL those that ended.

Never more than a page of either is looked at, and never content.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, get_args

from rich.console import Console
from rich.table import Table

from api_contracts.client.results import database_url
from api_contracts.names import Kind, Lane
from workers.adapters.clock import SystemClock
from workers.adapters.sql.archive import SqlArchive
from workers.cli.connecting import mapped, register
from workers.cli.exits import Exit, Stop
from workers.cli.stack import running_database
from workers.ports import StoreUnavailable
from workers.ports.register import LIVE, STANDINGS, Found, RunLine, Wanted

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN: Final = re.compile(r"(\d{1,9})([smhd])")
_MORE: Final = 200
"""Finished runs that are read beyond the limit: some may have been reopened, and live."""
_NO_LANE: Final = "SQL does not keep the lane of a run: --lane chooses among those that live"


@dataclass(frozen=True, slots=True)
class Listed:
    """What was found; `notes` say what was not looked at, and why. `whole`: no part of the service was away."""

    lines: Sequence[RunLine]
    notes: Sequence[str]
    whole: bool = True


def list_runs(wanted: Wanted, *, limit: int, look_at: int, as_json: bool) -> int:
    """Print the live runs that are asked for, newest first, then those that ended, the last first.

    Returns 1 when SQL does not answer, which is said; what Redis has is shown all the same.
    """
    found = asyncio.run(_find(wanted, limit, look_at))
    now = SystemClock().now()
    if as_json:
        for line in found.lines:
            print(json.dumps(plain(line), ensure_ascii=False))  # noqa: T201 - the command's output
    elif found.lines:
        Console(highlight=False).print(_table(found.lines, now))
    said = Console(stderr=True, highlight=False)
    if not found.lines:
        said.print("no such runs")
    for note in found.notes:
        said.print(note, markup=False, soft_wrap=True)
    return Exit.DONE if found.whole else Exit.FAILED


def wanted_of(status: Sequence[str], kind: str, lane: str, tenant: str, label: Sequence[str], since: str) -> Wanted:
    """Return what the options ask for; raise `Stop` for those that make no sense."""
    standings = [_one_of("--status", each, STANDINGS) for each in status]
    return Wanted(
        standings=standings,
        kind=_one_of("--kind", kind, get_args(Kind)) if kind else None,
        lane=_one_of("--lane", lane, get_args(Lane)) if lane else None,
        tenant=tenant or None,
        labels=dict(_label(each) for each in label),
        since=since_of(since, SystemClock().now()) if since else None,
    )


def since_of(text: str, now: float) -> float:
    """Return the time that `2h`, `30m`, `7d` ago or an ISO date says, in seconds since 1970; raise `Stop`."""
    if span := _SPAN.fullmatch(text):
        return now - int(span[1]) * _UNITS[span[2]]
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Stop(
            Exit.USAGE, "--since is a span such as 90s, 30m, 2h or 7d, or a time such as 2026-03-01T02:30Z (UTC)"
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def plain(line: RunLine) -> dict[str, Any]:
    """Return a line as an object for programs; what is not known is left out."""
    return {name: value for name, value in asdict(line).items() if value not in (None, "", {})}


def told(line: RunLine, now: float) -> str:
    """Return what an operator wants to know of a run in its standing."""
    match line.standing:
        case "running":
            last = f", {line.last} {span(now - line.last_at)} ago" if line.last else ""
            return f"{line.owner}, lease ends in {span(line.lease_s or 0)}{last}"
        case "parked":
            when = "for a signal only" if line.look_s is None else f"until a signal, or in {span(line.look_s)}"
            return f"{line.why or 'it does not say why'}; waits {when}"
        case "queued":
            return "; ".join(_waits(line))
        case _:
            return line.why


def span(seconds: float) -> str:
    """Return a span of time for people, its two largest units."""
    if seconds < 0:
        return f"-{span(-seconds)}"
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _UNITS[unit])
        parts += [f"{count} {unit}"] if count else []
    return " ".join(parts[:2])


async def _find(wanted: Wanted, limit: int, look_at: int) -> Listed:
    notes: list[str] = []
    async with register() as living:
        live = Found([], 0, 0)
        if not wanted.standings or LIVE & set(wanted.standings):
            live = await living.live(wanted, limit, look_at)
            if live.looked < live.total:
                notes.append(f"looked at {live.looked} of {live.total} live runs: --limit and --look-at show more")
        if wanted.standings and set(wanted.standings) <= LIVE:
            return Listed(live.lines, notes)
        if wanted.lane is not None:
            return Listed(live.lines, [*notes, _NO_LANE])
        try:
            ended = await _ended(wanted, limit)
        except StoreUnavailable as exc:
            return Listed(live.lines, [*notes, f"SQL does not answer ({exc}): no ended run is shown"], whole=False)
        back = await living.reopened([line.run_id for line in ended])
    over = [line for line in ended if line.run_id not in back][:limit]
    if len(over) == limit:
        notes.append(f"the last {limit} that ended: --limit and --since show more")
    return Listed([*live.lines, *over], notes)


async def _ended(wanted: Wanted, limit: int) -> list[RunLine]:
    url = running_database()
    with mapped():
        parsed = database_url(url)
        if parsed.get_backend_name() == "sqlite" and not _is_there(str(parsed.database)):
            return []
        archive = SqlArchive(url)
    try:
        return await archive.finished(wanted, limit + _MORE)
    finally:
        await archive.close()


def _is_there(file: str) -> bool:
    """Return whether a worker has ever ended a run: to look must not make the file."""
    return Path(file).exists()


def _waits(line: RunLine) -> list[str]:
    parts = [f"lost by {line.owner}, its lease ended {span(-line.lease_s)} ago"] if line.lease_s is not None else []
    if line.deaths:
        parts.append(f"{line.deaths} owners lost in a row")
    if line.look_s is not None:
        parts.append(f"looked at again in {span(line.look_s)}" if line.look_s > 0 else "due now")
    return ["waits for a worker", *parts]


def _table(lines: Sequence[RunLine], now: float) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("run", "status", "kind", "tenant"):
        table.add_column(name, overflow="fold")
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("labels", overflow="fold")
    table.add_column("what", overflow="fold")
    for line in lines:
        labels = " ".join(f"{name}={value}" for name, value in line.labels.items())
        age = span(now - (line.ended_at or line.queued_at))
        lane = "" if line.lane in (None, "interactive") else f" ({line.lane})"
        row = (line.run_id, line.standing, f"{line.kind}{lane}", line.tenant, age, labels, told(line, now))
        table.add_row(*(_escaped(each) for each in row))
    return table


def _escaped(text: str) -> str:
    """Return text that neither rich nor a terminal takes for an order: labels and owners are strangers' words."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text).replace("[", r"\[")


def _one_of(option: str, given: str, allowed: Sequence[Any]) -> Any:
    if given not in allowed:
        raise Stop(Exit.USAGE, f"{option} is one of {', '.join(allowed)}, not {given!r:.80}")
    return given


def _label(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not (name and equals):
        raise Stop(Exit.USAGE, f"--label is name=value, not {given!r:.80}")
    return name, value
