"""What a worker process tells of itself: which gauges it has, and what it means that it lives and is ready.

/live    the event loop answers. Nothing outside of the process counts: an outage must not have workers killed.
/ready   Redis, SQL and the broker answer, the loop is on time, the services have started and do not drain.
/metrics what `telemetry.metrics` counts, and the gauges below.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, get_args

import structlog

from api_contracts.names import Kind
from workers import telemetry
from workers.pool import PoolView
from workers.ports import Waiting
from workers.runners.reception import Reception
from workers.settings import Settings
from workers.telemetry import Metrics, Readiness, Verdict, WorstLately
from workers.transport import message_refused

_log = structlog.get_logger(__name__)

LAG_S: Final = 2.0
"""A loop that is later than this keeps leases and streams waiting."""
SILENT_S: Final = 5.0
"""Celery's hub turns every second while it consumes."""

Ask = Callable[[], Coroutine[Any, Any, str]]


class WorkerMonitor:
    """From the first moment of a start to the end of a stop. Raises `Misconfigured` when it cannot listen."""

    def __init__(self, settings: Settings, pool: PoolView, metrics: Metrics) -> None:
        self._pool = pool
        self._reception: Reception | None = None
        self._asked: Mapping[str, telemetry.Check] = {}
        self._stage = "the services have not started"
        self._draining = False
        self._gauges(metrics)
        self._counting = _count_refusals(metrics)
        checks = {name: self._check_of(name) for name in ("redis", "sql")}
        ready = Readiness(checks | {"broker": self._broker, "lag": self._lag, "draining": self._serving})
        self._server = None
        if settings.monitor_port is not None:
            live = telemetry.LoopAnswers(pool.loop)
            host, port = settings.monitor_host, settings.monitor_port
            self._server = telemetry.serve(host, port, live=live, ready=ready, registry=metrics.registry)
            _log.info("monitor.listening", host=host, port=self._server.port)

    def started(self, reception: Reception, checks: Mapping[str, Ask]) -> None:
        """Tell that the services have started; `checks` are `redis` and `sql`."""
        self._reception = reception
        self._asked = {name: telemetry.on_loop(self._pool.loop, ask) for name, ask in checks.items()}
        self._stage = ""

    def draining(self) -> None:
        """Tell that the process takes nothing new."""
        self._draining, self._stage = True, "the worker drains"

    def close(self) -> None:
        """Listen no more."""
        message_refused.disconnect(self._counting)
        if self._server is not None:
            self._server.close()

    def _check_of(self, name: str) -> telemetry.Check:
        def check() -> Verdict:
            asked = self._asked.get(name)
            return asked() if asked else Verdict(False, self._stage)

        return check

    def _broker(self) -> Verdict:
        silent = self._pool.silent_s
        if silent is None:
            return Verdict(False, "the worker has not begun to consume")
        if silent > SILENT_S:
            return Verdict(False, f"the worker has not been consuming for {silent:.1f} s: connecting, or its hub hangs")
        return Verdict(True, "consuming")

    def _lag(self) -> Verdict:
        lag = self._pool.lag_s
        return Verdict(lag <= LAG_S, f"the event loop is {lag:.3f} s late, {LAG_S:g} s are allowed")

    def _serving(self) -> Verdict:
        return Verdict(not self._stage, self._stage or "serving")

    def _gauges(self, metrics: Metrics) -> None:
        pool = self._pool
        slots = {state: _slot(pool, state) for state in ("limit", "running", "waiting")}
        active = {kind: self._active(kind) for kind in get_args(Kind)}
        metrics.gauges("fw_slots", "The pool's slots: the bound, held, and jobs that wait for one", "state", slots)
        metrics.gauges("fw_runs_active", "Runs that are driven now", "kind", active)
        metrics.gauge("fw_stt_sessions", "Speech sessions that are open now", self._active("stt"))
        metrics.gauge("fw_loop_lag_seconds", "How late the event loop is", lambda: pool.lag_s)
        metrics.gauge("fw_draining", "1 while the process hands its runs over", lambda: float(self._draining))

    def _active(self, kind: Kind) -> Callable[[], float]:
        return lambda: self._reception.active(kind) if self._reception else 0


def add_signals(metrics: Metrics, audio_lag: WorstLately, waiting: Callable[[], Mapping[str, Waiting]] | None) -> None:
    """Add the signals to scale by. `waiting` is for the processes that serve the control queue: one tells for all."""
    metrics.gauge(
        "fw_stt_audio_lag_seconds", "From the write of audio to its session, worst of the last seconds", audio_lag
    )
    if waiting is not None:
        metrics.queues(waiting)


def _count_refusals(metrics: Metrics) -> Callable[..., None]:
    """Count what is refused at the door; return what to disconnect."""

    def count(reason: str, **_: Any) -> None:
        metrics.refused(reason)

    message_refused.connect(count, weak=False)
    return count


def _slot(pool: PoolView, state: str) -> Callable[[], float]:
    return lambda: pool.slots()[state]
