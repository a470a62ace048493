"""The tool calls of an answer: reserved, begun, settled, joined. `turn` owns when, `calls` what becomes of one call."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from api_contracts import chat
from api_contracts.chat import ChatRequest
from api_contracts.runs import EventData
from workers.core.chat import acts, calls, cancelling
from workers.core.chat.arguments import Unfit, arguments_of, canonical
from workers.core.chat.cards import CATCH_ALL, ToolCard
from workers.core.chat.state import Call, ChatState, Settling
from workers.core.chat.toolset import ToolSet
from workers.core.runs.frame import Action, SignalArrived


class Dispatch:
    """The calls of one life of a run. What it decides, it emits, or adds to `out`."""

    def __init__(
        self, run_id: str, request: ChatRequest, tools: ToolSet, secret: str, state: ChatState,
        emit: Callable[[EventData, float], None], out: list[Action],
    ) -> None:  # fmt: skip
        self._run_id = run_id
        self._request = request
        self._tools = tools
        self._secret = secret
        self._state = state
        self._emit = emit
        self._out = out
        self._in_hand: set[str] = set()  # calls that this life of the run has begun, or waits for
        self._asked: set[str] = set()  # those of which a tool is asked what became
        self._sending: set[str] = set()  # those of them whose message is on its way to the broker
        self.resumed = False
        """An earlier life may have sent what the journal has as reserved."""

    # -- what there is ---------------------------------------------------------------------------------------------

    def wanted(self) -> list[calls.Wanted]:
        """Return the calls of the last answer, until they are joined."""
        messages, batch = self._state.messages, self._state.batch
        wanted = calls.wanted_in(messages[-1], self._state.round) if messages else []
        return (
            [replace(call, call_id=call_id) for call, call_id in zip(wanted, batch, strict=True)] if batch else wanted
        )

    def offered(self) -> Mapping[str, ToolCard]:
        """Return the tools that the model may call next."""
        return self._tools.offered(cancel=bool(self._cancellable()))

    def is_open(self, call_id: str) -> bool:
        """Whether the call is reserved and has no result yet."""
        call = self._state.calls.get(call_id)
        return call is not None and not call.settled

    @property
    def is_done(self) -> bool:
        """Whether every call of the batch is settled, or runs in the background."""
        waited_for = [call for call in self._state.open_calls() if not call.in_background]
        return not (waited_for or self._not_reserved())

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way in this worker."""
        here = [c for c in self._state.open_calls() if c.reserved.where == "worker" and c.state == "running"]
        return bool(self._sending or here)

    def deadlines(self) -> list[float]:
        """Return when calls are given up. A tool that is asked what became of one has its time from its worker."""
        return [call.deadline_at for call in self._timed()]

    def _timed(self) -> list[Call]:
        return [call for call in self._state.open_calls() if call.reserved.call_id not in self._asked]

    @property
    def is_for_people(self) -> bool:
        """Whether nothing is open but calls that wait for approval."""
        return bool(calls := self._state.open_calls()) and all(call.waits for call in calls)

    def answered_by(self) -> float:
        """Return when the first of the calls that wait for other services, or for people, is given up."""
        return min((call.deadline_at for call in self._state.open_calls()), default=0.0)

    def _not_reserved(self) -> list[calls.Wanted]:
        return [call for call in self.wanted() if call.call_id not in self._state.calls]

    # -- their way -------------------------------------------------------------------------------------------------

    def try_again(self, now: float) -> None:
        """Make the calls once more that the run's end interrupted, under their old keys (docs/decisions/0021)."""
        if (tries := calls.tries(self._state.batch, self._state.calls)) != self._state.batch:
            self._emit(chat.BatchStarted(round=self._state.round, calls=tries), now)

    def resume(self, now: float) -> None:
        """Say what becomes of the calls that an earlier life left open: the table of `turn`."""
        self._ask_tools()
        self._give_up([call for call in self._late(now) if not _is_elsewhere(call)], now)
        for call in self._state.open_calls():
            card = call.reserved
            if card.call_id in self._asked:
                continue
            if card.where == "nowhere":
                wanted = calls.Wanted(card.call_id, card.provider_id, card.name, card.arguments)
                self._emit(calls.refused(card.call_id, self._refusal(wanted, free=True)), now)
            elif card.where == "worker" and call.state == "running":
                if card.effect == "at_most_once":
                    self._emit(calls.unknown(card.call_id), now)
                else:
                    self._start(call, now)
            elif _is_elsewhere(call) and (
                call.state == "running" or card.effect == "at_most_once" or now >= call.deadline_at
            ):
                # It is with its service, or may be: wait. Its time may be over: a result that came while nobody had the
                # run is decided before that.
                self._in_hand.add(card.call_id)

    def _ask_tools(self) -> None:
        """Ask what became of calls that ran here and must not be repeated, where their tools can say."""
        for call in self._state.open_calls():
            card = call.reserved
            tool = self._card(card.name)
            lost = card.where == "worker" and call.state == "running" and card.effect == "at_most_once"
            if lost and tool and tool.reconciles:
                self._in_hand.add(card.call_id)
                self._asked.add(card.call_id)
                arguments, key = arguments_of(card.arguments), card.task_id or card.call_id
                self._out.append(acts.AskTool(card.call_id, card.name, arguments, key))

    def open_batch(self, now: float) -> None:
        """Announce the batch, if that is not done."""
        if not self._state.batch:
            self._emit(chat.BatchStarted(round=self._state.round, calls=[w.call_id for w in self.wanted()]), now)

    def take_up(self, now: float) -> None:
        """Begin what is reserved, as far as there is room."""
        for call in self._state.open_calls():
            if call.reserved.call_id not in self._in_hand and (call.in_background or self._has_room()):
                self._start(call, now)

    def start(self, now: float) -> None:
        """Begin as many calls as there is room for."""
        self.take_up(now)
        for wanted in self._not_reserved():
            if not self._has_room():
                return
            call = self._reserve(wanted, now)
            if not call.settled:
                self._start(call, now)

    def judge(self, letter: SignalArrived, now: float, *, draining: bool) -> bool:
        """Take an `approve` or a `reject`; return False when no such call waits for one."""
        call = self._state.calls.get(str(letter.data.get("call_id")))
        if call is None or not call.waits:
            return False
        event = calls.judged(call, letter, now, self._timeout_s(call))
        if isinstance(event, chat.CallFailed):
            self.settle(event, now)
            return True
        self._emit(event, now)
        # What another service makes is sent also by a worker that drains: reserved, it would count as sent.
        if not draining or call.reserved.where == "task":
            self._start(call, now)
        return True

    def sent(self, call_id: str, now: float) -> None:
        """Take it that the message of a call is with the broker."""
        self._sending.discard(call_id)
        if self.is_open(call_id) and self._state.calls[call_id].state == "reserved":
            self._emit(chat.CallStarted(call_id=call_id), now)

    def ended(self, fact: acts.CallSettled, now: float) -> None:
        """Take it that a call of this worker ended."""
        told = self._state.was_told(self._state.calls[fact.call_id].reserved.name, self._state.round)
        self.settle(calls.outcome(fact, told=told), now)
        if fact.follows:
            self._out.append(acts.FollowUp(fact.call_id))

    def settle(self, event: Settling, now: float) -> None:
        """Give a call its one result."""
        self._emit(event, now)
        self._in_hand.discard(event.call_id)
        self._asked.discard(event.call_id)

    def time_out(self, now: float) -> bool:
        """Settle the calls whose deadline has passed; return whether there were any."""
        late = self._late(now)
        self._give_up(late, now)
        return bool(late)

    def _late(self, now: float) -> list[Call]:
        return [call for call in self._timed() if now >= call.deadline_at]

    def _give_up(self, late: list[Call], now: float) -> None:
        for call in late:
            call_id = call.reserved.call_id
            if self._is_here(call):
                self._out.append(acts.StopTool(call_id))
            self._sending.discard(call_id)
            self.settle(calls.timed_out(call), now)

    def interrupt(self, letter: SignalArrived, now: float) -> bool:
        """Stop the calls whose tools say so, each once that is on record; return False when there are none."""
        for wanted in self._not_reserved():
            if (found := self._tools.callable(wanted.name)) and found[0].stops:
                self._reserve(wanted, now)
        open_calls = [(call, self._card(call.reserved.name)) for call in self._state.open_calls()]
        ending = [call for call, card in open_calls if card and card.stops]
        here = [call.reserved.call_id for call in ending if self._is_here(call)]
        for call in ending:
            self._sending.discard(call.reserved.call_id)
            self.settle(calls.stopped(call, begun=self._may_have_begun(call), letter=letter), now)
        self._out += [acts.StopTool(call_id) for call_id in here]  # all of them are on record
        return bool(ending)

    def _is_here(self, call: Call) -> bool:
        call_id = call.reserved.call_id
        return call_id in self._sending or (call_id in self._in_hand and call.reserved.where == "worker")

    def stop(self, now: float) -> None:
        """Settle every call of a run that ends."""
        for call in self._state.open_calls():
            self._emit(calls.stopped(call, begun=self._may_have_begun(call)), now)
        for wanted in self._not_reserved() if self._state.batch else ():
            if not (call := self._reserve(wanted, now)).settled:
                self._emit(calls.stopped(call, begun=False), now)

    # -- one call --------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether one more call may run. What runs in the background takes no place from what is waited for."""
        return sum(not self._state.calls[each].in_background for each in self._in_hand) < self._request.parallel_tools

    def _reserve(self, wanted: calls.Wanted, now: float) -> Call:
        is_again = calls.first_of(wanted.call_id) in self._state.calls
        free = is_again or calls.made(self._state.calls) < self._request.limits.calls
        refusal, found = self._refusal(wanted, free=free), self._tools.callable(wanted.name)
        card = found[0] if found else None
        for event in calls.reservation(self._run_id, wanted, card, now, refusal=refusal, secret=self._secret):
            self._emit(event, now)
        return self._state.calls[wanted.call_id]

    def _refusal(self, wanted: calls.Wanted, *, free: bool) -> calls.Refusal | None:
        card, schema = self._tools.callable(wanted.name) or (None, None)
        told = self._state.was_told(wanted.name, self._state.round)
        refusal = calls.refusal_of(wanted, card, schema, free=free, told=told)
        most = self._request.limits.repeats
        if refusal or card is cancelling.CARD:  # without an id it says the same of other calls
            return refusal
        return calls.repeated(most) if self._times_made(wanted) >= most else None

    def _times_made(self, wanted: calls.Wanted) -> int:
        """Return how many other calls of the run are the same, each with all its tries."""
        same, first = canonical(wanted.arguments), calls.first_of(wanted.call_id)
        made = [call.reserved for call in self._state.calls.values() if call.reserved.where != "nowhere"]
        others = {calls.first_of(card.call_id) for card in made
                  if card.name == wanted.name and canonical(card.arguments) == same}  # fmt: skip
        return len(others - {first})

    def _timeout_s(self, call: Call) -> float:
        card = self._card(call.reserved.name)
        return card.timeout_s if card else 0.0

    def _card(self, name: str) -> ToolCard | None:
        return self._tools.card(name)

    def _start(self, call: Call, now: float) -> None:
        card = call.reserved
        if call.waits:
            self._in_hand.add(card.call_id)  # it keeps its place, and so has one when it is approved
            return
        try:
            arguments = arguments_of(card.arguments)
        except Unfit as exc:  # an earlier release let them pass
            self._emit(calls.refused(card.call_id, calls.unfit(str(exc), told=False)), now)
            return
        if (tool := self._card(card.name)) is None:  # it is registered in other workers only
            gone = calls.not_available(card.name)
            self._emit(calls.refused(card.call_id, gone), now)
            return
        self._in_hand.add(card.call_id)
        if card.where == "worker":
            if call.state == "reserved":
                self._emit(chat.CallStarted(call_id=card.call_id), now)
            if self._tools.own(card.name) is cancelling.CARD:
                self._cancel(card.call_id, arguments, now)
                return
            key = card.task_id or card.call_id
            name = card.name
            if self._tools.own(name) is None:
                name, arguments = CATCH_ALL, {"name": name, "arguments": arguments}
            self._out.append(acts.RunTool(card.call_id, name, arguments, key, card.effect))
            return
        self._sending.add(card.call_id)
        self._out.append(
            acts.SendCall(
                self._run_id, card.call_id, card.task_id or "", card.token or "", tool.task or "", tool.queue or "",
                arguments, card.effect,
            )
        )  # fmt: skip

    def _cancel(self, by: str, arguments: Mapping[str, Any], now: float) -> None:
        """Make the model's call to cancel another: all of it is on record before the tool is told."""
        call = cancelling.chosen(arguments, self._cancellable())
        if isinstance(call, str):
            self.settle(chat.CallFailed(call_id=by, content=call, detail="nothing was cancelled"), now)
            return
        call_id, is_here = call.reserved.call_id, self._is_here(call)
        self._sending.discard(call_id)
        self.settle(calls.stopped(call, begun=self._may_have_begun(call), by=f"call {by}"), now)
        self.settle(chat.CallResult(call_id=by, content=cancelling.told(call)), now)
        if is_here:
            self._out.append(acts.StopTool(call_id))

    def _cancellable(self) -> list[Call]:
        """Return the calls that the model may cancel: it was told that they run, and knows of no end."""
        running = (self._state.calls[call_id] for call_id in self._state.background)
        cards = ((call, self._card(call.reserved.name)) for call in running if not call.settled)
        return [call for call, card in cards if card and card.cancellable]

    def _may_have_begun(self, call: Call) -> bool:
        if call.waits:
            return False
        sent_before = self.resumed and call.reserved.where == "task"
        return call.state == "running" or sent_before or call.reserved.call_id in self._in_hand


def _is_elsewhere(call: Call) -> bool:
    """Whether another service makes it, or would as soon as it is told."""
    return call.reserved.where == "task" and not call.waits
