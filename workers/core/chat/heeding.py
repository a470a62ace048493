"""What a chat heeds beside its model: letters, time, and its end. `turn` owns the way of the run. Pure."""

from abc import abstractmethod
from typing import Any

from api_contracts import chat, conversations
from api_contracts.failure import Failure
from api_contracts.runs import Status
from workers.core.chat import acts, calls
from workers.core.chat.account import Meter
from workers.core.chat.asking import Asking
from workers.core.chat.assembler import estimated
from workers.core.chat.body import chars_of
from workers.core.chat.dispatch import Dispatch
from workers.core.chat.result import result_of
from workers.core.chat.state import ChatState
from workers.core.chat.talk import LATE_SUMMARY, MOVED, Talk
from workers.core.chat.toolset import ToolSet
from workers.core.runs import signals
from workers.core.runs.frame import HOLD_S, Finish, Park, SignalArrived


class Heeding(Asking):
    """Base of the machine of a chat, which makes these parts."""

    state: ChatState
    _run_id: str
    _calls: Dispatch
    _talk: Talk
    _tools: ToolSet
    _meter: Meter
    _park_at: float | None

    @abstractmethod
    def _go_on(self, now: float) -> None:
        """Take the next step from a state in which no answer is awaited; else do nothing."""

    @abstractmethod
    def _ask(self, now: float) -> None:
        """Ask the model."""

    @abstractmethod
    def _without_summary(self, failure: Failure, now: float) -> None:
        """Go on without the summary that was to be made."""

    # -- letters ---------------------------------------------------------------------------------------------------

    def _delivered(self, letter: SignalArrived, now: float) -> None:
        call = self.state.calls.get(str(letter.data.get("call_id")))
        if call is None or call.reserved.token is None or call.reserved.token != letter.data.get("token"):
            self._emit(signals.ignored(letter, "no call of this run has this id and token"), now)
        elif letter.data.get("final") is False and call.settled:
            self._emit(signals.ignored(letter, "the call is over"), now)
        elif letter.data.get("final") is False:
            self._emit(calls.progress(call.reserved, letter), now)
        elif call.settled:
            self._emit(calls.late(call.reserved, letter), now)
        else:
            self._calls.settle(calls.delivery(call.reserved, letter), now)
            self._go_on(now)

    def _signal(self, letter: SignalArrived, now: float) -> None:
        self._meter.heard(letter)
        match letter.type:
            case "cancel":
                self._emit(signals.cancelling(letter), now)
                self._end("cancelled", None, now)
            case "tool_result":
                self._delivered(letter, now)
            case "approve" | "reject":
                self._judged(letter, now)
            case "update_settings":
                self._change(letter, now)
            case "interrupt":
                self._interrupted(letter, now)
            case _:
                self._emit(signals.passed_over(letter, "chat"), now)

    def _interrupted(self, letter: SignalArrived, now: float) -> None:
        if not (self._talk.is_open or self.state.asking or self.state.batch):
            self._emit(signals.ignored(letter, "nothing is being said yet"), now)
        elif self.state.asking or not (self.state.batch or self._waits_for_calls):
            self._fall_silent(letter, now)
        elif self._calls.interrupt(letter, now):
            self._go_on(now)
        else:
            self._emit(signals.ignored(letter, "every call that is under way is to finish"), now)

    def _fall_silent(self, letter: SignalArrived, now: float) -> None:
        """Let what was said so far be all. It is on record before the model is stopped."""
        state, said = self.state, "".join(self.state.said)
        asked = state.asking
        message = {"role": "assistant", "content": said}
        self._emit(
            chat.ChatMessage(
                round=state.round, attempt=state.attempt, message=message, finish_reason="stop", interrupted=True,
                inbox=letter.id, by=signals.sender(letter),
            ), now,
        )  # fmt: skip
        if asked:
            self._emit(self._meter.told(state, estimated(chars_of(self._meter.body["messages"]), len(said))), now)
        self._calls.interrupt(letter, now)
        if asked:
            self._acts.append(acts.StopModel())
        self._go_on(now)

    @property
    def _waits_for_calls(self) -> bool:
        """Whether nothing is to be said but for what comes of calls in the background."""
        return self.state.answer is not None or (self.state.is_running and self.state.retry_at is None)

    def _judged(self, letter: SignalArrived, now: float) -> None:
        if self._calls.judge(letter, now, draining=self._force_at is not None):
            self._go_on(now)
        else:
            self._emit(signals.ignored(letter, "no call of this id waits for approval"), now)

    def _change(self, letter: SignalArrived, now: float) -> None:
        changed = letter.data.get("settings")
        why = self._fault_in(changed) if isinstance(changed, dict) else "settings is no JSON object"
        if why is not None:
            self._emit(signals.ignored(letter, f"the settings stay as they are: {why}"), now)
        else:
            by = signals.sender(letter)
            self._emit(conversations.ChatSettingsChanged(changed=changed, inbox=letter.id, by=by), now)
            self._tools.settle(self._talk.tools)

    def _fault_in(self, changed: dict[str, Any]) -> str | None:
        several = "tools" in changed and (self._talk.asks_for_several and "tools go without 'n' above 1")
        return several or self._talk.change(changed) or self._tools.fault_in(changed.get("tools"))

    # -- time ------------------------------------------------------------------------------------------------------

    def _woke(self, now: float) -> None:
        if not self._talk.is_open:
            look_at, summary_until = self._talk.alarms
            if look_at is not None and now >= look_at:
                self._talk.open()
            elif summary_until is not None and now >= summary_until:
                self._acts.append(acts.StopAll())
                self._without_summary(LATE_SUMMARY, now)
        elif self._calls.time_out(now):
            self._go_on(now)
        elif self.state.retry_at is not None and now >= self.state.retry_at:
            self._ask(now)
        elif self._park_at is not None and now >= self._park_at:
            self._park(self._calls.answered_by(), "waits for other services")

    def _end(self, status: Status, failure: Failure | None, now: float) -> None:
        if self._talk.is_opening:
            return  # SQL may know of an end: `_enter` decides again
        self._talk.is_open = True
        if self.state.asking or self.state.open_calls() or self._talk.summary_until is not None:
            self._acts.append(acts.StopAll())
        self._calls.stop(now)
        self._over = True
        self._acts.append(self._finish(status, failure, now))

    def _finish(self, status: Status, failure: Failure | None, now: float) -> Finish:
        turn = self._talk.commit() if status == "completed" else None
        result = result_of(self._run_id, self.state, status, failure, now) | self._talk.told(left=turn is not None)
        moved = self._finish("failed", MOVED, now) if turn else None
        return Finish(status, result, failure, self.state.cancelling or "", turn=turn, moved=moved)

    def _rest(self, now: float) -> None:
        """Once nothing is under way here: keep the worker for a moment, or park; when draining, leave it at once."""
        if not self._talk.is_open:
            if self._force_at is not None:
                self._release()
            else:
                self._talk.rest(now, self._run_deadline())
            return
        if self.state.asking or self._calls.is_busy:
            self._park_at = None
            return
        retry_at = self.state.retry_at
        if retry_at is not None and retry_at - now > HOLD_S:
            self._park(min([retry_at, *self._calls.deadlines()]), "waits to ask the provider again")
        elif self._force_at is not None:
            self._release()
        elif retry_at is None and self._calls.is_for_people:
            self._park(self._calls.answered_by(), "waits for approval")
        elif retry_at is None:
            hold_until = now + HOLD_S  # the result of a quick service meets this life
            self._park_at = hold_until if self._calls.answered_by() - hold_until > HOLD_S else None

    def _park(self, until: float, why: str) -> None:
        """Let go, unless something follows from the facts that came together with this one."""
        self._park_at = None
        self._acts.append(Park(min(until, self._run_deadline() or until), why))
