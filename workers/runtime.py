"""The process's one set of services, on the pool's one loop; and the translation of outcomes into Celery's words.

`held` is the one sanctioned holder of process state: Celery gives a task no other way to reach its process.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final, assert_never

import structlog
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.time import maybe_iso8601

from api_contracts.failure import RunFailed, RunIsParked
from api_contracts.keys import RUN_ID, BadRunId, check_run_id
from api_contracts.names import CONTROL_QUEUE, HIDDEN, Kind
from api_contracts.runs import EventData, RunCancelled, RunCompleted, RunFailedEvent, RunParked
from workers import control
from workers.adapters.sql.migrate import migrate
from workers.app import app
from workers.bootstrap import Services, worker
from workers.guarded import GuardedTask
from workers.monitor import WorkerMonitor, add_signals
from workers.pool import Job, OutcomeKind, StopReason, current_job, hooks_of, send_event_of
from workers.pool import Outcome as PoolOutcome
from workers.ports import Clock, KeysDamaged, StoreUnavailable
from workers.runners.outcome import Dropped, Ended, Outcome, Parked, Unreachable
from workers.runners.reception import Message
from workers.settings import Settings, read_settings
from workers.telemetry import Metrics, trace_id_of
from workers.transport.letters import Refused

_log = structlog.get_logger(__name__)

_UNREACHABLE_PAUSE_S: Final = 1.0
"""Before a message goes back to a broker that lives while the store does not: no spinning."""

_CANCEL_AGAIN_S: Final = 1.0

_HAND_OVER_SHARE: Final = 0.6
"""Share of the drain in which runs may reach a good moment to hand over; the rest is for handing over."""


class Runtime:
    """Starts and stops the services with the pool."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._stack = AsyncExitStack()
        self._services: Services | None = None
        self._settings: Settings | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._monitor: WorkerMonitor | None = None

    @property
    def services(self) -> Services:
        """Return the running services."""
        if self._services is None:
            raise RuntimeError("the services are not running: this task needs a worker of ours")
        return self._services

    async def start(self) -> None:
        """Listen for probes, build the services, begin to renew and to sweep."""
        self._settings = read_settings()
        metrics = Metrics(self._settings.told_apart)
        self._monitor = WorkerMonitor(self._settings, hooks_of(self._app).pool[0], metrics)
        if self._settings.database.startswith("sqlite"):
            # The default must work without a deploy step; a shared database is migrated by a job of its own.
            await asyncio.to_thread(migrate, self._settings.database)
        self._services = services = await self._stack.enter_async_context(worker(self._settings, self._app, metrics))
        self._loops = [
            asyncio.create_task(services.keeper.keep(), name="lease-keeper"),
            asyncio.create_task(services.sweeper.keep(), name="sweeper"),
            asyncio.create_task(services.clock.keep(), name="clock"),
        ]
        control.install(self._cancel)
        control.tell_version(version("fireworks-workers"))
        self._tell(services, metrics, self._monitor)

    def _tell(self, services: Services, metrics: Metrics, monitor: WorkerMonitor) -> None:
        """Begin to tell what can be told of running services. Queues are told by who serves the control queue."""
        listens = self._settings is not None and self._settings.monitor_port is not None
        waiting = services.signals.queues if listens and CONTROL_QUEUE in self._app.amqp.queues.consume_from else None
        if waiting is not None:
            self._loops.append(asyncio.create_task(services.signals.queues.keep(), name="queue-watch"))
        add_signals(metrics, services.signals.audio_lag, waiting)
        monitor.started(services.reception, services.signals.checks)

    def _cancel(self, ids: list[str]) -> dict[str, control.Said]:
        """Turn a revoke into cancel signals; return what that came to for each run. Called in a thread of its own."""
        loop = self._loops[0].get_loop()
        return asyncio.run_coroutine_threadsafe(self._signal_cancel(ids), loop).result()

    async def _signal_cancel(self, ids: list[str]) -> dict[str, control.Said]:
        runs = [run_id for run_id in ids if RUN_ID.fullmatch(run_id)]
        replies = await asyncio.gather(*(self._cancelled(run_id) for run_id in runs))
        woken = [run_id for run_id, reply in zip(runs, replies, strict=True) if reply == "woken"]
        await asyncio.gather(*(wake(self.services, run_id) for run_id in woken))
        found = {run_id: reply for run_id, reply in zip(runs, replies, strict=True) if reply != "missing"}
        return {run_id: "over" if reply == "finished" else "asked" for run_id, reply in found.items()}

    async def _cancelled(self, run_id: str) -> str:
        """Send the signal; every worker hears a revoke, and the signal's id makes them one."""
        try:
            return await self.services.store.signal(run_id, "cancel", {"reason": "revoked"}, "revoke")
        except KeysDamaged:
            return "woken"  # to be failed by whoever takes it

    def knows(self, run_id: str) -> bool:
        """Return whether there is a run of this id. From any thread but the loop's; may block."""
        loop = self._loops[0].get_loop()
        try:
            return bool(asyncio.run_coroutine_threadsafe(self.services.store.known([run_id]), loop).result())
        except StoreUnavailable:
            return True  # nothing is said of what cannot be known

    async def drain(self) -> None:
        """Ask the runs to hand over."""
        if self._monitor:
            self._monitor.draining()
        if self._services and self._settings:
            now = self._services.clock.now()
            _log.info("worker.draining", runs=len(self._services.reception))
            self._services.reception.drain(now + _HAND_OVER_SHARE * self._settings.drain_s)

    async def stop(self) -> None:
        """Take the services apart."""
        living = set(self._loops)
        while living:  # up to Python 3.11 a cancel that meets the end of a command is lost in redis-py
            for task in living:
                task.cancel()
            _, living = await asyncio.wait(living, timeout=_CANCEL_AGAIN_S)
        await self._stack.aclose()
        if self._monitor:
            await asyncio.to_thread(self._monitor.close)


