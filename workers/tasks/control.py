"""`fireworks.tools.deliver`, `fireworks.runs.signal`, `fireworks.runs.wake`, `fireworks.runs.sweep`,
`fireworks.batch.poll`."""

from typing import Any, Final

import structlog

from api_contracts.client.envelope import opened
from api_contracts.keys import check_run_id
from api_contracts.names import BATCH_POLL, DELIVER, SIGNAL, SWEEP, WAKE
from workers.app import app
from workers.pool import LoopTask, current_job
from workers.ports import StoreUnavailable
from workers.runtime import held, wake

_log = structlog.get_logger(__name__)

_PAUSE_S: Final = 1.0


@app.task(name=DELIVER, base=LoopTask, ignore_result=True, accept_late=True)  # type: ignore[untyped-decorator]
async def deliver(value: Any = None, *, run_id: str, call_id: str, token: str, outcome: str) -> None:
    """Bring a tool's result to its run. Linked to the tool's task, so the first argument is its value or its id."""
    letter = {"call_id": call_id, "token": token} | opened(value, outcome)
    # The token is part of the letter's id, or one with a wrong token would have the right one taken for its repeat.
    await _post(check_run_id(run_id), "tool_result", letter, f"{call_id}:{outcome}:{token!s:.64}")


@app.task(name=SIGNAL, base=LoopTask, accept_late=True)  # type: ignore[untyped-decorator]
async def signal(run_id: str, signal: dict[str, Any]) -> str:
    """Put a signal `{"type": ..., "id": ..., ...}` into a run's inbox; return sent, finished or missing."""
    kind, signal_id = str(signal.get("type", "")), str(signal.get("id", ""))
    data = {key: value for key, value in signal.items() if key not in ("type", "id")}
    return await _post(check_run_id(run_id), kind, data, signal_id)


@app.task(name=WAKE, base=LoopTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def wake_run(run_id: str) -> bool:
    """Ring for a parked run that was sent a signal; return False when it is not due, or was rung for already."""
    return await wake(held.services, check_run_id(run_id))


@app.task(name=SWEEP, base=LoopTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def sweep() -> int:
    """Ring for due runs, as every worker does by itself; for beat, as a backstop."""
    return await held.services.sweeper.sweep()


@app.task(name=BATCH_POLL, base=LoopTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def poll() -> int:
    """Look at the provider's jobs that are due, each claimed by one poller; for beat."""
    return await held.services.poller.poll()


async def _post(run_id: str, kind: str, data: dict[str, Any], signal_id: str) -> str:
    """Put a letter into a run's inbox, however long the store is away: nobody would say again what it says.

    The message is acknowledged after that. Should it come twice, the letter's id makes it one.
    """
    services, job = held.services, current_job()
    while True:
        try:
            reply = await services.store.signal(run_id, kind, data, signal_id)
            break
        except StoreUnavailable as exc:
            _log.warning("signal.waiting", run_id=run_id, error=str(exc))
            await services.clock.sleep_until(services.clock.now() + _PAUSE_S)
    if job is not None:
        await job.accept_async()
    if reply == "woken":
        await wake(services, run_id)
        return "sent"
    return reply
