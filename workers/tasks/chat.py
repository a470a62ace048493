"""`fireworks.chat.complete`."""

from typing import Any

from api_contracts.names import CHAT
from workers.app import app
from workers.runners.outcome import Outcome
from workers.runtime import RunTask


@app.task(name=CHAT, base=RunTask, bind=True)  # type: ignore[untyped-decorator]  # celery is not typed
async def complete(self: RunTask, request: Any = None) -> Outcome:
    """Complete a chat: `request` is a `ChatRequest` as a JSON object, or our client's reference to one."""
    return await self.serve("chat", request)
