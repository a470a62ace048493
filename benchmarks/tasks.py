"""The service's own app with what the measures compare: a task that does nothing, and a run that does nothing.

The empty run is a chat of the model `EMPTY`: its request is read and checked as any, it has a lease and a journal, it
starts, completes with a whole result, is stored in SQL and announced. All that it lacks is a provider. One that is
refused at its begin would be as short, but it fails, and what an exception costs Celery's tracer is not ours to count.
"""

from collections.abc import Callable, Mapping
from typing import Any

from api_contracts.chat import ChatRequest, ChatResult
from api_contracts.runs import RunQueued
from benchmarks.names import EMPTY, NOOP
from workers import bootstrap
from workers.app import app
from workers.core.runs.frame import Effect, Finish, Machine
from workers.core.runs.refusal import Foregone
from workers.pool import LoopTask
from workers.runners.drive import Performer


@app.task(name=NOOP, base=LoopTask)
async def noop() -> None:
    """Do nothing."""


class _Idle:
    """`Performer` of a run that has no effects."""

    def perform(self, effect: Effect, post: Callable[[object], None]) -> None:
        """See the port."""
        raise TypeError(f"{effect} of an empty run ({post})")

    async def close(self) -> None:
        """See the port."""


class _Kinds(bootstrap.WorkerKinds):
    """The service's kinds, and the empty one."""

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        """See the port."""
        if request.get("model") != EMPTY:
            return super().prepare(run_id, queued, request, at)
        ChatRequest.model_validate(request)
        result = ChatResult(run_id=run_id, status="completed")
        return Foregone(Finish("completed", result.model_dump(mode="json", exclude_none=True))), _Idle()


bootstrap.WorkerKinds = _Kinds  # in this process only, before the services are built
