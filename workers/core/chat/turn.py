"""A chat run as a machine: ask the model, make the calls it wants, ask again, finish.

Every effect is announced before it is done and settled after. What stands between the two in the journal is exactly
what a crash can have interrupted, and `Dispatch.resume` says what becomes of it:

    asked, no message         the answer is lost: `chat.replaced`, ask again
    call reserved, in worker  it did not begin (started is written first): begin
    call started, in worker   pure, idempotent, keyed: run again; at_most_once: outcome_unknown
    call reserved, elsewhere  it may have been sent (started is written after): send again, unless at_most_once: wait
    call started, elsewhere   it was sent: wait for its result or its deadline, even one that has passed meanwhile
    call waits for approval   it did not begin: wait; once approved it is as one reserved
    wanted, not reserved      it did not begin: reserve it when its turn comes

A call is reserved when its turn comes, not when the model asks for it: waiting for others takes none of its time, and
what stands reserved is what may have begun.

This file owns the way of a run. `state` owns what is known, `asking` the attempts, `dispatch` the calls of an answer,
`calls` what becomes of a single one, `talk` the run's part in a conversation, `heeding` letters, time and the end. No
clock, no chance.

A call in the background (`background`) does not keep the model from being asked again. While one runs the run does not
end, but for a failure or a cancel: with nothing else to do it waits, here or parked, and what comes of the call is told
with the next question (`chat.requested` folds it into the messages), which is asked for its sake if for no other.
"""

from collections.abc import Container, Mapping
from types import MappingProxyType

from api_contracts import chat
from api_contracts.chat import ChatRequest
from api_contracts.failure import Failure
from api_contracts.metering import Price, Timings
from workers.core.chat import acts, calls, means
from workers.core.chat.account import Meter, truncations
from workers.core.chat.assembler import Answer
from workers.core.chat.body import body_of
from workers.core.chat.cards import ToolCard
from workers.core.chat.dispatch import Dispatch
from workers.core.chat.form import fault_in, form_of, mismatch
from workers.core.chat.heeding import Heeding
from workers.core.chat.recovery import with_calls
from workers.core.chat.state import ChatState
from workers.core.chat.talk import Talk, bad_settings
from workers.core.chat.toolset import Find, ToolSet
from workers.core.runs.deadline import DEADLINE_EXCEEDED, soonest
from workers.core.runs.frame import Begin, Finish
from workers.core.text import storable


