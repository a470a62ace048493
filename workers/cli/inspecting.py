"""`runs show|events|follow`: what a run is, what it waits for, its journal."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from api_contracts.runs import Event
from workers.adapters.clock import SystemClock
from workers.cli.connecting import client, register
from workers.cli.listing import plain, told
from workers.cli.waiting import calls_in, letters_taken
from workers.core.chat.state import SETTLED
from workers.ports.register import LIVE, MOST_LETTERS, RunLine

_MOST = 100
"""Characters of an event's data in a table; --json shows all."""


def show_run(run_id: str, *, as_json: bool) -> int:
    """Print the run's result, or how it stands and what it waits for."""
    with client() as service:
        events = service.events(run_id)
        line, letters = asyncio.run(_standing(run_id, letters_taken(events)))
        if line is None or line.standing not in LIVE:
            _print_object(service.result(run_id).model_dump(mode="json", exclude_none=True), as_json=as_json)
        else:
            _print_object(_shown(line, letters, events), as_json=as_json)
    return 0


async def _standing(run_id: str, taken: str) -> tuple[RunLine | None, int]:
    async with register() as living:
        return await living.standing(run_id), await living.letters(run_id, taken)


def _shown(line: RunLine, letters: int, events: Sequence[Event]) -> dict[str, Any]:
    """Return how a live run stands. `status` is its standing; letters are signals that it has not taken yet."""
    now = SystemClock().now()
    calls = [
        {"call_id": call.call_id, "name": call.name, "state": call.state, "effect": call.effect,
         "deadline_s": round(call.deadline_at - now, 1)}
        for call in calls_in(events) if call.state not in SETTLED
    ]  # fmt: skip
    shown = {"run_id": line.run_id, "status": line.standing, "what": told(line, now)} | plain(line)
    shown |= {"letters": letters if letters < MOST_LETTERS else f"{MOST_LETTERS} or more"}
    return shown | ({"calls": calls} if calls else {})


def list_events(run_id: str, after: int, *, as_json: bool) -> int:
    """Print the journal as it stands."""
    with client() as service:
        events = service.events(run_id, after)
        if not events and not service.known(run_id):
            service.result(run_id)  # raises RunNotFound, unless SQL has kept it
            Console(stderr=True).print("the journal's retention is over; `runs show` has the result")
    if as_json:
        for event in events:
            print(event.model_dump_json())  # noqa: T201 - the command's output
    else:
        Console().print(table_of(events))
    return 0


def follow_run(run_id: str, after: int, *, as_json: bool) -> int:
    """Print events as they come."""
    console = Console(highlight=False)
    with client() as service:
        for event in service.follow(run_id, after):
            if as_json:
                print(event.model_dump_json(), flush=True)  # noqa: T201
            else:
                console.print(line_of(event), markup=False, soft_wrap=True)
    return 0


def table_of(events: list[Event]) -> Table:
    """Return a journal as a table."""
    table = Table("seq", "epoch", "at", "type", "data", box=None, pad_edge=False)
    for event in events:
        table.add_row(str(event.seq), str(event.epoch), _clock(event.at), event.type, _short(event.data))
    return table


def line_of(event: Event) -> str:
    """Return an event as one line."""
    return f"{event.seq:>5}  {event.epoch:>3}  {_clock(event.at)}  {event.type:<24} {_short(event.data)}"


def _print_object(result: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))  # noqa: T201
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in result.items():
        table.add_row(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    Console().print(table)


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]


def _short(data: dict[str, object]) -> str:
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
