"""`runs retry|cancel|signal|approve|reject`: what an operator does to a run. An event says who did it, and why."""

import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NoReturn, cast

from rich.console import Console

from api_contracts.client import Client
from api_contracts.runs import SignalType
from api_contracts.signals import checked_signal
from workers.cli.connecting import client, mapped
from workers.cli.exits import Exit, Stop
from workers.cli.waiting import WAITS, Call, calls_in
from workers.core.chat.state import SETTLED

Verdict = Literal["approve", "reject"]

_OVER: Final = (
    "run {run_id} is over already: nothing was changed. `runs show` says what it came to, `runs retry` reopens one "
    "that failed or was cancelled"
)
_RETRIED: Final = {
    "reopened": "run {run_id} is reopened: it goes on from its last committed step; `runs follow` shows it",
    "woken": "run {run_id} was not over, and waited: it is rung for now",
    "running": "run {run_id} is at work: nothing was changed. To begin a step of it anew, cancel it and retry it then",
}


def retry_run(run_id: str, reason: str, by: str, *, as_json: bool) -> int:
    """Retry a run from its last committed step. `Stop` says why not, and what to do."""
    with client() as service:
        said = service.retry(run_id, reason, by=by)
    _tell(run_id, said, _RETRIED[said].format(run_id=run_id), as_json=as_json)
    return Exit.REFUSED if said == "running" else Exit.DONE


def cancel_runs(run_ids: Sequence[str], reason: str, by: str, *, as_json: bool) -> int:
    """Ask each run to end, whatever became of those before it; return the worst code."""

    def one(service: Client, run_id: str) -> int:
        if service.cancel(run_id, reason, by=by):
            _tell(run_id, "sent", f"cancel is sent to run {run_id}; `runs follow` shows its end", as_json=as_json)
            return Exit.DONE
        _tell(run_id, "over", _OVER.format(run_id=run_id), as_json=as_json)
        return Exit.REFUSED

    with client() as service:
        codes = [_each(service, run_id, one, as_json=as_json) for run_id in run_ids]
    return max(codes)


def signal_run(run_id: str, kind: str, data: str, reason: str, by: str, signal_id: str, *, as_json: bool) -> int:
    """Send a signal. The token of a call is taken from the journal when `data` has none: the operator may see it."""
    if kind == "retry":
        raise Stop(Exit.USAGE, f"a retry is no signal: write `fireworks-workers runs retry {run_id}`")
    given = _object(data)
    letter = {"by": by} | ({"reason": reason} if reason else {}) | given
    with client() as service:
        if kind == "tool_result" and "token" not in given:
            letter["token"] = _token(service, run_id, given)
        checked_signal(kind, letter, signal_id)
        sent = service.signal(run_id, cast("SignalType", kind), letter, signal_id)
    text = f"{kind} is sent to run {run_id}; `runs events` shows what came of it, also when it changes nothing"
    _tell(run_id, "sent" if sent else "over", text if sent else _OVER.format(run_id=run_id), as_json=as_json)
    return Exit.DONE if sent else Exit.REFUSED


def judge_call(kind: Verdict, run_id: str, call_id: str, reason: str, by: str, *, as_json: bool) -> int:
    """Approve or reject a call that waits for it; without a `call_id`, the only one that does."""
    with client() as service:
        waiting = _waiting(service, run_id)
        if not call_id and len(waiting) == 1:
            call_id = waiting[0]
        if call_id not in waiting:
            told = f"those are {', '.join(waiting)}: name one" if waiting else "none does"
            named = f"call {call_id!r:.80} of" if call_id else "the call of"
            raise Stop(Exit.REFUSED, f"{named} run {run_id} must be one that waits for approval; {told}")
        sent = (service.approve if kind == "approve" else service.reject)(run_id, call_id, reason, by=by)
    text = f"{kind} is sent for call {call_id} of run {run_id}; `runs follow` shows what comes of it"
    _tell(run_id, "sent" if sent else "over", text if sent else _OVER.format(run_id=run_id), as_json=as_json)
    return Exit.DONE if sent else Exit.REFUSED


def operator() -> str:
    """Return who sits at this shell, as the journal is told: `user@host`."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:200]


def _each(service: Client, run_id: str, act: Callable[[Client, str], int], *, as_json: bool) -> int:
    try:
        with mapped():
            return act(service, run_id)
    except Stop as exc:
        if exc.code is Exit.FAILED:
            raise
        _tell(run_id, exc.code.name.lower(), str(exc), as_json=as_json)
        return exc.code


def _waiting(service: Client, run_id: str) -> list[str]:
    events = service.events(run_id)
    if not events:
        service.result(run_id)  # raises RunNotFound
    return [call.call_id for call in calls_in(events) if call.state == WAITS]


def _token(service: Client, run_id: str, given: dict[str, Any]) -> str:
    """Return the token of the call that `given` settles; `Stop` says what is wrong with it before it is sent."""
    if "value" in given and "ok" not in given:
        _refuse('say "ok": true with a value; without it the call counts as failed, and "detail" says why')
    events = service.events(run_id)
    if not events:
        service.result(run_id)  # raises RunNotFound
        raise Stop(Exit.REFUSED, _OVER.format(run_id=run_id))
    calls = calls_in(events)
    call = next((each for each in calls if each.call_id == given.get("call_id")), None)
    if call is None:
        raise Stop(Exit.REFUSED, f"run {run_id} has no call {given.get('call_id')!r:.80}: {_open(calls)}")
    if call.state in SETTLED:
        raise Stop(Exit.REFUSED, f"call {call.call_id} is settled already ({call.state}): {_open(calls)}")
    if call.token is None:
        raise Stop(Exit.REFUSED, f"call {call.call_id} is with a tool of the worker itself: nobody else can settle it")
    return call.token


def _open(calls: Sequence[Call]) -> str:
    waiting = [f"{each.call_id} ({each.name})" for each in calls if each.state not in SETTLED]
    return f"open calls are {', '.join(waiting)}" if waiting else "it has no open calls"


def _object(text: str) -> dict[str, Any]:
    text = sys.stdin.read() if text == "-" else text
    try:
        found = json.loads(text or "{}")
    except ValueError as exc:
        where = f"character {exc.pos + 1}: {exc.msg}" if isinstance(exc, json.JSONDecodeError) else type(exc).__name__
        _refuse(f"--data is not JSON, at {where}")
    except RecursionError:
        _refuse("--data is nested too deeply")
    if not isinstance(found, dict):
        _refuse(f"--data is a {type(found).__name__}, not a JSON object")
    return found


def _refuse(text: str) -> NoReturn:
    raise Stop(Exit.USAGE, text)


def _tell(run_id: str, outcome: str, text: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"run_id": run_id, "outcome": outcome, "text": text}))  # noqa: T201 - the command's output
    else:
        Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)
