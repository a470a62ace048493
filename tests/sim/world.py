"""The simulated world: workers that die and come back, over one memory store, on a clock that jumps."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import SecretStr

from api_contracts.client.scripts import digest_of, spill
from api_contracts.names import Kind as WorkKind
from api_contracts.runs import EventData, RunQueued, Status
from tests.sim.batches import ControlPlane, rows
from tests.sim.broker import Broker, Celery, RunMessage, SimBell
from tests.sim.outside import ELSEWHERE, HERE, Effects, HereTools, Provider, ToolService
from tests.sim.plan import Kind, Plan
from tests.sim.process import CURRENT, Line, Process, owned_task
from tests.sim.speeches import Dialling, Listener, Watched, speak
from tests.waiting import idle
from workers.adapters.credentials import Credentials
from workers.adapters.csl import CslReferences
from workers.adapters.memory.archive import MemoryArchive
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.runs import MemoryRuns
from workers.bootstrap import Parts, WorkerKinds
from workers.ports import (
    Archive,
    AudioStreams,
    BatchService,
    Bell,
    ChatModel,
    Claimed,
    Inbox,
    RowStore,
    RunStore,
    SpeechLost,
    SpeechService,
    ToolBox,
)
from workers.runners.batch import BatchParts
from workers.runners.drive import DriverServices
from workers.runners.leases import LeaseKeeper
from workers.runners.polling import Poller
from workers.runners.reception import Reception
from workers.runners.sweep import Sweeper
from workers.settings import Timing
from workers.telemetry import Metrics

TIMING = Timing(lease_s=10, renew_s=3, sweep_s=5, lost_message_s=30, longest_look_s=60)
WORKERS = 2
BACK_AFTER_S = 4.0
_NO_KEYS = Credentials(SecretStr("k"), {}, None)
HORIZON_S = 14_400.0
"""A run that has not ended by then is lost: no schedule needs a tenth of it."""


class WatchedRuns(MemoryRuns):
    """Notes what no schedule may bring about, at the moment when it does."""

    world: "World"

    async def append(
        self, run_id: str, epoch: int, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> int:
        """See the port."""
        before = len(self._runs[run_id].events)
        seq = await super().append(run_id, epoch, base_seq, events, terminal=terminal)
        run = self._runs[run_id]
        if len(run.events) > before and run.epoch != epoch:
            self.world.found.append(f"{run_id}: epoch {epoch} wrote under epoch {run.epoch}")
        if terminal and await self.world.archive.load(run_id) is None:
            self.world.found.append(f"{run_id}: its end was told before SQL had it")
        return seq

    async def claim(self, run_id: str) -> Claimed | None:
        """See the port."""
        held = self._runs[run_id].until > self._clock.now()
        claimed = await super().claim(run_id)
        if claimed and held:
            self.world.found.append(f"{run_id}: rung for under a good lease")
        return claimed


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is asked: a chat with the tools of each round, a batch of so many rows, or a session of so many words; and
    when it is cancelled, if ever.
    """

    name: str
    rounds: Sequence[Sequence[str]] = ()
    batch_rows: int = 0
    words: int = 0
    cancel_after_s: float | None = None

    @property
    def kind(self) -> WorkKind:
        """Return the kind of work."""
        return "batch" if self.batch_rows else "stt" if self.words else "chat"

    def request(self) -> dict[str, Any]:
        """Return what the producer sends."""
        if self.words:
            return {}
        if self.batch_rows:
            return {"model": "m", "rows": rows(self.batch_rows), "shard_rows": 3}
        named = {tool for each in self.rounds for tool in each}
        here = [tool for tool in HERE if tool in named]
        other = [{"name": tool, "task": f"svc.{tool}", "queue": "svc", "effect": effect, "timeout_s": 60}
                 for tool, effect in ELSEWHERE.items() if tool in named]  # fmt: skip
        return {"model": "m", "messages": [{"role": "user", "content": "go"}], "tools": [*here, *other]}


