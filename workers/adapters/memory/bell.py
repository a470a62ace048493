"""`Bell` that sends nothing: it notes what would have been sent, and can play the service that answers.

It is `MessageQueues` too, over what it is told."""

from dataclasses import dataclass
from typing import Any, Literal

from api_contracts.client.envelope import opened
from api_contracts.runs import RunQueued
from workers.core.chat.acts import SendCall
from workers.ports import RunStore, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Ring:
    """One message for a run. `signature` is the caller's, if it was known."""

    run_id: str
    signature: str | None
    queued: RunQueued
    queue: str | None = None


class MemoryBell:
    """Notes rings and calls in order. While `away` is true every send fails as if the broker were gone."""

    def __init__(self) -> None:
        self.rings: list[Ring] = []
        self.calls: list[SendCall] = []
        self.away = False
        self.lies: dict[str, int] = {}

    async def lying(self, queue: str) -> int:
        """See the port `MessageQueues`: as many as `lies` says."""
        self._reach()
        return self.lies.get(queue, 0)

    async def ring(self, run_id: str, signature: str | None, queued: RunQueued, queue: str | None = None) -> None:
        """See the port."""
        self._reach()
        self.rings.append(Ring(run_id, signature, queued, queue))

    async def call(self, call: SendCall) -> None:
        """See the port."""
        self._reach()
        self.calls.append(call)

    async def deliver(
        self, store: RunStore, call: SendCall, value: Any, outcome: Literal["result", "error"] = "result"
    ) -> None:
        """Bring what the call came to, as `fireworks.tools.deliver` does: its value, or its failed task's id."""
        letter = {"call_id": call.call_id, "token": call.token} | opened(value, outcome)
        await store.signal(call.run_id, "tool_result", letter, f"{call.call_id}:{outcome}")

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("the broker is away")
