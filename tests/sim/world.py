"""The simulated world: workers that die and come back, over one memory store, on a clock that jumps."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

from pydantic import SecretStr

from api_contracts.client.scripts import digest_of, spill
from api_contracts.names import Kind as WorkKind
from api_contracts.runs import EventData, RunQueued, Status
from tests.sim import files, outside, spending, talks
from tests.sim.batches import ControlPlane, rows
from tests.sim.broker import Broker, Celery, RunMessage, SimBell
from tests.sim.follower import Follower
from tests.sim.outside import ELSEWHERE, HERE, SOURCES, CitingProvider, Effects, HereTools, Provider, ToolService
from tests.sim.plan import Kind, Plan
from tests.sim.process import CURRENT, Line, Process, owned_task
from tests.sim.speeches import CHANGING, Dialling, Listener, Watched, speak
from tests.waiting import idle
from workers.adapters.credentials import Credentials
from workers.adapters.csl import CslReferences
from workers.adapters.memory.archive import MemoryArchive
from workers.adapters.memory.breakers import MemoryBreakers
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.runs import MemoryRuns
from workers.bootstrap import Parts, WorkerKinds
from workers.ports import (
    Archive,
    AudioStreams,
    BatchService,
    Bell,
    Breakers,
    Budgets,
    ChatModel,
    Claimed,
    Conversations,
    Inbox,
    Lease,
    RowStore,
    RunStore,
    SpeechLost,
    SpeechService,
    StoreUnavailable,
    ToolBox,
    Transcriber,
)
from workers.runners.batch import BatchParts
from workers.runners.circuits import Circuits
from workers.runners.drive import DriverServices
from workers.runners.leases import LeaseKeeper
from workers.runners.polling import Poller
from workers.runners.reception import Reception
from workers.runners.sweep import Sweeper
from workers.runners.talks import Talks
from workers.settings import Timing
from workers.telemetry import Metrics

TIMING = Timing(lease_s=10, renew_s=3, sweep_s=5, lost_message_s=30, longest_look_s=60)
WORKERS = 2
BACK_AFTER_S = 4.0
AWAY_S = 30.0
MISSED_AFTER_S = 45.0
"""A producer looks so often whether its run is there still, and submits it again if Redis has forgotten it."""
_PARTS = {"sql-away": ("archive", "rows", "talks"), "redis-away": ("store", "inbox", "audio", "bell", "budgets")}
_NO_KEYS = Credentials(SecretStr("k"), {}, None)
HORIZON_S = 14_400.0
"""A run that has not ended by then is lost: no schedule needs a tenth of it."""


class WatchedRuns(MemoryRuns):
    """Notes what no schedule may bring about, at the moment when it does."""

    world: "World"

    def wipe(self) -> None:
        """Lose everything."""
        for kept in (self._runs, self._due, self._boxes, self._blobs):
            kept.clear()

    async def append(
        self, lease: Lease, base_seq: int, events: Sequence[EventData], *, terminal: Status | None = None
    ) -> int:
        """See the port."""
        run_id = lease.run_id
        before = len(self._runs[run_id].events) if run_id in self._runs else 0
        seq = await super().append(lease, base_seq, events, terminal=terminal)
        run = self._runs[run_id]
        if len(run.events) > before and (run.epoch, run.owner) != (lease.epoch, lease.owner):
            self.world.found.append(f"{lease} wrote under epoch {run.epoch} of {run.owner}")
        if terminal and await self.world.archive.load(run_id) is None:
            self.world.found.append(f"{run_id}: its end was told before SQL had it")
        return seq

    async def claim(self, run_id: str) -> Claimed | None:
        """See the port."""
        held = run_id in self._runs and self._runs[run_id].until > self._clock.now()
        claimed = await super().claim(run_id)
        if claimed and held:
            self.world.found.append(f"{run_id}: rung for under a good lease")
        return claimed


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is asked: a chat with the tools of each round, a batch of so many rows, a session of so many words, a whole
    file, or a cited answer; which signals are sent and when; when an operator retries it, if ever; whether a beat polls
    jobs.
    """

    name: str
    rounds: Sequence[Sequence[str]] = ()
    batch_rows: int = 0
    words: int = 0
    cites: bool = False
    sends_file: bool = False
    signals: Sequence[tuple[float, str]] = ()
    retry_after_s: float | None = None
    deadline_s: float | None = None
    polled: bool = True
    approved: bool = False
    """Every call waits for somebody to approve it."""
    background: bool = False
    """No call is waited for."""
    gives_up: bool = False
    """The model may cancel what runs in the background."""
    talks: bool = False
    """It is a turn of a conversation, and somebody else has one at the same time."""
    summarised: bool = False
    """And whoever comes second summarises the conversation first."""
    changes: bool = False
    """The options of a session change in mid-speech, and its connections are not to grow old."""
    waits: bool = False
    """The provider sends away who asks for an answer first, and the other service takes its time: the run parks."""
    is_short: bool = False
    """It is under a budget that somebody else has spent."""

    @property
    def kind(self) -> WorkKind:
        """Return the kind of work."""
        if self.sends_file:
            return "stt_file"
        return "batch" if self.batch_rows else "stt" if self.words else "cite" if self.cites else "chat"

    @property
    def ends(self) -> set[str]:
        """Return how the run may end while Redis keeps what it is told."""
        cancelled = {"cancelled"} if "cancel" in {kind for _, kind in self.signals} else set()
        return {"completed"} | cancelled | ({"failed"} if self.deadline_s else set())

    def request(self) -> dict[str, Any]:
        """Return what the producer sends."""
        return self._asked() | ({} if self.deadline_s is None else {"deadline_s": self.deadline_s})

    def _asked(self) -> dict[str, Any]:
        if self.sends_file:
            return dict(files.ASKED)
        if self.words:
            return dict(CHANGING) if self.changes else {}
        if self.cites:
            sources = [{"id": each, "content": text} for each, text in SOURCES.items()]
            return {"model": "m", "question": "When was the lighthouse built?", "sources": sources}
        if self.batch_rows:
            return {"model": "m", "rows": rows(self.batch_rows), "shard_rows": 3}
        comes = {"note"} if "update_settings" in {kind for _, kind in self.signals} else set()
        named = {tool for each in self.rounds for tool in each} - comes
        here = [tool for tool in HERE if tool in named]
        other = [{"name": tool, "task": f"svc.{tool}", "queue": "svc", "effect": effect,
                  "timeout_s": 300 if self.waits else 60, "approval": self.approved, "wait": not self.background}
                 for tool, effect in ELSEWHERE.items() if tool in named]  # fmt: skip
        messages = talks.asked("go", summarised=self.summarised)
        asked: dict[str, Any] = {"model": "m", "messages": messages, "tools": [*here, *other]}
        asked |= {"max_tokens": spending.MOST_TOKENS} if self.is_short else {}
        return asked | (talks.part(summarised=self.summarised) if self.talks else {})


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
        self.breakers = MemoryBreakers(self.clock)
        self.books = spending.Books(self.clock)
        self.effects = Effects()
        self.sent_away: set[int] = set()
        self.began_with: Set[str] | None = None
        self.celery = Celery(self.store)
        self.broker = Broker(self)
        self.service = ToolService(self)
        self.plane = ControlPlane(self)
        self.audio = Watched(self)
        self.listener = Listener(self)
        self.follower = Follower(self)
        self.metrics = Metrics()
        self.found: list[str] = []
        self.retried = scenario.retry_after_s is None
        self.trace: list[str] = []
        self.workers: list[Worker] = []
        self.forgot = False
        self._broken = 0
        self._away_until: dict[str, float] = {}
        self._tasks: list[asyncio.Task[Any]] = []

    def forget(self) -> None:
        """Wipe Redis: journals, leases, inboxes, what waits to be looked at, and what Celery had stored."""
        self.forgot = True
        self.began_with = None
        self.store.wipe()
        self.audio.wipe()
        self.books.wipe()
        self.celery.states.clear()

    def lose(self, fault: str) -> None:
        """Have a store not answer for a while."""
        for part in _PARTS[fault]:
            self._away_until[part] = self.clock.now() + AWAY_S

    def is_away(self, part: str) -> bool:
        """Whether nobody reaches this part now."""
        return self.clock.now() < self._away_until.get(part, 0.0)

    def breaks_off(self) -> bool:
        """Whether an answer breaks off: in a lossy world one in ten, but no three in a row: runs give up."""
        breaks = self.plan.lossy and self.chance.random() < 0.1 and self._broken < 2
        self._broken = self._broken + 1 if breaks else 0
        return breaks

    def step(self, what: str) -> Kind | None:
        """Count a call of a port; return what goes wrong with it."""
        self.trace.append(what)
        return self.plan.faults.get(len(self.trace))

    def wake(self, run_id: str) -> None:
        """Have some living process ring for a run that is due."""
        if living := [worker for worker in self.workers if not worker.process.dead]:
            worker = self.chance.choice(living)
            worker.process.start(_wake(worker, run_id))

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
        if self.scenario.talks:
            self.start(self._keep_submitted(talks.rival_of(run_id), talks.rival(summarised=self.scenario.summarised)))
        self.start(self.follower.follow(run_id))
        if self.scenario.kind == "batch":
            self.start(self.plane.work())
            if self.scenario.polled:
                self.start(self.plane.tick())
        if self.scenario.kind == "stt":
            self.start(speak(self, run_id, self.scenario.words, changes=self.scenario.changes))
        end = self.clock.now() + HORIZON_S
        await self._until(lambda: self._is_over(run_id), end)
        await self._until(lambda: False, self.clock.now() + 40.0)  # zombies wake, late messages come
        await self._until(lambda: self._is_over(run_id), self.clock.now() + 200.0)  # what they said is put right
        for worker in self.workers:
            worker.process.kill()
        for task in self._tasks:
            task.cancel()
        await idle()

    def _is_over(self, run_id: str) -> bool:
        """Whether nobody will hear of the run any more; after a retry it is the second end that counts."""
        if self.scenario.talks and not run_id.endswith("rival") and not self._is_over(talks.rival_of(run_id)):
            return False
        if run_id in self.store._runs:
            return self.store._runs[run_id].announced and self.retried
        return run_id in self.archive._records and bool(self.celery.states.get(run_id))

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
        for number, (after_s, kind) in enumerate(self.scenario.signals):
            self.start(outside.signal(self, run_id, after_s, kind, f"{kind}-{number}"))
        if self.scenario.approved:
            self.start(outside.approve(self, run_id))
        if self.scenario.retry_after_s is not None:
            self.start(outside.retry(self, run_id, self.scenario.retry_after_s))
        await self._keep_submitted(run_id, self.scenario.request())

    async def _keep_submitted(self, run_id: str, request: dict[str, Any]) -> None:
        while run_id not in self.archive._records:
            await self._submit(run_id, request)
            while run_id in self.store._runs:
                await self.clock.sleep_until(self.clock.now() + MISSED_AFTER_S)

    async def _submit(self, run_id: str, request: dict[str, Any]) -> None:
        kind = self.scenario.kind
        whole = RunQueued(kind=kind, digest=digest_of(request), request=request, deadline_s=self.scenario.deadline_s)
        queued, blob = spill(whole)
        await self.store.submit(run_id, queued, blob)
        await self.latency()
        self.broker.put(RunMessage(run_id, kind, queued.digest))


