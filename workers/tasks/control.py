"""`fireworks.tools.deliver`, `fireworks.runs.signal`, `fireworks.runs.wake`, `fireworks.runs.sweep`,
`fireworks.runs.purge`, `fireworks.batch.poll`.

Each takes keyword arguments that it does not know: a later release may send more (docs/decisions/0020).
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from api_contracts.client.envelope import opened
from api_contracts.failure import SignalRefused
from api_contracts.keys import BadRunId, check_run_id
from api_contracts.names import BATCH_POLL, DELIVER, PURGE, SIGNAL, SWEEP, WAKE
from api_contracts.signals import taken_apart
from workers.app import app
from workers.guarded import GuardedTask
from workers.pool import current_job
from workers.ports import KeysDamaged, StoreUnavailable
from workers.runtime import held, wake

_log = structlog.get_logger(__name__)

_PAUSE_S: Final = 1.0


@app.task(name=DELIVER, base=GuardedTask, ignore_result=True, accept_late=True)  # type: ignore[untyped-decorator]
async def deliver(value: Any = None, *, run_id: str, call_id: str, token: str, outcome: str, **later: Any) -> None:
    """Bring a tool's result to its run. Linked to the tool's task, so the first argument is its value or its id."""
    letter = {"call_id": call_id, "token": token} | _writable(opened(value, outcome))
    # The token is part of the letter's id, or one with a wrong token would have the right one taken for its repeat.
    await _post(run_id, "tool_result", letter, f"{call_id}:{outcome}:{token:.64}")


@app.task(name=SIGNAL, base=GuardedTask, accept_late=True)  # type: ignore[untyped-decorator]
async def signal(run_id: Any = None, signal: Any = None, **later: Any) -> str:
    """Put a signal `{"type": ..., "id": ..., ...}` into a run's inbox; return `sent`, `finished`, `missing`, or
    `refused: ` and why. Whoever wrote it may be any program: what it got wrong is its business, and no failure of ours.
    """
    try:
        letter = taken_apart(check_run_id(run_id), signal)
    except (BadRunId, SignalRefused) as exc:
        _log.info("signal.refused", reason=str(exc))
        return f"refused: {exc}"
    return await _post(*letter)


@app.task(name=WAKE, base=GuardedTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def wake_run(run_id: str, **later: Any) -> bool:
    """Ring for a parked run that was sent a signal; return False when it is not due, or was rung for already."""
    return await wake(held.services, run_id)


@app.task(name=SWEEP, base=GuardedTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def sweep(**later: Any) -> int:
    """Ring for due runs, as every worker does by itself; for beat, as a backstop."""
    return await _tick(held.services.sweeper.sweep)


@app.task(name=PURGE, base=GuardedTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def purge(**later: Any) -> int:
    """Take runs out of SQL that ended longer ago than it keeps them, for some seconds; for beat."""
    return await _tick(held.services.purger.purge)


@app.task(name=BATCH_POLL, base=GuardedTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def poll(**later: Any) -> int:
    """Look at the provider's jobs that are due, each claimed by one poller; for beat."""
    return await _tick(held.services.poller.poll)


async def _tick(act: Callable[[], Awaitable[int]]) -> int:
    """Act for beat; return 0 while a store is away, which is no failure: the next tick says the same."""
    try:
        return await act()
    except StoreUnavailable as exc:
        _log.warning("tick.waiting", error=str(exc))
        return 0


def _writable(said: dict[str, Any]) -> dict[str, Any]:
    """Return a tool's outcome, or the failure of one that no JSON text can say."""
    try:
        json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as exc:
        return {"ok": False, "detail": f"its result cannot be written as JSON: {type(exc).__name__}"}
    return said


async def _post(run_id: str, kind: str, data: dict[str, Any], signal_id: str) -> str:
    """Put a letter into a run's inbox, however long the store is away: nobody would say again what it says.

    The message is acknowledged after that. Should it come twice, the letter's id makes it one.
    """
    services, job = held.services, current_job()
    while True:
        try:
            reply = await services.store.signal(run_id, kind, data, signal_id)
            break
        except KeysDamaged:
            # It has no use for letters any more: whoever takes it next ends it.
            _log.warning("signal.run_damaged", run_id=run_id)
            return "missing"
        except StoreUnavailable as exc:
            _log.warning("signal.waiting", run_id=run_id, error=str(exc))
            await services.clock.sleep_until(services.clock.now() + _PAUSE_S)
    if job is not None:
        await job.accept_async()
    if reply == "woken":
        await wake(services, run_id)
        return "sent"
    return reply
