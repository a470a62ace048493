"""What the events of one life of a run add to the counters. A delta costs one look into a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from api_contracts import batch, chat, runs, stt, stt_files
from api_contracts.runs import TERMINAL, Event, EventData, RunQueued, Status
from workers.telemetry.accounts import Accounts
from workers.telemetry.capped import OTHER, Capped

_MOST_MODELS, _MOST_CODES = 50, 100
_RUN_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600)
_WAIT_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_TURN_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_FINAL_S: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
_TURN: Final[dict[str, tuple[str, str]]] = {
    "queued_s": ("fw_chat_queued_seconds", "How long an answer waited for a worker before it was asked for"),
    "connect_s": ("fw_chat_connect_seconds", "From asking the provider to a connection"),
    "first_byte_s": ("fw_chat_first_byte_seconds", "From asking the provider to its first byte"),
    "first_token_s": ("fw_chat_first_token_seconds", "From asking the provider to the first text, thought or call"),
    "processing_s": ("fw_chat_processing_seconds", "From asking the provider to the end of the answer"),
}
_JOB_ENDS: Final = ("usable", "void")
_OUTCOMES: Final[dict[type[EventData], str]] = {
    chat.CallResult: "result",
    chat.CallFailed: "failed",
    chat.CallCancelled: "cancelled",
    chat.CallTimedOut: "timed_out",
    chat.CallOutcomeUnknown: "outcome_unknown",
}


_PASSED_OVER: Final = frozenset((chat.ChatDelta, chat.ChatReasoning, stt.SttInterim))
"""Most of all events, and nothing is counted of them."""
_FIRST_CLOSE_CODE: Final = 1000


class Counters:
    """Everything that is counted, in one registry."""

    def __init__(self, registry: CollectorRegistry, told_apart: Sequence[str]) -> None:
        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(name, says, labels, registry=registry)

        self.started = counter("fw_runs_started", "Runs that got their first lease here", "kind")
        self.ended = counter("fw_runs", "Runs that ended here", "kind", "status")
        self.tokens = counter("fw_tokens", "Tokens that the provider counted", "model", "kind")
        self.calls = counter("fw_tool_calls", "Tool calls that were settled", "outcome")
        self.refusals = counter("fw_tool_refusals", "Tool calls that were not made, by reason", "code")
        self.retries = counter("fw_provider_retries", "Calls of the provider that were made again", "code")
        self.audio = counter("fw_stt_audio_seconds", "Seconds of audio, by meter", "meter")
        self.finals = Histogram(
            "fw_stt_final_seconds", "From the write of a final's last sound to the final", buckets=_FINAL_S,
            registry=registry,
        )  # fmt: skip
        self.traces = Histogram(
            "fw_stt_trace_seconds", "From a probe to the provider's echo, worst of each 10 s of a session",
            buckets=_FINAL_S, registry=registry,
        )  # fmt: skip
        self.rows = counter("fw_batch_rows", "Rows of batches that were settled", "state")
        self.jobs = counter("fw_batch_jobs", "Jobs of the provider, submitted and ended", "state")
        self.seconds = Histogram(
            "fw_run_seconds", "From queued to the end", ["kind"], buckets=_RUN_S, registry=registry
        )
        self.wait = Histogram(
            "fw_queue_wait_seconds", "From queued to the first lease", ["kind", "lane"], buckets=_WAIT_S,
            registry=registry,
        )  # fmt: skip
        self.spend = counter("fw_chat_cost", "What answers cost, in the currency of the price table", "model")
        self.turns = {
            name: Histogram(metric, says, ["model"], buckets=_TURN_S, registry=registry)
            for name, (metric, says) in _TURN.items()
        }
        self.accounts = Accounts(registry, told_apart)
        self.model, self.code = Capped(_MOST_MODELS), Capped(_MOST_CODES)


class Life:
    """`RunWatch`: folds what the journal said before, and counts what this life adds."""

    __slots__ = ("_account", "_counters", "_failed", "_job_ends", "_meters", "_model", "_queued", "_queued_at")

    def __init__(
        self, counters: Counters, queued: RunQueued, queued_at: float, model: str, journal: Sequence[Event]
    ) -> None:
        self._counters = counters
        self._account = counters.accounts.of(queued)
        self._queued = queued
        self._queued_at = queued_at
        self._model = model
        self._failed: str | None = None
        self._meters: Mapping[str, float] = {}
        self._job_ends: set[int] = set()
        for event in journal:
            self._know(event.type, event.data)

    def saw(self, events: Sequence[EventData], now: float) -> None:
        """See the port."""
        for event in events:
            if type(event) not in _PASSED_OVER:
                self._count(event, now)

    def _know(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take an event of an earlier life: it was counted then, but totals go on from it."""
        match kind:
            case stt.SttUsage.TYPE:
                self._meters = data.get("audio") or {}
            case chat.ChatReplaced.TYPE:
                self._failed = (data.get("failure") or {}).get("code")
            case chat.ChatRequested.TYPE:
                self._failed = None
            case batch.BatchState.TYPE if data.get("group") in _JOB_ENDS:
                self._job_ends.add(data.get("shard", 0))

    def _count(self, event: EventData, now: float) -> None:
        match event:
            case runs.RunStarted() | runs.RunCompleted() | runs.RunFailedEvent() | runs.RunCancelled():
                self._count_of_frame(event.TYPE, now)
            case chat.ChatRequested():
                self._requested(event)
            case chat.ChatReplaced(failure=failure):
                self._failed = failure.code if failure else None
            case chat.ChatUsage() | batch.BatchCost():
                self._used(event)
            case stt.SttFinal() | stt.SttUsage() | stt.SttClosed() | stt.SttReconnecting():
                self._count_of_speech(event)
            case _ if type(event) in _OUTCOMES:
                self._counters.calls.labels(_OUTCOMES[type(event)]).inc()
                if isinstance(event, chat.CallFailed) and event.code:
                    self._counters.refusals.labels(self._counters.code(event.code)).inc()
            case stt_files.SttTranscribed() | stt_files.SttReplaced():
                self._file(event)
            case _:
                self._count_of_batch(event)

    def _count_of_speech(self, event: EventData) -> None:
        match event:
            case stt.SttFinal(after_s=float(after_s)):
                self._counters.finals.observe(after_s)
            case stt.SttUsage(audio=audio, latency=latency):
                self._metered(audio)
                if latency is not None and latency.trace_s is not None:
                    self._counters.traces.observe(latency.trace_s)
            case stt.SttClosed():
                self._metered(event.audio)
            case stt.SttReconnecting():
                self._reconnecting(event)
            case _:
                pass

    def _count_of_frame(self, kind: str, now: float) -> None:
        if kind == runs.RunStarted.TYPE:
            self._started(now)
        else:
            self._ended(TERMINAL[kind], now)

    def _count_of_batch(self, event: EventData) -> None:
        match event:
            case batch.BatchTrouble(kind="step"):
                self._retried(event.failure.code if event.failure else "unknown")
            case batch.BatchSubmitted():
                self._counters.jobs.labels("submitted").inc()
            case batch.BatchState() if event.group in _JOB_ENDS and event.shard not in self._job_ends:
                self._job_ends.add(event.shard)
                self._counters.jobs.labels(event.group).inc()
            case batch.BatchQuarantined():
                self._counters.rows.labels("quarantined").inc(event.rows)
            case batch.BatchHarvested():
                self._counters.rows.labels("succeeded").inc(event.succeeded)
                self._counters.rows.labels("failed").inc(event.failed)
            case _:
                pass

    def _started(self, now: float) -> None:
        kind = self._queued.kind
        self._counters.started.labels(kind).inc()
        self._counters.wait.labels(kind, self._queued.lane).observe(max(0.0, now - self._queued_at))

    def _ended(self, status: Status, now: float) -> None:
        kind = self._queued.kind
        self._counters.ended.labels(kind, status).inc()
        self._counters.accounts.ended(self._account, kind, status)
        self._counters.seconds.labels(kind).observe(max(0.0, now - self._queued_at))

    def _requested(self, event: chat.ChatRequested) -> None:
        self._model = event.model
        if self._failed is not None:
            self._retried(self._failed)
            self._failed = None

    def _used(self, event: chat.ChatUsage | batch.BatchCost) -> None:
        usage = event.usage
        tokens, model = self._counters.tokens, self._counters.model(self._model or OTHER)
        for kind, number in (
            ("prompt", usage.prompt_tokens), ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens), ("reasoning", usage.reasoning_tokens),
        ):  # fmt: skip
            counted = max(0, number)  # a stranger's number; a counter refuses to fall
            tokens.labels(model, kind).inc(counted)
            self._counters.accounts.tokens(self._account, kind, counted)

        if isinstance(event, chat.ChatUsage):
            self._took(event)

    def _took(self, event: chat.ChatUsage) -> None:
        model = self._counters.model(event.model or self._model or OTHER)
        if event.cost is not None:
            self._counters.spend.labels(model).inc(float(event.cost))
            self._counters.accounts.spend(self._account, float(event.cost))
        for name, histogram in self._counters.turns.items():
            if event.timings and (seconds := getattr(event.timings, name)) is not None:
                histogram.labels(model).observe(max(0.0, seconds))

    def _metered(self, audio: stt.AudioMeters) -> None:
        """The meters are totals of the session: what they grew by since they were told last is new."""
        now = audio.model_dump()
        for meter, total in now.items():
            name = meter.removesuffix("_s")
            grown = max(0.0, total - self._meters.get(meter, 0.0))
            self._counters.audio.labels(name).inc(grown)
            self._counters.accounts.audio(self._account, name, grown)
        self._meters = now

    def _file(self, event: stt_files.SttTranscribed | stt_files.SttReplaced) -> None:
        if isinstance(event, stt_files.SttReplaced):
            if event.retry_at is not None and event.failure:
                self._retried(event.failure.code)
        elif event.duration_s is not None:
            self._counters.audio.labels("billable").inc(event.duration_s)
            self._counters.accounts.audio(self._account, "billable", event.duration_s)

    def _reconnecting(self, event: stt.SttReconnecting) -> None:
        if event.failures:  # none: the options were changed
            where = "http" if event.code and event.code < _FIRST_CLOSE_CODE else "ws"
            self._retried(f"{where}_{event.code}" if event.code else "lost")

    def _retried(self, code: str) -> None:
        self._counters.retries.labels(self._counters.code(code)).inc()
