"""A cited answer as a machine: cut the sources, ask under a grammar, match what came, check it, finish.

    asked, no answer        the answer is lost: `chat.replaced`, ask again
    stalled half-way        first form: ask once more under the tighter grammar; else like any failed attempt
    answered, it holds      check it, finish
    answered, it does not   first form: `cite.repaired`, ask once more under the tighter grammar; tighter form: fail

The model is the chat's: the same effect asks it and the same facts answer, so the chat's performer drives this too.
Passages and grammars follow from the request, so a successor has the same; if a newer one cuts anew, it says so first.
"""

from api_contracts import chat, citations
from api_contracts.citations import CiteRequest
from api_contracts.failure import Failure
from api_contracts.metering import Timings
from api_contracts.runs import Status
from workers.core.chat import acts
from workers.core.chat.asking import Asking
from workers.core.chat.assembler import Answer
from workers.core.chat.context import cache_wall
from workers.core.citations.check import Fault, checked, failure_of, fault_of
from workers.core.citations.plan import Plan
from workers.core.citations.references import ReferenceStyles, references_of
from workers.core.citations.result import answered, unanswered
from workers.core.citations.speech import Speech, heard
from workers.core.citations.state import CiteState
from workers.core.grammar import compiled
from workers.core.runs import signals
from workers.core.runs.deadline import DEADLINE_EXCEEDED
from workers.core.runs.frame import HOLD_S, Begin, Finish, Park, SignalArrived
from workers.core.text import storable


