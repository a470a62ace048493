"""`fireworks.cite.answer`."""

from typing import Any

from api_contracts.names import CITE
from workers.app import app
from workers.runners.outcome import Outcome
from workers.runtime import RunTask


@app.task(name=CITE, base=RunTask, bind=True)  # type: ignore[untyped-decorator]  # celery is not typed
async def answer(self: RunTask, request: Any = None) -> Outcome:
    """Answer with citations: `request` is a `CiteRequest` as a JSON object, or our client's reference to one."""
    return await self.serve("cite", request)
