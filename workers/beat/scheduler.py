"""RedBeat's scheduler with a lock that may be lost and found, and a claim for each tick.

RedBeat takes its lock in a handler that blocks, and dies when the lock is lost. Here each pass asks for the lock anew:
whoever has it ticks, whoever has not waits and says so, and nothing but a stop ends the process.

- A run of ours is submitted under an id made of entry and slot, then the tick is claimed. A beat that dies in between
  leaves the tick to the next one, which submits the same id: the same run (RUN-01).
- Any other task has no such memory, so the tick is claimed first: under the lock, from the state that was read, in one
  script. A beat that dies between claim and message loses that one tick.
"""

import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from importlib import resources
from typing import Any, Self

import structlog
from celery.beat import SchedulingError
from kombu.exceptions import OperationalError
from redbeat.decoder import RedBeatJSONEncoder
from redbeat.schedulers import RedBeatScheduler, RedBeatSchedulerEntry, get_redis
from redis import Redis
from redis.exceptions import LockError, RedisError

from api_contracts import keys
from api_contracts.client import Client
from api_contracts.failure import RunConflict
from workers.beat import CONNECT_S, LOCK_S, WAIT_S
from workers.beat.entries import Plan, read_plans
from workers.beat.monitor import BeatMonitor
from workers.beat.slots import Tick, tick_of
from workers.errors import Misconfigured
from workers.settings import Settings, read_settings

_log = structlog.get_logger(__name__)

_CLAIMED, _NOT_OURS = 1, 0


class StoredEntry(RedBeatSchedulerEntry):
    """An entry as it was read: a claim holds for that state only."""

    name: str
    options: dict[str, Any]
    state = ""

    @classmethod
    def from_key(cls, key: str, app: Any = None) -> Self:
        """Return the entry; raise KeyError, upon which RedBeat drops it, also for one that cannot be read."""
        definition, meta = get_redis(app).hmget(key, "definition", "meta")
        if not definition:
            raise KeyError(key)
        try:
            known = cls.decode_definition(definition) | cls.decode_meta(meta)
            made = cls(app=app, **known)
        except (ValueError, TypeError, AttributeError) as exc:
            raise KeyError(key) from exc
        made.last_run_at = known["last_run_at"]
        made.state = meta or ""
        return made


def _monitor(settings: Settings) -> BeatMonitor:
    try:
        return BeatMonitor(settings)
    except Misconfigured as exc:  # Celery would print where it was raised
        sys.exit(f"fireworks-workers cannot start:\n{exc}")