class ChatTurn(Heeding):
    """`Machine` of a chat. `cards` holds every tool that the request names, `find` those that settings may name.

    `text_calls` names the models whose text may be a call (`recovery`). Raises BadForm for a form of the answer that is
    none, BadSchema for such parameters of a tool.
    """

    def __init__(
        self, run_id: str, request: ChatRequest, cards: Mapping[str, ToolCard], queued_at: float, secret: str,
        prices: Mapping[str, Price] = MappingProxyType({}), text_calls: Container[str] = (),
        find: Find = lambda _: None,
    ) -> None:  # fmt: skip
        self.state = ChatState(queued_at)
        self._route = request.places
        super().__init__(self.state, request.deadline_s, places=len(self._route) or 1, retries=request.limits.retries)
        self._run_id = run_id
        self._request = request
        self._form = form_of(request.response_format)
        self._tools = ToolSet(cards, find)
        self._calls = Dispatch(run_id, request, self._tools, secret, self.state, self._emit, self._acts)
        self._meter = Meter(request, prices, queued_at)
        self._talk = Talk(run_id, request, self.state, self._emit, self._acts, self._meter, self._tools)
        self._park_at: float | None = None
        self._was_reopened = False
        self._text_calls = text_calls

    @property
    def deadline(self) -> float | None:
        """See `Machine`. Until its conversation is open nothing else is waited for."""
        if self._talk.is_open:
            return super().deadline
        if self._talk.is_opening:
            return None
        return soonest(*self._talk.alarms, self._force_at, self._run_deadline())

    def _alarms(self) -> tuple[float | None, ...]:
        return (self._park_at, *self._calls.deadlines())

    def _take_other(self, fact: object, now: float) -> None:
        match fact:
            case acts.CallSent(call_id):
                self._calls.sent(call_id, now)
                self._rest(now)
            case acts.CallSettled() if self._calls.is_open(fact.call_id):
                self._calls.ended(fact, now)
                self._go_on(now)
            case acts.CallReconciled() if self._calls.is_open(fact.call_id):
                self._calls.settle(calls.reconciled(fact), now)
                self._go_on(now)
            case acts.CallProgressed(call_id, content) if self._calls.is_open(call_id):
                self._emit(chat.CallProgress(call_id=call_id, content=storable(content)[: calls.MOST_PROGRESS]), now)
            case _:
                self._take_talk(fact, now)

    def _take_talk(self, fact: object, now: float) -> None:
        match fact:
            case acts.TurnOpened(found) if not self._talk.is_open:
                if failure := self._talk.opened(found, now) or self._took_tools():
                    self._talk.is_open = True
                    self._end("failed", failure, now)
                elif not self._talk.summarise(now):
                    self._enter(now)
            case acts.ModelAnswered(0, answer) if self._talk.summary_until is not None:
                if failure := self._talk.summarised(answer, now):
                    self._without_summary(failure, now)
            case acts.ModelFailed(0, failure) if self._talk.summary_until is not None:
                self._without_summary(failure, now)
            case acts.VersionCommitted(ok) if self._talk.summary_until is not None:
                self._enter_unless(self._talk.committed(ok=ok, now=now), now)
            case acts.TurnHeld() if not self._talk.is_open:
                self._wait_for_turn(now)
            case acts.TurnOver(status, result, failure):
                self._over = True
                self._acts.append(Finish(status, result, failure, archived=True))
            case _:
                pass

    # -- the way of a run ------------------------------------------------------------------------------------------

    def _begin(self, begin: Begin, now: float) -> None:
        resumed, self._was_reopened = self.state.started_at is not None, self.state.reopened
        self._calls.resumed = resumed
        due = self.state.retry_at if resumed else self.state.queued_at
        self._meter.begins(now, due, resumed=resumed)
        self._emit(begin.told(resumed=resumed), now)
        if self._talk.is_open:
            self._tools.settle(self._talk.tools)
            self._enter(now)
        elif self._force_at is not None:
            self._release()
        else:
            self._talk.open()

    def _without_summary(self, failure: Failure, now: float) -> None:
        self._enter_unless(self._talk.without_summary(failure, now), now)

    def _enter_unless(self, failure: Failure | None, now: float) -> None:
        if failure is None:
            self._enter(now)
        else:
            self._end("failed", failure, now)

    def _wait_for_turn(self, now: float) -> None:
        failure = self._talk.held(now)
        if self.state.cancelling is not None or self._is_late(now) or failure:
            self._talk.is_open = True
            late = DEADLINE_EXCEEDED if self._is_late(now) else failure
            self._end(*(("cancelled", None) if self.state.cancelling is not None else ("failed", late)), now)
        else:
            self._rest(now)

    def _enter(self, now: float) -> None:
        """Take up the way where the journal ends."""
        reopened = self._was_reopened
        why = "the run was retried" if reopened else "its worker was lost"
        if self.state.cancelling is not None:
            self._end("cancelled", None, now)
        elif self._is_late(now):
            self._end("failed", DEADLINE_EXCEEDED, now)
        elif self.state.asking:
            self._emit(chat.ChatReplaced(attempt=self.state.attempt, reason=why), now)
            self._take_up_calls(now)
            self._ask(now)
        else:
            if reopened:
                self._calls.try_again(now)
            self._take_up_calls(now)
            self._go_on(now)

    def _take_up_calls(self, now: float) -> None:
        self._calls.resume(now)
        if self._force_at is None:
            self._calls.take_up(now)

    def _go_on(self, now: float) -> None:
        """Take the next step from a state in which no answer is awaited."""
        state = self.state
        if not self._talk.is_open or state.asking:
            return
        is_over = not state.has_news and (state.answer is not None or state.interrupted or state.unanswered)
        if not self._request.answer:
            self._end("completed", None, now)
        elif self._calls.wanted():
            self._make_calls(now)
        elif is_over and not state.is_running:
            self._conclude(state.answer, now)
        elif (state.retry_at or 0.0) > now or (state.is_running and (is_over or self._is_last)):
            self._rest(now)
        else:
            self._ask(now)

    def _conclude(self, answer: chat.ChatMessage | None, now: float) -> None:
        """End with the answer, if there is one and it has the form that was asked for."""
        why = None if answer is None or answer.interrupted else fault_in(answer, self._form)
        if answer is None or why is None:
            self._end("completed", None, now)
        elif self._request.on_mismatch == "repair" and not self.state.repairs:
            reason = "the answer has not the form asked for"
            self._emit(chat.ChatReplaced(attempt=answer.attempt, reason=reason, mismatch=why), now)
            self._ask(now)
        else:
            self._end("failed", mismatch(answer.finish_reason, why), now)

    @property
    def _is_last(self) -> bool:
        """Whether the next answer is the last that the limits allow: it waits for every call."""
        round_ = 1 + sum(message["role"] == "assistant" for message in self.state.messages)
        return not means.leaves_tools(self._request.limits, self.state, round_)

    def _ask(self, now: float) -> None:
        self._park_at = None
        if self._force_at is not None:
            self._release()
            return
        round_ = 1 + sum(message["role"] == "assistant" for message in self.state.messages)
        asked = self._asked_model()
        if failure := means.not_countable(self._meter, self.state, asked.model, self._talk.settings):
            self._end("failed", failure, now)
            return
        if changed := self._talk.tools_changed():
            self._emit(changed, now)
        event = chat.ChatRequested(
            round=round_, attempt=self.state.attempt + 1, model=asked.model, settings_version=self._talk.version_told
        )
        self._emit(event, now)
        tools = means.leaves_tools(self._request.limits, self.state, round_)
        body = body_of(self._request, self._calls.offered(), self.state.messages, round_=round_, tools=tools)
        self._meter.body = body = self._talk.shaped(body, asked.model)
        self._acts.append(acts.AskModel(event.attempt, body, asked.credential))

    def _took_tools(self) -> Failure | None:
        if why := None if self.state.attempt else self._tools.fault_in(self._talk.given_tools):
            return bad_settings(why)
        self._tools.settle(self._talk.tools)
        return None

    def _asked_model(self) -> chat.RouteEntry:
        if not self._route:
            return chat.RouteEntry(model=self._talk.model, credential=self._request.credential)
        return self._route[min(self.state.tries.place, self._places - 1)]

    # -- the model -------------------------------------------------------------------------------------------------

    def _said(self, text: str, reasoning: str, now: float) -> None:
        if reasoning:
            self._emit(chat.ChatReasoning(attempt=self.state.attempt, text=reasoning), now)
        if text:
            self._emit(chat.ChatDelta(attempt=self.state.attempt, text=text), now)

    def _answered(self, answer: Answer, timings: Timings, now: float) -> None:
        state = self.state
        body = self._meter.body
        if body.get("tool_choice") != "none" and self._form is None and body["model"] in self._text_calls:
            answer = with_calls(answer, self._calls.offered())
        taken = {call.reserved.provider_id for call in state.calls.values()}
        taken.update(call["id"] for message in self._talk.messages for call in message.get("tool_calls") or ())
        message, _ = calls.numbered(answer, state.round, taken)
        self._emit(
            chat.ChatMessage(
                round=state.round, attempt=state.attempt, message=message, reasoning=answer.reasoning,
                finish_reason=answer.finish_reason, provider_request_id=answer.provider_request_id,
                details=dict(answer.details) or None, choices=list(answer.others) or None,
            ), now,
        )  # fmt: skip
        for cut in truncations(self._meter.body, answer, state.round, state.attempt):
            self._emit(cut, now)
        self._emit(self._meter.told(state, answer.usage, timings, answer.details.get("service_tier")), now)
        self._go_on(now)

    # -- tool calls ------------------------------------------------------------------------------------------------

    def _make_calls(self, now: float) -> None:
        if failure := means.exhausted(self._request.limits, self.state):
            self._end("failed", failure, now)
            return
        self._calls.open_batch(now)
        if self._force_at is None:
            self._calls.start(now)
        if self._calls.is_done:
            self._emit(chat.BatchJoined(round=self.state.round), now)
            self._go_on(now)
        else:
            self._rest(now)
