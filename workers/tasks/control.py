"""`fireworks.tools.deliver`, `fireworks.runs.signal`, `fireworks.runs.sweep`."""

from typing import Any, Final

import structlog

from api_contracts.client.envelope import opened
from api_contracts.keys import check_run_id
from api_contracts.names import DELIVER, SIGNAL, SWEEP
from workers.app import app
from workers.pool import LoopTask, current_job
from workers.ports import StoreUnavailable
from workers.runtime import held

_log = structlog.get_logger(__name__)

_PAUSE_S: Final = 1.0


@app.task(name=DELIVER, base=LoopTask, ignore_result=True, accept_late=True)  # type: ignore[untyped-decorator]
async def deliver(value: Any = None, *, run_id: str, call_id: str, token: str, outcome: str) -> None:
    """Bring a tool's result to its run. Linked to the tool's task, so the first argument is its value or its id."""
    letter = {"call_id": call_id, "token": token} | opened(value, outcome)
    await _post(check_run_id(run_id), "tool_result", letter, f"{call_id}:{outcome}")


@app.task(name=SIGNAL, base=LoopTask, accept_late=True)  # type: ignore[untyped-decorator]
async def signal(run_id: str, signal: dict[str, Any]) -> str:
    """Put a signal `{"type": ..., "id": ..., ...}` into a run's inbox; return sent, finished or missing."""
    kind, signal_id = str(signal.get("type", "")), str(signal.get("id", ""))
    data = {key: value for key, value in signal.items() if key not in ("type", "id")}
    return await _post(check_run_id(run_id), kind, data, signal_id)


@app.task(name=SWEEP, base=LoopTask, ignore_result=True)  # type: ignore[untyped-decorator]
async def sweep() -> int:
    """Ring for due runs, as every worker does by itself; for beat, as a backstop."""
    return await held.services.sweeper.sweep()


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
    return reply
