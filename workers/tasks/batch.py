"""`fireworks.batch.submit`."""

from typing import Any

from api_contracts.names import BATCH
from workers.app import app
from workers.runners.outcome import Outcome
from workers.runtime import RunTask


@app.task(name=BATCH, base=RunTask, bind=True)  # type: ignore[untyped-decorator]  # celery is not typed
async def submit(self: RunTask, request: Any = None) -> Outcome:
    """Run a batch: `request` is a `BatchRequest` as a JSON object, or our client's reference to one."""
    return await self.serve("batch", request)