class World:
    """One run of a scenario under a plan. `found` is what must not be."""

    def __init__(self, scenario: Scenario, plan: Plan, store: type[MemoryRuns] = MemoryRuns) -> None:
        self.scenario = scenario
        self.plan = plan
        self.chance = random.Random(plan.seed)
        self.clock = ManualClock()
        watched = cast("type[WatchedRuns]", type("Watched", (WatchedRuns, store), {}))
        self.store = watched(self.clock, TIMING)
        self.store.world = self
        self.archive = MemoryArchive()
        self.effects = Effects()
        self.celery = Celery()
        self.broker = Broker(self)
        self.service = ToolService(self)
        self.plane = ControlPlane(self)
        self.audio = Watched(self)
        self.listener = Listener(self)
        self.metrics = Metrics()
        self.found: list[str] = []
        self.trace: list[str] = []
        self.workers: list[Worker] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def step(self, what: str) -> Kind | None:
        """Count a call of a port; return what goes wrong with it."""
        self.trace.append(what)
        return self.plan.faults.get(len(self.trace))

    async def latency(self) -> None:
        """Let a random time pass, as on a network: this is what shuffles the world."""
        await self.clock.sleep_until(self.clock.now() + self.chance.uniform(0.001, 0.05))

    def start(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Begin something that is no part of a worker, whoever says so."""
        token = CURRENT.set(None)
        self._tasks.append(asyncio.get_running_loop().create_task(coro))
        CURRENT.reset(token)

    async def live(self, run_id: str) -> None:
        """Let the whole story happen, until the run is announced or the horizon has come."""
        asyncio.get_running_loop().set_task_factory(cast("Any", owned_task))
        random.seed(self.plan.seed)  # the service's own jitter
        self.start(self._keep_up())
        self.start(self._produce(run_id))
        if self.scenario.kind == "batch":
            self.start(self.plane.work())
            self.start(self.plane.tick())
        if self.scenario.kind == "stt":
            self.start(speak(self, run_id, self.scenario.words))
        end = self.clock.now() + HORIZON_S
        await self._until(lambda: self.store._runs[run_id].announced if run_id in self.store._runs else False, end)
        await self._until(lambda: False, self.clock.now() + 40.0)  # zombies wake, late messages come
        for worker in self.workers:
            worker.process.kill()
        for task in self._tasks:
            task.cancel()
        await idle()

    async def _until(self, done: Callable[[], bool], end: float) -> None:
        while True:
            await idle()
            when = self.clock.next_wake
            if done() or when is None or when > end:
                return
            self.clock.advance(when - self.clock.now())

    async def _keep_up(self) -> None:
        """Start workers, and others for those that died."""
        number = 0
        while True:
            while sum(not worker.process.dead for worker in self.workers) < WORKERS:
                number += 1
                self.workers.append(Worker(self, f"w{number}"))
            await self.clock.sleep_until(self.clock.now() + BACK_AFTER_S)

    async def _produce(self, run_id: str) -> None:
        await self.latency()
        request, kind = self.scenario.request(), self.scenario.kind
        queued, blob = spill(RunQueued(kind=kind, digest=digest_of(request), request=request))
        await self.store.submit(run_id, queued, blob)
        await self.latency()
        self.broker.put(RunMessage(run_id, kind, queued.digest))
        if self.scenario.cancel_after_s is not None:
            await self.clock.sleep_until(self.clock.now() + self.scenario.cancel_after_s)
            await self.store.signal(run_id, "cancel", {"reason": "enough"}, "cancel-1")


class Worker:
    """A worker process, built as `workers.bootstrap` builds one."""

    def __init__(self, world: World, name: str) -> None:
        self.process = process = Process(world, name)
        self.store = cast("RunStore", Line(process, "store", world.store))
        self.celery = cast("Celery", Line(process, "celery", world.celery, raises=None))
        archive = cast("Archive", Line(process, "archive", world.archive))
        bell = cast("Bell", Line(process, "bell", SimBell(world)))
        inbox = cast("Inbox", Line(process, "inbox", world.store))
        model = Line(process, "model", Provider(world, world.scenario.rounds), raises=None, streams="stream")
        tools = cast("ToolBox", Line(process, "tools", HereTools(world), raises=None))
        keeper = LeaseKeeper(self.store, process, TIMING)
        nothing = cast("Any", None)
        jobs = cast("BatchService", Line(process, "plane", world.plane.service, raises=None, streams="files"))
        kept = cast("RowStore", Line(process, "rows", world.plane.rows, streams="lines"))
        batches = BatchParts(jobs, kept, nothing, process, random.random)
        speech = cast("SpeechService", Line(process, "speech", Dialling(process, world.listener), raises=SpeechLost))
        audio = cast("AudioStreams", Line(process, "audio", world.audio))
        parts = Parts(cast("ChatModel", model), tools, speech, audio, batches, CslReferences(), bell, process, _NO_KEYS)
        services = DriverServices(self.store, inbox, archive, bell, process, world.metrics)
        self.reception = Reception(services, keeper, WorkerKinds(parts), name, "sim")
        self.sweeper = Sweeper(self.store, bell, process, TIMING.sweep_s, world.chance.random)
        self.poller = Poller(jobs, kept, self.store, self.sweeper, process, 30.0)
        process.start(keeper.keep())
        process.start(self.sweeper.keep())
