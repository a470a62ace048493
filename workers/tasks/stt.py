"""`fireworks.stt.session`."""

from typing import Any

from api_contracts.names import STT_SESSION
from workers.app import app
from workers.runners.outcome import Outcome
from workers.runtime import RunTask


@app.task(name=STT_SESSION, base=RunTask, bind=True)  # type: ignore[untyped-decorator]  # celery is not typed
async def session(self: RunTask, request: Any = None) -> Outcome:
    """Bridge a session: `request` is an `SttRequest` as a JSON object, or our client's reference to one."""
    return await self.serve("stt", request)
