"""A chat run as a machine: ask the model, make the calls it wants, ask again, finish.

Every effect is announced before it is done and settled after. What stands between the two in the journal is exactly
what a crash can have interrupted, and `_resume_calls` says what becomes of it:

    asked, no message         the answer is lost: `chat.replaced`, ask again
    call reserved, in worker  it did not begin (started is written first): begin
    call started, in worker   pure, idempotent, keyed: run again; at_most_once: outcome_unknown
    call reserved, elsewhere  it may have been sent (started is written after): send again, unless at_most_once: wait
    call started, elsewhere   it was sent: wait for its result or its deadline
    wanted, not reserved      it did not begin: reserve it when its turn comes

A call is reserved when its turn comes, not when the model asks for it: waiting for others takes none of its time, and
what stands reserved is what may have begun.

This file owns the decisions. `state` owns what is known, `calls` what becomes of a single call. No clock, no chance.
"""

from collections.abc import Mapping

from api_contracts import chat, runs
from api_contracts.chat import ChatRequest
from api_contracts.failure import Failure
from api_contracts.runs import EventData, Status
from workers.core.chat import acts, calls
from workers.core.chat.assembler import Answer
from workers.core.chat.body import body_of
from workers.core.chat.cards import ToolCard
from workers.core.chat.result import result_of
from workers.core.chat.state import Call, ChatState, Settling
from workers.core.retry import pause_s
from workers.core.runs.deadline import DEADLINE_EXCEEDED, deadline_of
from workers.core.runs.frame import Action, Begin, Draining, Emit, Finish, Release, SignalArrived, Woke
from workers.core.text import storable