class Worker:
    """A worker process, built as `workers.bootstrap` builds one."""

    def __init__(self, world: World, name: str) -> None:
        self.process = process = Process(world, name)
        self.store = cast("RunStore", Line(process, "store", world.store))
        self.celery = cast("Celery", Line(process, "celery", world.celery, raises=None))
        archive = cast("Archive", Line(process, "archive", world.archive))
        bell = cast("Bell", Line(process, "bell", SimBell(world)))
        inbox = cast("Inbox", Line(process, "inbox", world.store))
        provider = CitingProvider(world) if world.scenario.cites else Provider(world, world.scenario.rounds)
        model = Line(process, "model", provider, raises=None, streams="stream")
        tools = cast("ToolBox", Line(process, "tools", HereTools(world), raises=None))
        keeper = LeaseKeeper(self.store, process, TIMING)
        nothing = cast("Any", None)
        jobs = cast("BatchService", Line(process, "plane", world.plane.service, raises=None, streams="files"))
        kept = cast("RowStore", Line(process, "rows", world.plane.rows, streams="lines"))
        batches = BatchParts(jobs, kept, nothing, process, random.random)
        speech = cast("SpeechService", Line(process, "speech", Dialling(process, world.listener), raises=SpeechLost))
        audio = cast("AudioStreams", Line(process, "audio", world.audio))
        circuits = Circuits(cast("Breakers", Line(process, "breakers", world.breakers)), process)
        typist = cast("Transcriber", Line(process, "files", files.Typist(world), raises=None))
        books = cast("Budgets", Line(process, "budgets", world.books))
        kept_talks = cast("Conversations", Line(process, "talks", world.archive.conversations))
        parts = Parts(
            cast("ChatModel", model), tools, speech, audio, typist, batches, CslReferences(), bell, process,
            _NO_KEYS, circuits, Talks(kept_talks, self.store.known, process), spending.PRICES,
            limits=spending.LIMITS, budgets=books if world.scenario.is_short else None,
        )  # fmt: skip
        services = DriverServices(self.store, inbox, archive, bell, process, world.metrics)
        self.reception = Reception(services, keeper, WorkerKinds(parts), name, "sim")
        process.on_drain = self.reception.drain
        self.sweeper = Sweeper(self.store, bell, process, TIMING.sweep_s, world.chance.random)
        self.poller = Poller(jobs, kept, self.store, self.sweeper, process, 30.0)
        process.start(keeper.keep())
        process.start(self.sweeper.keep())


async def _wake(worker: Worker, run_id: str) -> None:
    try:
        await worker.sweeper.wake(run_id)
    except StoreUnavailable:
        return  # a sweeper rings
