"""`fireworks.stt.file`."""

from typing import Any

from api_contracts.names import STT_FILE
from workers.app import app
from workers.runners.outcome import Outcome
from workers.runtime import RunTask


@app.task(name=STT_FILE, base=RunTask, bind=True)  # type: ignore[untyped-decorator]  # celery is not typed
async def file(self: RunTask, request: Any = None) -> Outcome:
    """Transcribe a file: `request` is an `SttFileRequest` as a JSON object, or our client's reference to one."""
    return await self.serve("stt_file", request)