held: Final = Runtime(app)
hooks_of(app).on_start.append(held.start)
hooks_of(app).on_drain.append(held.drain)
hooks_of(app).on_stop.append(held.stop)


class _Waits(Retry):
    """What Celery shows of it is the reason."""

    def __repr__(self) -> str:
        return repr(self.exc)


class RunTask(GuardedTask):
    """A doorbell: its body is served by the reception; its outcome becomes the task's state."""

    abstract = True
    accept_late = True
    Request = "workers.pool.request:PatientRequest"
    resultrepr_maxsize = 1  # logs, events and Flower never carry content

    def refusal(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Refused | None:
        """See `GuardedTask`. What is refused under the id of a run that lives must not end that one for its caller."""
        try:
            run_id = check_run_id(self.request.id)
        except BadRunId as exc:
            return Refused("bad_run_id", str(exc))
        refused = super().refusal(args, kwargs)
        if refused is not None and held.knows(run_id):
            self.bury(refused, args, kwargs)
            raise Ignore("refused, and its id is that of a run")
        return refused

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run in the job's thread: serve on the loop, then settle here, where the result backend may block."""
        outcome: Outcome = super().__call__(*args, **kwargs)
        match outcome:
            case Ended():
                return self._ended(outcome)
            case Dropped(reason, truth):
                _log.info("run.dropped", run_id=self.request.id, reason=reason)
                self._tell_again(truth)
                raise Ignore(reason)
            case Unreachable(reason):
                _log.info("run.unreachable", run_id=self.request.id, reason=reason)
                raise Reject(reason, requeue=True)
            case Parked(lease, why):
                # Publishes nothing: the run's next message is the sweeper's.
                parked = RunIsParked(why)
                parked.life = (lease.epoch, lease.owner)
                raise _Waits(f"parked: {why}", exc=parked)
            case _:
                assert_never(outcome)

    def _ended(self, ended: Ended) -> Mapping[str, Any]:
        if ended.status == "completed":
            return ended.result
        if ended.status == "cancelled":
            self.app.backend.mark_as_revoked(self.request.id, "cancelled", request=self.request, store_result=True)
            self._tell("task-revoked", terminated=True, signum=None, expired=False)
            raise Ignore("cancelled")
        if ended.failure is None:
            raise RuntimeError("a failed run has a failure")
        raise RunFailed(ended.failure)

    def _tell_again(self, truth: EventData | None) -> None:
        """Have Flower show again where the run stands: the message that was dropped made it RECEIVED and STARTED."""
        match truth:
            case RunParked(why=why):
                self._tell("task-retried", exception=repr(RunIsParked(why)), traceback="")
            case RunCompleted():
                self._tell("task-succeeded", result=HIDDEN, runtime=None)
            case RunFailedEvent(failure=failure):
                self._tell("task-failed", exception=repr(RunFailed(failure)), traceback="")
            case RunCancelled():
                self._tell("task-revoked", terminated=True, signum=None, expired=False)
            case _:
                pass

    def _tell(self, type_: str, **fields: Any) -> None:
        """Send an event after those that Celery has sent of this message."""
        if (job := current_job()) is not None:
            job.accept()
        if not send_event_of(str(self.request.id), type_, **fields):
            self.send_event(type_, **fields)

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Keep the stack trace out of Flower's event; the result backend has done the same."""
        if isinstance(exc, RunFailed) and einfo is not None:
            einfo.traceback = ""

    def on_retry(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """The same for a run that is parked."""
        if isinstance(exc, RunIsParked) and einfo is not None:
            einfo.traceback = ""

    async def serve(self, kind: Kind, request: Any) -> Outcome:
        """Serve this message. Called on the loop by the task's body."""
        job = current_job()
        if job is None:
            raise RuntimeError("a run needs the pool workers.pool:TaskPool")
        services = held.services
        try:
            outcome = await services.reception.serve(self._message(kind, request), job.accept_async)
        except asyncio.CancelledError:
            if job.stopping is not StopReason.SHUTDOWN or not job.accepted:
                raise
            # Its message is gone and the run lives: to fail here would tell the caller of an end that is none.
            return Dropped("the worker shuts down; a sweeper rings")
        if isinstance(outcome, Ended):
            self._announce_after(job, services, outcome.epoch)
        elif isinstance(outcome, Parked):
            _park_after(job, services, outcome)
        elif isinstance(outcome, Unreachable):
            await services.clock.sleep_until(services.clock.now() + _UNREACHABLE_PAUSE_S)
        return outcome

    def _message(self, kind: Kind, request: Any) -> Message:
        called, run_id = self.request, str(self.request.id)

        def signature(digest: str) -> str:
            stored = self.signature_from_request(called, args=(), kwargs={"request": {"stored": digest}})
            stored["options"].pop("expires", None)  # it was for the start; a successor comes when it comes
            return json.dumps(stored)

        trace = trace_id_of(called.get("traceparent"))
        return Message(
            run_id, kind, request, signature, trace, is_expired=_is_expired(called.expires, held.services.clock)
        )

    def _announce_after(self, job: Job, services: Services, epoch: int | None) -> None:
        run_id, loop = str(self.request.id), asyncio.get_running_loop()

        def announce(told: PoolOutcome) -> None:
            if _is_announced(told):
                asyncio.run_coroutine_threadsafe(_announced(services, run_id, epoch), loop)

        job.on_outcome(announce)


def _is_expired(expires: str | datetime | None, clock: Clock) -> bool:
    """Whether the caller's `expires` has passed. Celery has refused what is no time."""
    when: datetime | None = maybe_iso8601(expires)
    return when is not None and (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() < clock.now()


def _park_after(job: Job, services: Services, parked: Parked) -> None:
    loop = asyncio.get_running_loop()

    def park(told: PoolOutcome) -> None:
        if told.kind is OutcomeKind.RETRIED:
            asyncio.run_coroutine_threadsafe(_park(services, parked), loop)

    job.on_outcome(park)


async def _park(services: Services, parked: Parked) -> None:
    if not await services.reception.park(parked):
        await wake(services, parked.lease.run_id)


async def wake(services: Services, run_id: str) -> bool:
    """Ring for a run that is due; a sweeper does it a little later where this fails."""
    try:
        return await services.sweeper.wake(run_id)
    except (StoreUnavailable, KeysDamaged) as exc:
        _log.warning("run.not_woken", run_id=run_id, error=str(exc))
        return False


def _is_announced(told: PoolOutcome) -> bool:
    """Whether the run's end is out: a result that could not be stored, say, is still owed."""
    match told.kind:
        case OutcomeKind.SUCCEEDED | OutcomeKind.IGNORED:
            return True
        case OutcomeKind.FAILED:
            return isinstance(told.error, RunFailed)
        case _:
            return False


async def _announced(services: Services, run_id: str, epoch: int | None) -> None:
    try:
        await services.store.announced(run_id, epoch)
    except (StoreUnavailable, KeysDamaged) as exc:
        # A sweeper will ring for the run, and the callbacks go out once more: at least once.
        _log.warning("run.not_announced", run_id=run_id, error=str(exc))
