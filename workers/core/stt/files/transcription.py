"""A file's transcription as a machine: ask, wait, ask again where that may help, finish.

asked, no answer    the answer is lost: `stt.replaced`, ask again; it costs again, and nothing can be doubled
failed, may recover wait here or parked, then ask again
answered            `stt.transcribed`, finish
"""

from api_contracts.failure import Failure
from api_contracts.runs import EventData, Status
from api_contracts.stt_files import SttFileRequest, SttReplaced, SttRequested, SttTranscribed
from workers.core.retry import pause_s
from workers.core.runs import signals
from workers.core.runs.deadline import DEADLINE_EXCEEDED, deadline_of, soonest
from workers.core.runs.frame import HOLD_S, Action, Begin, Draining, Emit, Finish, Park, Release, SignalArrived, Woke
from workers.core.stt.files.acts import AskTranscript, StopAsking, TranscriptCame, TranscriptFailed
from workers.core.stt.files.answer import Transcript
from workers.core.stt.files.result import result_of
from workers.core.stt.files.state import FileState


class FileTranscription:
    """`Machine` of a transcription."""

    def __init__(self, run_id: str, request: SttFileRequest, queued_at: float) -> None:
        self.state = FileState(queued_at)
        self._run_id = run_id
        self._request = request
        self._acts: list[Action] = []
        self._force_at: float | None = None
        self._over = False

    @property
    def cursor(self) -> str:
        """See `Machine`."""
        return self.state.cursor

    @property
    def deadline(self) -> float | None:
        """See `Machine`."""
        return soonest(self.state.retry_at, self._force_at, self._run_deadline())

    def fold(self, event: EventData, at: float) -> None:
        """See `Machine`."""
        self.state.fold(event, at)

    def receive(self, fact: object, now: float) -> list[Action]:
        """See `Machine`. Facts of an attempt that is over change nothing."""
        self._acts = []
        if not self._over:
            self._take(fact, now)
        return self._acts

    def _take(self, fact: object, now: float) -> None:
        match fact:
            case Begin():
                self._begin(fact, now)
            case TranscriptCame(attempt, transcript) if self._is_present(attempt):
                self._complete(transcript, now)
            case TranscriptFailed(attempt, failure, jitter) if self._is_present(attempt):
                self._failed(failure, jitter, now)
            case SignalArrived(type="cancel"):
                self._emit(signals.cancelling(fact), now)
                self._end("cancelled", None, now)
            case SignalArrived():
                self._emit(signals.passed_over(fact, "stt_file"), now)
            case Draining(force_at):
                self._force_at = force_at
                self._rest(now)
            case Woke():
                self._woke(now)

    def _begin(self, begin: Begin, now: float) -> None:
        state = self.state
        why = "the run was retried" if state.reopened else "its worker was lost"
        self._emit(begin.told(resumed=state.started_at is not None), now)
        if state.cancelling is not None:
            self._end("cancelled", None, now)
        elif self._is_late(now):
            self._end("failed", DEADLINE_EXCEEDED, now)
        else:
            if state.asking:
                self._emit(SttReplaced(attempt=state.attempt, reason=why), now)
            if (state.retry_at or 0.0) > now:
                self._rest(now)
            else:
                self._ask(now)

    def _ask(self, now: float) -> None:
        if self._force_at is not None:
            self._release()
            return
        attempt = self.state.attempt + 1
        task = "translate" if self._request.translate else "transcribe"
        self._emit(SttRequested(attempt=attempt, model=self._request.model, task=task), now)
        self._acts.append(AskTranscript(attempt))

    def _complete(self, transcript: Transcript, now: float) -> None:
        event = SttTranscribed(
            attempt=self.state.attempt, model=self._request.model, duration_s=transcript.duration_s,
            **self._request.account(),
        )  # fmt: skip
        self._emit(event, now)
        self._finish(Finish("completed", result_of(self._run_id, self.state, "completed", now, transcript)))

    def _failed(self, failure: Failure, jitter: float, now: float) -> None:
        pause = pause_s(failure, self.state.failures + 1, jitter)
        event = SttReplaced(
            attempt=self.state.attempt, reason="the attempt failed", failure=failure,
            retry_at=None if pause is None else now + pause,
        )  # fmt: skip
        self._emit(event, now)
        if pause is None:
            self._end("failed", failure, now)
        else:
            self._rest(now)

    def _woke(self, now: float) -> None:
        if self._is_late(now):
            self._end("failed", DEADLINE_EXCEEDED, now)
        elif self._force_at is not None and now >= self._force_at:
            self._release()
        elif self.state.retry_at is not None and now >= self.state.retry_at:
            self._ask(now)

    def _rest(self, now: float) -> None:
        """Unless an answer is on its way: keep the worker for a moment, or park; when draining, leave it at once."""
        retry_at = self.state.retry_at
        if self.state.asking:
            return
        if retry_at is not None and retry_at - now > HOLD_S:
            # Facts that came together with this one may follow, and make it void.
            self._acts.append(Park(min(retry_at, self._run_deadline() or retry_at), "waits to ask the provider again"))
        elif self._force_at is not None:
            self._release()

    def _end(self, status: Status, failure: Failure | None, now: float) -> None:
        """Finish without a transcript."""
        if self.state.asking:
            self._acts.append(StopAsking())
        result = result_of(self._run_id, self.state, status, now, failure=failure)
        self._finish(Finish(status, result, failure, self.state.cancelling or ""))

    def _finish(self, finish: Finish) -> None:
        self._over = True
        self._acts.append(finish)

    def _release(self) -> None:
        self._over = True
        self._acts += [StopAsking(), Release()]

    def _is_late(self, now: float) -> bool:
        return (end := self._run_deadline()) is not None and now >= end

    def _run_deadline(self) -> float | None:
        return deadline_of(self.state.counts_from, self._request.deadline_s)

    def _is_present(self, attempt: int) -> bool:
        return self.state.asking and attempt == self.state.attempt

    def _emit(self, event: EventData, now: float) -> None:
        self.state.fold(event, now)
        self._acts.append(Emit(event))
