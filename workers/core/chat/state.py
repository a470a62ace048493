"""What a chat run knows: a fold over its journal, and nothing else.

Whatever a successor must know is here and comes from events; what lives only in one worker's life (retry timers, calls
being sent) is in `turn`. The ledger of tool calls obeys one rule: nothing leaves a settled state.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from api_contracts import chat, conversations, runs
from api_contracts.chat import CallReserved, CallState, SettledCall, Usage
from api_contracts.metering import Timings, Turn
from api_contracts.runs import EventData
from workers.core.chat import background
from workers.core.chat.tries import Tries
from workers.core.runs.living import Living

INVALID_ARGUMENTS: Final = "invalid_arguments"
"""`code` of a call that failed because its arguments do not fit."""

REPEATED: Final = "repeated"
"""`code` of a call that was not made because the run had made it so often."""

SETTLED: Final[frozenset[CallState]] = frozenset({"succeeded", "failed", "cancelled", "timed_out", "outcome_unknown"})

Settling = chat.CallResult | chat.CallFailed | chat.CallCancelled | chat.CallTimedOut | chat.CallOutcomeUnknown

_SETTLES: Final[dict[type[EventData], CallState]] = {
    chat.CallResult: "succeeded",
    chat.CallFailed: "failed",
    chat.CallCancelled: "cancelled",
    chat.CallTimedOut: "timed_out",
    chat.CallOutcomeUnknown: "outcome_unknown",
}

_PIECES: Final = frozenset((chat.ChatDelta, chat.ChatReasoning))
_SUCCEEDED: Final = "The call succeeded."
_ASKED_AGAIN: Final = (
    "That is not the form that was asked for: {why}. Answer again, in that form and with nothing else."
)


@dataclass(slots=True)
class Call:
    """A line of the ledger while the run lives."""

    reserved: CallReserved
    state: CallState = "reserved"
    content: str = ""
    approved: chat.CallApproved | None = None
    run_llm: bool | None = None
    interrupted: bool = False
    """An interrupt settled it: nothing is to follow."""

    @property
    def waits(self) -> bool:
        """Whether it is not to be made before somebody approves it."""
        return bool(self.reserved.approval) and self.approved is None and not self.settled

    @property
    def in_background(self) -> bool:
        """Whether the model is asked again without its result."""
        return self.reserved.wait is False

    @property
    def deadline_at(self) -> float:
        """When it is given up, in seconds since 1970."""
        return (self.approved or self.reserved).deadline_at

    @property
    def shown(self) -> str:
        """What the model reads."""
        return _SUCCEEDED if self.reserved.show == "state" and self.state == "succeeded" else self.content

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


def turn_of(told: chat.ChatUsage) -> Turn:
    """Return an answer as the run's account has it."""
    return Turn(
        round=told.round, attempt=told.attempt, model=told.model, usage=told.usage, timings=told.timings or Timings(),
        cost=told.cost,
    )  # fmt: skip