class CiteAnswer(Asking):
    """`Machine` of a cited answer. `styles` formats the references."""

    def __init__(self, run_id: str, request: CiteRequest, queued_at: float, styles: ReferenceStyles) -> None:
        self.state = CiteState(queued_at)
        super().__init__(self.state, request.deadline_s)
        self._run_id = run_id
        self._request = request
        self._styles = styles
        self._plan = Plan(request)
        self._speech = Speech()

    # -- the way of a run ------------------------------------------------------------------------------------------

    def _begin(self, begin: Begin, now: float) -> None:
        state = self.state
        why = "the run was retried" if state.reopened else "its worker was lost"
        self._emit(begin.told(resumed=state.started_at is not None), now)
        if state.cancelling is not None:
            self._end("cancelled", None, now)
        elif self._is_late(now):
            self._end("failed", DEADLINE_EXCEEDED, now)
        elif state.generated is not None:
            self._judge(now)
        else:
            if state.asking:
                self._emit(chat.ChatReplaced(attempt=state.attempt, reason=why), now)
            if (state.retry_at or 0.0) > now:
                self._rest(now)
            else:
                self._ask(now)

    def _ask(self, now: float) -> None:
        if self._force_at is not None:
            self._release()
            return
        if self.state.resolved != self._plan.first.digest:
            self._emit(self._plan.resolved(), now)
        self._speech = Speech()
        attempt = self.state.attempt + 1
        self._emit(chat.ChatRequested(round=self.state.round, attempt=attempt, model=self._request.model), now)
        body = self._plan.body(self._plan.form(tight=self.state.tight)) | cache_wall(self._request.tenant)
        self._acts.append(acts.AskModel(attempt, body, self._request.credential))

    # -- the model -------------------------------------------------------------------------------------------------

    def _said(self, text: str, reasoning: str, now: float) -> None:
        said, thought = self._speech.hear(text)
        self._tell(said, reasoning + thought, now)

    def _tell(self, said: str, thought: str, now: float) -> None:
        if thought:
            self._emit(chat.ChatReasoning(attempt=self.state.attempt, text=storable(thought)), now)
        if said:
            self._emit(chat.ChatDelta(attempt=self.state.attempt, text=storable(said)), now)

    def _answered(self, answer: Answer, timings: Timings, now: float) -> None:
        self._tell(self._speech.end(), "", now)
        text, thought = heard(storable(str(answer.message.get("content") or "")))
        self._emit(
            citations.CiteGenerated(
                attempt=self.state.attempt, text=text, reasoning=storable((answer.reasoning or "") + thought) or None,
                finish_reason=answer.finish_reason, provider_request_id=answer.provider_request_id,
            ), now,
        )  # fmt: skip
        self._emit(
            chat.ChatUsage(
                round=self.state.round, attempt=self.state.attempt, model=self._request.model, usage=answer.usage,
                timings=timings, **self._request.account(),
            ), now,
        )  # fmt: skip
        self._judge(now)

    def _attempt_failed(self, failure: Failure, jitter: float, now: float) -> None:
        stalled = failure.category == "timeout" and bool(self.state.said)
        if stalled and failure.retryable and not self.state.tight:
            self._repair(Fault("stalled", failure.code), now)
        super()._attempt_failed(failure, jitter, now)

    # -- the answer ------------------------------------------------------------------------------------------------

    def _judge(self, now: float) -> None:
        """Match the answer here, whatever the provider promised; then finish, ask once more, or fail."""
        generated = self.state.generated
        assert generated is not None, "an answer is judged when there is one"  # noqa: S101 - a defect of ours
        form = self._plan.form(tight=self.state.tight)
        fault = fault_of(generated.text, generated.finish_reason, compiled(form.grammar))
        if fault is None:
            self._complete(generated, now)
        elif self.state.tight or fault.reason == "filtered":
            failure = failure_of(fault, generated.provider_request_id)
            result = unanswered(self._run_id, self.state, "failed", failure, fault, now)
            self._finish(Finish("failed", result, failure))
        else:
            self._repair(fault, now)
            self._emit(chat.ChatReplaced(attempt=self.state.attempt, reason="the answer does not hold"), now)
            self._ask(now)

    def _repair(self, fault: Fault, now: float) -> None:
        digest = self._plan.form(tight=True).digest
        event = citations.CiteRepaired(
            attempt=self.state.attempt, reason=fault.reason, detail=fault.detail, grammar=digest
        )
        self._emit(event, now)

    def _complete(self, generated: citations.CiteGenerated, now: float) -> None:
        pieces = self._plan.shown.pieces
        found = checked(generated.text, pieces, self._request.verify)
        if not self.state.checked:
            verdicts = [v for c in found.citations for v in c.verdicts if v.tier == "verbatim"]
            self._emit(
                citations.CiteChecked(
                    attempt=generated.attempt, tiers=self._request.verify, sentences=found.coverage.sentences,
                    cited=found.coverage.cited, citations=len(found.citations), quotes=len(verdicts),
                    verbatim=sum(v.verdict == "verbatim" for v in verdicts),
                ), now,
            )  # fmt: skip
        references = references_of(found.citations, pieces, self._request.style, self._styles)
        result = answered(self._run_id, self.state, self._plan.shown, found, references, now)
        self._finish(Finish("completed", result))

    # -- signals, time, endings ------------------------------------------------------------------------------------

    def _signal(self, letter: SignalArrived, now: float) -> None:
        match letter.type:
            case "cancel":
                self._emit(signals.cancelling(letter), now)
                self._end("cancelled", None, now)
            case _:
                self._emit(signals.passed_over(letter, "cite"), now)

    def _woke(self, now: float) -> None:
        if self.state.retry_at is not None and now >= self.state.retry_at:
            self._ask(now)

    def _end(self, status: Status, failure: Failure | None, now: float) -> None:
        """Finish without an answer."""
        if self.state.asking:
            self._acts.append(acts.StopAll())
        result = unanswered(self._run_id, self.state, status, failure, None, now)
        self._finish(Finish(status, result, failure, self.state.cancelling or ""))

    def _finish(self, finish: Finish) -> None:
        self._over = True
        self._acts.append(finish)

    def _rest(self, now: float) -> None:
        """Unless an answer is on its way: keep the worker for a moment, or park; when draining, leave it at once."""
        if self.state.asking:
            return
        retry_at = self.state.retry_at
        if retry_at is not None and retry_at - now > HOLD_S:
            # Facts that came together with this one may follow, and make it void.
            self._acts.append(Park(min(retry_at, self._run_deadline() or retry_at), "waits to ask the provider again"))
        elif self._force_at is not None:
            self._release()