class ChatTurn:
    """`Machine` of a chat. `cards` holds every tool that the request names."""

    def __init__(
        self, run_id: str, request: ChatRequest, cards: Mapping[str, ToolCard], queued_at: float, secret: str
    ) -> None:
        self.state = ChatState(queued_at)
        self._run_id = run_id
        self._request = request
        self._cards = cards
        self._secret = secret
        self._acts: list[Action] = []
        self._in_hand: set[str] = set()  # calls that this life of the run has begun, or waits for
        self._sending: set[str] = set()  # those of them whose message is on its way to the broker
        self._retry_at: float | None = None
        self._force_at: float | None = None
        self._resumed = False
        self._over = False

    @property
    def cursor(self) -> str:
        """See `Machine`."""
        return self.state.cursor

    @property
    def deadline(self) -> float | None:
        """See `Machine`."""
        times = [self._retry_at, self._force_at, self._run_deadline()]
        times += [call.reserved.deadline_at for call in self.state.open_calls()]
        return min((t for t in times if t is not None), default=None)

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`."""
        self.state.fold(event, at)

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`. Facts of an attempt or a call that is over change nothing."""
        self._acts = []
        if not self._over:
            self._take(fact, now)
        return self._acts

    def _take(self, fact: object, now: float) -> None:
        match fact:
            case Begin(owner):
                self._begin(owner, now)
            case acts.ModelSaid(attempt, text, reasoning) if self._is_present(attempt):
                self._said(attempt, text, reasoning, now)
            case acts.ModelAnswered(attempt, answer) if self._is_present(attempt):
                self._answered(answer, now)
            case acts.ModelFailed(attempt, failure, jitter) if self._is_present(attempt):
                self._attempt_failed(failure, jitter, now)
            case acts.CallSent(call_id):
                self._sent(call_id, now)
            case acts.CallSettled() if self._is_open(fact.call_id):
                self._settle(calls.outcome(fact), now)
            case SignalArrived():
                self._signal(fact, now)
            case Draining(force_at):
                self._force_at = force_at
                self._hand_over_if_idle()
            case Woke():
                self._woke(now)
            case _:
                pass

    # -- the way of a run ------------------------------------------------------------------------------------------

    def _begin(self, owner: str, now: float) -> None:
        if self.state.started_at is None:
            self._emit(runs.RunStarted(owner=owner), now)
        else:
            self._resumed = True
            self._emit(runs.RunResumed(owner=owner), now)
        if self.state.cancelling is not None:
            self._finish("cancelled", None, now)
        elif self._is_late(now):
            self._finish("failed", DEADLINE_EXCEEDED, now)
        elif self.state.asking:
            self._emit(chat.ChatReplaced(attempt=self.state.attempt, reason="its worker was lost"), now)
            self._ask(now)
        else:
            self._resume_calls(now)
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Take the next step from a state in which no answer is awaited."""
        if self._calls_to_make():
            self._make_calls(now)
        elif self.state.answer is not None:
            self._finish("completed", None, now)
        else:
            self._ask(now)

    def _ask(self, now: float) -> None:
        self._retry_at = None
        if self._force_at is not None:
            self._release()
            return
        round_ = 1 + sum(message["role"] == "assistant" for message in self.state.messages)
        event = chat.ChatRequested(round=round_, attempt=self.state.attempt + 1, model=self._request.model)
        self._emit(event, now)
        tools = round_ < self._request.limits.rounds and len(self.state.calls) < self._request.limits.calls
        body = body_of(self._request, self._cards, self.state.messages, round_=round_, tools=tools)
        self._acts.append(acts.AskModel(event.attempt, body, self._request.credential))

    # -- the model -------------------------------------------------------------------------------------------------

    def _said(self, attempt: int, text: str, reasoning: str, now: float) -> None:
        if reasoning:
            self._emit(chat.ChatReasoning(attempt=attempt, text=reasoning), now)
        if text:
            self._emit(chat.ChatDelta(attempt=attempt, text=text), now)

    def _answered(self, answer: Answer, now: float) -> None:
        state = self.state
        taken = {call.reserved.provider_id for call in state.calls.values()}
        taken.update(call.id for message in self._request.messages for call in message.tool_calls or ())
        message, _ = calls.numbered(answer, state.round, taken)
        self._emit(
            chat.ChatMessage(
                round=state.round, attempt=state.attempt, message=message, reasoning=answer.reasoning,
                finish_reason=answer.finish_reason, provider_request_id=answer.provider_request_id,
            ), now,
        )  # fmt: skip
        self._emit(chat.ChatUsage(round=state.round, usage=answer.usage), now)
        self._go_on(now)

    def _attempt_failed(self, failure: Failure, jitter: float, now: float) -> None:
        self._emit(chat.ChatReplaced(attempt=self.state.attempt, reason="the attempt failed", failure=failure), now)
        pause = pause_s(failure, self.state.failures, jitter)
        if pause is None:
            self._finish("failed", failure, now)
        else:
            self._retry_at = now + pause
            self._hand_over_if_idle()

    # -- tool calls ------------------------------------------------------------------------------------------------

    def _calls_to_make(self) -> list[calls.Wanted]:
        """Return the calls of the last answer, until they are joined."""
        messages = self.state.messages
        return calls.wanted_in(messages[-1], self.state.round) if messages else []

    def _not_reserved(self) -> list[calls.Wanted]:
        return [call for call in self._calls_to_make() if call.call_id not in self.state.calls]

    def _make_calls(self, now: float) -> None:
        if self.state.round >= self._request.limits.rounds:
            self._finish("failed", calls.ROUNDS_EXHAUSTED, now)
            return
        if not self.state.batch:
            wanted = [call.call_id for call in self._calls_to_make()]
            self._emit(chat.BatchStarted(round=self.state.round, calls=wanted), now)
        if self._force_at is None:
            self._start_calls(now)
        if self.state.open_calls() or self._not_reserved():
            self._hand_over_if_idle()
        else:
            self._emit(chat.BatchJoined(round=self.state.round), now)
            self._ask(now)

    def _start_calls(self, now: float) -> None:
        for call in self.state.open_calls():
            if call.reserved.call_id not in self._in_hand and self._has_room():
                self._start(call, now)
        for wanted in self._not_reserved():
            if not self._has_room():
                return
            call = self._reserve(wanted, now)
            if not call.settled:
                self._start(call, now)

    def _has_room(self) -> bool:
        return len(self._in_hand) < self._request.parallel_tools

    def _reserve(self, wanted: calls.Wanted, now: float) -> Call:
        free = len(self.state.calls) < self._request.limits.calls
        card, secret = self._cards.get(wanted.name), self._secret
        for event in calls.reservation(self._run_id, wanted, card, now, free=free, secret=secret):
            self._emit(event, now)
        return self.state.calls[wanted.call_id]

    def _start(self, call: Call, now: float) -> None:
        card = call.reserved
        self._in_hand.add(card.call_id)
        arguments = calls.arguments_of(card.arguments) or {}
        if card.where == "worker":
            if call.state == "reserved":
                self._emit(chat.CallStarted(call_id=card.call_id), now)
            self._acts.append(acts.RunTool(card.call_id, card.name, arguments, card.task_id or card.call_id))
            return
        tool = self._cards[card.name]
        self._sending.add(card.call_id)
        self._acts.append(
            acts.SendCall(
                self._run_id, card.call_id, card.task_id or "", card.token or "", tool.task or "", tool.queue or "",
                arguments,
            )
        )  # fmt: skip

    def _sent(self, call_id: str, now: float) -> None:
        self._sending.discard(call_id)
        if self._is_open(call_id) and self.state.calls[call_id].state == "reserved":
            self._emit(chat.CallStarted(call_id=call_id), now)
        self._hand_over_if_idle()

    def _resume_calls(self, now: float) -> None:
        self._time_out(now)
        for call in self.state.open_calls():
            card = call.reserved
            if card.where == "nowhere":
                self._emit(calls.refused(card.call_id), now)
            elif card.where == "worker" and call.state == "running":
                if card.effect == "at_most_once":
                    self._emit(calls.unknown(card.call_id), now)
                else:
                    self._start(call, now)
            elif card.where == "task" and (call.state == "running" or card.effect == "at_most_once"):
                self._in_hand.add(card.call_id)  # it is with its service, or may be: wait

    def _settle(self, event: Settling, now: float) -> None:
        self._emit(event, now)
        self._in_hand.discard(event.call_id)
        self._go_on(now)

    def _time_out(self, now: float) -> bool:
        """Settle the calls whose deadline has passed; return whether there were any."""
        late = [call for call in self.state.open_calls() if now >= call.reserved.deadline_at]
        for call in late:
            call_id = call.reserved.call_id
            if call_id in self._sending or (call_id in self._in_hand and call.reserved.where == "worker"):
                self._acts.append(acts.StopTool(call_id))
            self._in_hand.discard(call_id)
            self._sending.discard(call_id)
            self._emit(calls.timed_out(call), now)
        return bool(late)

    # -- signals, time, endings ------------------------------------------------------------------------------------

    def _signal(self, letter: SignalArrived, now: float) -> None:
        match letter.type:
            case "cancel":
                reason = storable(str(letter.data.get("reason") or ""))[:200]
                self._emit(runs.RunCancelling(inbox=letter.id, reason=reason), now)
                self._finish("cancelled", None, now)
            case "tool_result":
                self._delivered(letter, now)
            case "conflict":
                digest = storable(str(letter.data.get("digest") or ""))[:64]
                self._emit(runs.RunConflicted(inbox=letter.id, digest=digest), now)
            case _:
                pass

    def _delivered(self, letter: SignalArrived, now: float) -> None:
        call = self.state.calls.get(str(letter.data.get("call_id")))
        if call is None or call.reserved.token is None or call.reserved.token != letter.data.get("token"):
            return
        if call.settled:
            self._emit(chat.CallLateResult(call_id=call.reserved.call_id, inbox=letter.id), now)
        else:
            self._settle(calls.delivery(call.reserved, letter), now)

    def _woke(self, now: float) -> None:
        if self._is_late(now):
            self._finish("failed", DEADLINE_EXCEEDED, now)
        elif self._force_at is not None and now >= self._force_at:
            self._release()
        elif self._time_out(now):
            self._go_on(now)
        elif self._retry_at is not None and now >= self._retry_at:
            self._ask(now)

    def _finish(self, status: Status, failure: Failure | None, now: float) -> None:
        if self.state.asking or self.state.open_calls():
            self._acts.append(acts.StopAll())
        for call in self.state.open_calls():
            self._emit(calls.stopped(call, begun=self._may_have_begun(call)), now)
        for wanted in self._not_reserved() if self.state.batch else ():
            if not (call := self._reserve(wanted, now)).settled:
                self._emit(calls.stopped(call, begun=False), now)
        self._over = True
        result = result_of(self._run_id, self.state, status, failure, now)
        self._acts.append(Finish(status, result, failure, self.state.cancelling or ""))

    def _hand_over_if_idle(self) -> None:
        """When draining: hand over once nothing is under way here; other services go on without us."""
        here = [c for c in self.state.open_calls() if c.reserved.where == "worker" and c.state == "running"]
        if self._force_at is not None and not (self.state.asking or self._sending or here):
            self._release()

    def _release(self) -> None:
        self._over = True
        self._acts += [acts.StopAll(), Release()]

    def _is_late(self, now: float) -> bool:
        return (end := self._run_deadline()) is not None and now >= end

    def _run_deadline(self) -> float | None:
        return deadline_of(self.state.queued_at, self._request.deadline_s)

    def _may_have_begun(self, call: Call) -> bool:
        sent_before = self._resumed and call.reserved.where == "task"
        return call.state == "running" or sent_before or call.reserved.call_id in self._in_hand

    def _is_present(self, attempt: int) -> bool:
        return self.state.asking and attempt == self.state.attempt

    def _is_open(self, call_id: str) -> bool:
        call = self.state.calls.get(call_id)
        return call is not None and not call.settled

    def _emit(self, event: EventData, now: float) -> None:
        self.state.fold(event, now)
        self._acts.append(Emit(event))
