"""What a chat run knows: a fold over its journal, and nothing else.

Whatever a successor must know is here and comes from events; what lives only in one worker's life (retry timers, calls
being sent) is in `turn`. The ledger of tool calls obeys one rule: nothing leaves a settled state.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from api_contracts import chat, runs
from api_contracts.chat import CallReserved, CallState, SettledCall, Usage
from api_contracts.runs import EventData
from workers.core.runs.frame import later_id

SETTLED: Final[frozenset[CallState]] = frozenset({"succeeded", "failed", "cancelled", "timed_out", "outcome_unknown"})

Settling = chat.CallResult | chat.CallFailed | chat.CallCancelled | chat.CallTimedOut | chat.CallOutcomeUnknown

_SETTLES: Final[dict[type[EventData], CallState]] = {
    chat.CallResult: "succeeded",
    chat.CallFailed: "failed",
    chat.CallCancelled: "cancelled",
    chat.CallTimedOut: "timed_out",
    chat.CallOutcomeUnknown: "outcome_unknown",
}


@dataclass(slots=True)
class Call:
    """A line of the ledger while the run lives."""

    reserved: CallReserved
    state: CallState = "reserved"
    content: str = ""

    @property
    def settled(self) -> bool:
        """Whether the call has its one result."""
        return self.state in SETTLED

    def line(self) -> SettledCall:
        """Return the line as the result shows it."""
        card = self.reserved
        return SettledCall(
            call_id=card.call_id, name=card.name, arguments=card.arguments, state=self.state, effect=card.effect,
            content=self.content or None,
        )  # fmt: skip


@dataclass(slots=True)
class ChatState:
    """See the module. `messages` are those after the request's own."""

    queued_at: float
    started_at: float | None = None
    first_delta_at: float | None = None
    cursor: str = "0"
    messages: list[dict[str, Any]] = field(default_factory=list)
    round: int = 0
    attempt: int = 0
    failures: int = 0
    asking: bool = False
    said: list[str] = field(default_factory=list)
    visible: bool = False
    answer: chat.ChatMessage | None = None
    batch: list[str] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    cancelling: str | None = None

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`; types that mean nothing to a chat are passed over."""
        if (letter := getattr(event, "inbox", None)) is not None:
            self.cursor = later_id(self.cursor, letter)
        match event:
            case (
                chat.CallResult()
                | chat.CallFailed()
                | chat.CallCancelled()
                | chat.CallTimedOut()
                | chat.CallOutcomeUnknown()
            ):
                self._settle(event)
            case runs.RunStarted():
                self.started_at = at
            case runs.RunCancelling():
                self.cancelling = event.reason
            case chat.BatchStarted():
                self.batch = list(event.calls)
            case chat.CallReserved():
                self.calls[event.call_id] = Call(event)
            case chat.CallStarted() if not self.calls[event.call_id].settled:
                self.calls[event.call_id].state = "running"
            case chat.BatchJoined():
                self._join()
            case _:
                self._fold_answer(event, at)

    def open_calls(self) -> list[Call]:
        """Return the calls of the present batch that are reserved and have no result yet, in the model's order."""
        begun = [self.calls[call_id] for call_id in self.batch if call_id in self.calls]
        return [call for call in begun if not call.settled]

    def _fold_answer(self, event: EventData, at: float) -> None:
        match event:
            case chat.ChatRequested():
                self.round, self.attempt, self.asking = event.round, event.attempt, True
                self.said, self.visible = [], False
            case chat.ChatDelta() | chat.ChatReasoning():
                self.visible = True
                if isinstance(event, chat.ChatDelta):
                    self.said.append(event.text)
                    self.first_delta_at = self.first_delta_at or at
            case chat.ChatReplaced():
                self.said, self.visible, self.asking = [], False, False
                self.failures += event.failure is not None
            case chat.ChatMessage():
                self.messages.append(event.message)
                self.asking, self.failures, self.said, self.visible = False, 0, [], False
                self.answer = None if event.message.get("tool_calls") else event
            case chat.ChatUsage():
                self.usage = self.usage + event.usage
            case _:
                pass

    def _settle(self, event: Settling) -> None:
        call = self.calls[event.call_id]
        if not call.settled:
            call.state, call.content = _SETTLES[type(event)], event.content

    def _join(self) -> None:
        for call_id in self.batch:
            call = self.calls[call_id]
            self.messages.append({"role": "tool", "tool_call_id": call.reserved.provider_id, "content": call.content})
        self.batch = []