class Scheduler(RedBeatScheduler):
    """`beat_scheduler` of our app."""

    Entry: Any = StoredEntry

    def __init__(self, app: Any, **options: Any) -> None:
        self._settings: Settings = read_settings()
        ours = dict(app.conf.beat_schedule)
        own = read_plans(self._settings.beat_file, ours)
        self._plans = {name: Plan(None, entry) for name, entry in ours.items() if name not in own} | own
        self._token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._installed = False
        self._waits_for: str | None = None
        self._client: Client | None = None
        self._advance: Any = None
        self._monitor = _monitor(self._settings)
        # Where RedBeat looks for a connection before it makes its own.
        app.redbeat_redis = Redis.from_url(
            self._settings.redis_url, decode_responses=True, **app.conf.redbeat_redis_options
        )
        super().__init__(app, **options)
        # RedBeat's own handler would take the lock before the first pass, and block.
        self.lock_key = None

    @property
    def info(self) -> str:
        """Return beat's banner lines; nothing of the URL's password."""
        return f"       . lock -> {keys.BEAT_LOCK} ({LOCK_S:g} s)\n       . entries -> {len(self._plans)}"

    def setup_schedule(self) -> None:
        """Do nothing yet: entries are written by the beat that holds the lock, or two versions of a file would mix."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Make one pass; return the seconds until the next. Redis being away ends nothing."""
        try:
            pause = self._pass() if self._leads() else WAIT_S
        except (RedisError, OSError) as exc:
            _log.warning("beat.redis_away", error=type(exc).__name__, again_s=WAIT_S)
            self._monitor.passed(f"Redis is away: {type(exc).__name__}", ok=False)
            return WAIT_S
        self._monitor.passed("ticks" if self.lock else f"waits, {self._waits_for} ticks", ok=True)
        return pause

    def close(self) -> None:
        """Let go of the lock, so that a waiting beat goes on at once. Also called in the handler of SIGTERM."""
        lock, self.lock = self.lock, None
        if lock is not None:
            try:
                lock.release()
            except (RedisError, OSError) as exc:
                _log.warning("beat.lock_left", error=type(exc).__name__, runs_out_s=LOCK_S)
        if self._client is not None:
            self._client.close()
        self._monitor.close()
        self.app.redbeat_redis.close()
        super().close()

    def _leads(self) -> bool:
        """Whether this beat holds the lock, for the next `LOCK_S` from now."""
        if self.lock is not None:
            try:
                self.lock.reacquire()
                return True
            except LockError:
                _log.warning("beat.lock_lost", token=self._token)
                self.lock = None
        client = get_redis(self.app)
        lock = client.lock(keys.BEAT_LOCK, timeout=LOCK_S, thread_local=False)
        if not lock.acquire(blocking=False, token=self._token):
            self._wait_for(client.get(keys.BEAT_LOCK))
            return False
        self.lock, self._installed, self._waits_for = lock, False, None
        _log.info("beat.leads", token=self._token)
        return True

    def _wait_for(self, holder: str | None) -> None:
        if holder and holder != self._waits_for:
            self._waits_for = holder
            _log.warning("beat.waiting", holder=holder, lock=keys.BEAT_LOCK)

    def _pass(self) -> float:
        if not self._installed:
            self._install()
        pauses = [self.max_interval]
        for entry in self._entries():
            due, pause = entry.is_due()
            if due and not self._ring(entry):
                return WAIT_S
            pauses.append(pause)
        return float(max(0.0, min(pauses)))

    def _install(self) -> None:
        """Write the entries; those that left the configuration go, those whose time changed begin anew from now."""
        self.app.conf.beat_schedule = {name: plan.celery for name, plan in self._plans.items()}
        for name, plan in self._plans.items():
            self._begin(self._maybe_entry(name, plan.celery))
        super().setup_schedule()
        self._advance = get_redis(self.app).register_script(
            (resources.files("workers.beat") / "advance.lua").read_text(encoding="utf-8")
        )
        self._installed = True

    def _begin(self, wanted: StoredEntry) -> None:
        """Have a new entry, or one whose time changed, begin from now: nothing is made up for."""
        from_now = tick_of(wanted.schedule, None, self.app.now()).ran_at
        try:
            stored = self.Entry.from_key(wanted.key, app=self.app)
        except KeyError:
            wanted.last_run_at = from_now
            wanted.save()
        else:
            if stored.schedule != wanted.schedule:
                stored.reschedule(from_now)

    def _entries(self) -> Iterator[StoredEntry]:
        for entry in self.schedule.values():
            plan = self._plans.get(entry.name)
            if plan is not None and plan.timing is not None:
                entry.schedule = plan.timing  # what Redis holds has lost the time zone
            yield entry

    def _ring(self, entry: StoredEntry) -> bool:
        """Do what is due; return False when nothing more is to be done in this pass: lock or broker are lost."""
        if not self._leads() or not self._installed:  # what came before may have taken its time
            return False
        tick = tick_of(entry.schedule, entry.last_run_at, self.app.now())
        plan = self._plans.get(entry.name)
        if plan is not None and plan.request is not None:
            self._submit(entry.name, plan, tick)
            return self._claim(entry, tick) != _NOT_OURS
        return self._send(entry, tick)

    def _submit(self, name: str, plan: Plan, tick: Tick) -> None:
        """Submit a run of ours. Recorded in Redis first: with the broker away a worker's sweep rings for it."""
        if self._client is None:
            where = self._settings
            self._client = Client(redis_url=where.redis_url, broker_url=where.broker_url, database_url="")
        run_id = keys.derived_tick_id(name, tick.slot)
        try:
            getattr(self._client, plan.kind).submit(plan.request, run_id=run_id)
        except RunConflict:
            # Submitted before by a beat that died, and the file has changed since.
            _log.warning("beat.changed", entry=name, run_id=run_id, slot=tick.slot)
        else:
            _log.info("beat.submitted", entry=name, run_id=run_id, slot=tick.slot)

    def _send(self, entry: StoredEntry, tick: Tick) -> bool:
        """Claim, then send, over a connection that was made just now: an outage must not cost a tick."""
        entry.options = {**entry.options, "task_id": keys.derived_tick_id(entry.name, tick.slot)}
        try:
            with self.app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=CONNECT_S, interval_start=0)
                claim = self._claim(entry, tick)
                if claim == _CLAIMED:
                    producer = self.Producer(connection, auto_declare=False)
                    self.apply_async(entry, producer=producer, advance=False)
                    _log.info("beat.sent", entry=entry.name, task=entry.task, slot=tick.slot)
                return claim != _NOT_OURS
        except OperationalError as exc:
            _log.warning("beat.broker_away", entry=entry.name, error=str(exc)[:200], again_s=WAIT_S)
        except SchedulingError as exc:
            _log.error("beat.tick_lost", entry=entry.name, slot=tick.slot, error=str(exc)[:200])
        return False

    def _claim(self, entry: StoredEntry, tick: Tick) -> int:
        before, entry.last_run_at = entry.state, tick.ran_at
        count = entry.total_run_count + 1
        after = json.dumps({"last_run_at": tick.ran_at, "total_run_count": count}, cls=RedBeatJSONEncoder)
        touched = [keys.BEAT_LOCK, entry.key, self.app.redbeat_conf.schedule_key]
        claim = int(self._advance(keys=touched, args=[self._token, before, after, entry.score]))
        if claim != _CLAIMED:
            _log.warning("beat.not_claimed", entry=entry.name, slot=tick.slot)
        return claim