@dataclass(slots=True)
class ChatState(Living):
    """See the module. `messages` are those after the request's own."""

    first_delta_at: float | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    round: int = 0
    attempt: int = 0
    tries: Tries = field(default_factory=Tries)
    repairs: int = 0
    asking: bool = False
    retry_at: float | None = None
    """Not sooner the model is asked again."""
    held_until: float | None = None
    """The same of an attempt that an interrupt made needless: should a call in the background have news before."""
    said: list[str] = field(default_factory=list)
    visible: bool = False
    answer: chat.ChatMessage | None = None
    batch: list[str] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    background: list[str] = field(default_factory=list)
    """Calls that were joined while they ran, and of which the model was not told yet what came of them."""
    interrupted: bool = False
    """An interrupt stopped what was said, or the last calls that ran: nothing is to follow."""
    unanswered: bool = False
    """Every tool of the batch that was joined last wants no answer to its result."""
    exhausted: bool = False
    """The model was refused a call that it had made too often: it has to answer without tools."""
    misfits: dict[str, int] = field(default_factory=dict)
    """Tools whose arguments were refused, since they last ran: in which round first."""
    usage: Usage = field(default_factory=Usage)
    turns: list[Turn] = field(default_factory=list)
    cancelling: str | None = None
    lives: int = 0
    version: int | None = None
    """Of the conversation: what the turn goes on from."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Of the settings, by letters."""
    preface: list[dict[str, Any]] = field(default_factory=list)
    """What the model is told before the request's messages."""
    offered: list[str] | None = None
    """The tools of which it was told last, None while they are those that it began with."""
    counted: int | None = None
    """Tokens of all that was asked and answered last, as the model counted them."""

    def fold(self, event: EventData, at: float) -> None:
        """Take one event written at `at`; types that mean nothing to a chat are passed over."""
        if type(event) in _PIECES:  # most of all events, and it says nothing of anything else
            self._fold_piece(event, at)
            return
        self.fold_life(event, at)
        match event:
            case runs.RunStarted() | runs.RunResumed():
                self.lives += 1
                if event.inbox is not None:
                    self.retry_at = self.held_until = None  # an operator waits no longer
            case runs.RunCancelling():
                self.cancelling = event.reason
            case runs.RunCompleted() | runs.RunFailedEvent() | runs.RunCancelled():
                # Whoever folds an end was reopened: it has its tries again. What is settled stays settled.
                self.cancelling = self.retry_at = self.held_until = None
                self.tries, self.repairs = Tries(), 0
                self._unsay()
            case _ if event.TYPE.startswith("tool."):
                self._fold_call(event)
            case _:
                self._fold_answer(event)

    def open_calls(self) -> list[Call]:
        """Return the calls that are reserved and have no result yet: in the background, then of the present batch."""
        begun = [self.calls[call_id] for call_id in (*self.background, *self.batch) if call_id in self.calls]
        return [call for call in begun if not call.settled]

    @property
    def is_running(self) -> bool:
        """Whether a call runs in the background."""
        return not all(self.calls[call_id].settled for call_id in self.background)

    @property
    def has_news(self) -> bool:
        """Whether a call came to something in the background that the model is to answer to."""
        over = [call for call_id in self.background if (call := self.calls[call_id]).settled]
        return any(call.run_llm is not False and not call.interrupted for call in over)

    def news(self) -> list[dict[str, Any]]:
        """Return what came of calls in the background since the model was asked last, as it reads it."""
        over = [call for call_id in self.background if (call := self.calls[call_id]).settled]
        return [background.news(call.reserved.provider_id, call.reserved.name, call.shown) for call in over]

    def _unsay(self) -> None:
        """Leave out the answer for which the run failed: the model is asked anew."""
        if self.answer is not None:
            self.messages.pop()
            self.answer = None

    def _fold_call(self, event: EventData) -> None:
        match event:
            case (
                chat.CallResult()
                | chat.CallFailed()
                | chat.CallCancelled()
                | chat.CallTimedOut()
                | chat.CallOutcomeUnknown()
            ):
                self._settle(event)
            case chat.BatchStarted():
                self.batch = list(event.calls)
            case chat.CallReserved():
                self.calls[event.call_id] = Call(event)
            case chat.CallApproved():
                self.calls[event.call_id].approved = event
            case chat.CallStarted() if not self.calls[event.call_id].settled:
                self.calls[event.call_id].state = "running"
            case chat.BatchJoined():
                self._join()
            case _:
                pass

    def _fold_piece(self, event: EventData, at: float) -> None:
        self.visible = True
        if type(event) is chat.ChatDelta:
            self.said.append(event.text)
            self.first_delta_at = self.first_delta_at or at

    def _fold_answer(self, event: EventData) -> None:
        match event:
            case chat.ChatRequested():
                self.round, self.attempt, self.asking = event.round, event.attempt, True
                self.said, self.visible, self.retry_at, self.interrupted = [], False, None, False
                self.unanswered, self.answer, self.held_until = False, None, None
                self._tell()
            case chat.ChatReplaced(mismatch=str() as why):
                self.messages.append({"role": "user", "content": _ASKED_AGAIN.format(why=why)})
                self.answer, self.repairs = None, self.repairs + 1
            case chat.ChatReplaced():
                self.said, self.visible, self.asking = [], False, False
                self.tries.fold(event)
                self.retry_at = event.retry_at
            case chat.ChatMessage():
                self.messages.append(event.message)
                self.asking, self.said, self.visible = False, [], False
                self.tries.answered()
                self.answer = None if event.message.get("tool_calls") else event
                self.interrupted, held_until = bool(event.interrupted), self.retry_at if event.interrupted else None
                self.retry_at, self.held_until = (held_until, None) if self.has_news else (None, held_until)
            case chat.ChatUsage():
                self.usage = self.usage + event.usage
                self.turns.append(turn_of(event))
                self.counted = event.usage.prompt_tokens + event.usage.completion_tokens
            case _:
                self._fold_talk(event)

    def _fold_talk(self, event: EventData) -> None:
        match event:
            case conversations.ChatOpened() | conversations.ChatSummarised(failure=None):
                self.version = event.version
            case conversations.ChatSettingsChanged():
                self.changes.append(event.changed)
            case conversations.ChatToolsChanged():
                self.offered = event.tools
                if event.message is not None:
                    (self.preface if event.first else self.messages).append(event.message)
            case _:
                pass

    def _settle(self, event: Settling) -> None:
        call = self.calls[event.call_id]
        if call.settled:
            return
        call.state, call.content = _SETTLES[type(event)], event.content
        if isinstance(event, chat.CallResult):
            call.run_llm = event.run_llm
        if isinstance(event, chat.CallCancelled | chat.CallOutcomeUnknown):
            call.interrupted = event.inbox is not None
            self.interrupted = self.interrupted or call.interrupted
        elif event.call_id not in self.background:
            self.interrupted = False  # something came of what was left to run
        if self.held_until is not None and self.has_news:
            self.retry_at, self.held_until = self.held_until, None
        name, round_ = call.reserved.name, int(event.call_id.split(".")[0])
        code = event.code if isinstance(event, chat.CallFailed) else None
        self.exhausted = self.exhausted or code == REPEATED
        if code == INVALID_ARGUMENTS:
            self.misfits.setdefault(name, round_)
        elif round_ > self.misfits.get(name, round_):
            del self.misfits[name]

    def was_told(self, name: str, round_: int) -> bool:
        """Whether the model was told in an earlier round that its arguments for this tool do not fit."""
        return self.misfits.get(name, round_) < round_

    def _join(self) -> None:
        self.unanswered = all(self.calls[call_id].run_llm is False for call_id in self.batch)
        for call_id in self.batch:
            call = self.calls[call_id]
            content = call.shown if call.settled else background.RUNS
            self.messages.append({"role": "tool", "tool_call_id": call.reserved.provider_id, "content": content})
        self.background += [call_id for call_id in self.batch if not self.calls[call_id].settled]
        self.batch = []

    def _tell(self) -> None:
        self.messages += self.news()
        self.background = [call_id for call_id in self.background if not self.calls[call_id].settled]
