"""`runs`: what a run is, its journal, live or as it stands. Exit codes: 0 shown, 1 not found or not possible."""

import json
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from api_contracts.runs import Event
from workers.cli.connecting import client

_MOST = 100
"""Characters of an event's data in a table; --json shows all."""


def show_run(run_id: str, *, as_json: bool) -> int:
    """Print the run's result, or where it stands."""
    with client() as service:
        events = service.events(run_id)
        if not events or events[-1].terminal:
            _print_result(service.result(run_id).model_dump(mode="json", exclude_none=True), as_json=as_json)
        else:
            last = events[-1]
            standing = {"run_id": run_id, "status": "live", "events": last.seq, "epoch": last.epoch, "last": last.type}
            _print_result(standing, as_json=as_json)
    return 0


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


def cancel_run(run_id: str, reason: str) -> int:
    """Send the signal; say so when it came too late."""
    with client() as service:
        sent = service.cancel(run_id, reason)
    Console(stderr=True).print("cancel sent" if sent else "the run is over already: nothing changed")
    return 0 if sent else 1


def table_of(events: list[Event]) -> Table:
    """Return a journal as a table."""
    table = Table("seq", "epoch", "at", "type", "data", box=None, pad_edge=False)
    for event in events:
        table.add_row(str(event.seq), str(event.epoch), _clock(event.at), event.type, _short(event.data))
    return table


def line_of(event: Event) -> str:
    """Return an event as one line."""
    return f"{event.seq:>5}  {event.epoch:>3}  {_clock(event.at)}  {event.type:<24} {_short(event.data)}"


def _print_result(result: dict[str, object], *, as_json: bool) -> None:
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
