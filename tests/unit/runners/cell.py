"""Worker processes in one loop, on the memory adapters and a clock that stands still: all that a run can meet."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from api_contracts.chat import ChatRequest, ToolSpec
from api_contracts.client.scripts import digest_of, spill
from api_contracts.keys import new_run_id
from api_contracts.runs import Event, RunQueued
from tests.waiting import idle
from workers.adapters.memory.archive import MemoryArchive
from workers.adapters.memory.bell import MemoryBell
from workers.adapters.memory.breakers import MemoryBreakers
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.model import Hold, MemoryModel, Step
from workers.adapters.memory.runs import MemoryRuns
from workers.adapters.tools import Registry
from workers.core.chat.cards import ToolCard
from workers.core.chat.turn import ChatTurn
from workers.core.runs.frame import Machine
from workers.core.runs.turns import Commit
from workers.ports import Begun, RunRecord, RunStore, StoreUnavailable
from workers.runners.chat import ChatPerformer
from workers.runners.circuits import Circuits
from workers.runners.drive import DriverServices, Performer
from workers.runners.leases import LeaseKeeper
from workers.runners.outcome import Outcome, Parked
from workers.runners.reception import Message, Reception
from workers.runners.sweep import Lacks, Sweeper
from workers.runners.talks import Talks
from workers.settings import Timing
from workers.telemetry import Metrics

TIMING = Timing(lease_s=10, renew_s=3, sweep_s=5, lost_message_s=30, longest_look_s=600)
QUESTION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return a chunk of an answer."""
    return {"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def says(*texts: str | Hold) -> list[Step]:
    """Return an answer in words, a network read each."""
    said: list[Step] = [text if isinstance(text, Hold) else chunk({"content": text}) for text in texts]
    return [*said, chunk({}, "stop")]


def wants(*names: str, arguments: str = "{}") -> list[Step]:
    """Return an answer that calls tools."""
    calls = [
        {"index": n, "id": f"p{n}", "function": {"name": name, "arguments": arguments}} for n, name in enumerate(names)
    ]
    return [chunk({"tool_calls": calls}, "tool_calls")]


def remote(name: str, effect: str = "at_most_once", **more: Any) -> dict[str, Any]:
    """Return a tool of another service, as a request names it."""
    return {"name": name, "task": f"svc.{name}", "queue": "svc", "effect": effect, **more}


class Line:
    """One process's line to the store. It can be cut: before or after the n-th append, or while `away`.

    A cut append never returns: whoever made it is as good as dead.
    """

    def __init__(self, store: MemoryRuns, happened: list[str]) -> None:
        self.store = store
        self.happened = happened
        self.away: set[str] = set()
        self.lost_reply: set[str] = set()
        self.cut_at: tuple[int, str] | None = None
        self.cut = asyncio.Event()
        self.appends = 0

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        act = getattr(self.store, name)

        async def passed_on(*args: Any, **kwargs: Any) -> Any:
            if name in self.away:
                raise StoreUnavailable(f"{name}: away")
            if name == "append":
                self.appends += 1
                await self._maybe_cut("before")
            result = await act(*args, **kwargs)
            if name == "append":
                self.happened += [event.TYPE for event in args[2]]
                await self._maybe_cut("after")
            if name in self.lost_reply:
                self.lost_reply.remove(name)
                raise StoreUnavailable(f"{name}: no reply")
            return result

        return passed_on

    async def _maybe_cut(self, when: str) -> None:
        if self.cut_at == (self.appends, when):
            self.cut.set()
            await asyncio.get_running_loop().create_future()


class NotedArchive(MemoryArchive):
    """Says when it saved; while `away` it cannot."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__()
        self.happened = happened
        self.away = False

    async def save(self, record: RunRecord, turn: Commit | None = None) -> RunRecord | Literal["saved", "moved"]:
        if self.away:
            raise StoreUnavailable("SQL is away")
        said = await super().save(record, turn)
        self.happened.append("saved")
        return said

    async def load(self, run_id: str) -> RunRecord | None:
        if self.away:
            raise StoreUnavailable("SQL is away")
        return await super().load(run_id)

    async def note(self, begun: Begun) -> bool:
        if self.away:
            raise StoreUnavailable("SQL is away")
        said = await super().note(begun)
        self.happened.append("noted")
        return said


class ChatKinds:
    """`Kinds` of chats only. A machine of another make can be given, to see it fail."""

    def __init__(self, cell: "Cell") -> None:
        self._cell = cell

    def prepare(
        self, run_id: str, queued: RunQueued, request: Mapping[str, Any], at: float
    ) -> tuple[Machine, Performer]:
        cell = self._cell
        chat = ChatRequest.model_validate(request)
        cards = [_card(t) if isinstance(t, ToolSpec) else cell.tools.card(t) for t in chat.tools]
        known = {card.name: card for card in cards if card}
        talks = Talks(cell.archive.conversations, cell.store.known, cell.clock)
        performer = ChatPerformer(
            run_id, cell.model, cell.tools, cell.bell, cell.clock, lambda: 1.0, cell.circuits, talks
        )
        return ChatTurn(run_id, chat, known, at, "secret"), performer


def _card(spec: ToolSpec) -> ToolCard:
    return ToolCard(
        spec.name, spec.description, spec.parameters, spec.effect, spec.timeout_s, task=spec.task, queue=spec.queue,
        on_interrupt=spec.on_interrupt, show=spec.show, wait=spec.wait,
        approval_s=spec.approval_timeout_s if spec.approval else None,
    )  # fmt: skip


@dataclass
class Cell:
    """What all processes share."""

    model: MemoryModel = field(default_factory=MemoryModel)
    tools: Registry = field(default_factory=Registry)
    clock: ManualClock = field(default_factory=ManualClock)
    bell: MemoryBell = field(default_factory=MemoryBell)
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryRuns(self.clock, TIMING)
        self.breakers = MemoryBreakers(self.clock)
        self.circuits = Circuits(self.breakers, self.clock)
        self.archive = NotedArchive(self.happened)

    def worker(self, owner: str = "ann", kinds: Any = None) -> "Worker":
        """Start another worker process."""
        return Worker(self, owner, kinds or ChatKinds(self))

    async def submitted(self, run_id: str = "", **fields: Any) -> str:
        """Record a run as the client does; return its id."""
        run_id = run_id or new_run_id()
        request = {name: value for name, value in (QUESTION | fields).items() if value is not None}
        first = RunQueued(kind="chat", digest=digest_of(request), request=request, deadline_s=fields.get("deadline_s"))
        queued, blob = spill(first)
        assert await self.store.submit(run_id, queued, blob) == "created"
        return run_id

    async def journal(self, run_id: str) -> list[Event]:
        events = await self.store.read(run_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events

    async def types(self, run_id: str) -> list[str]:
        return [event.type for event in await self.journal(run_id)]

    async def last(self, run_id: str) -> Event:
        return (await self.journal(run_id))[-1]

    async def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, and what it wakes happen."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.advance(min(step, end - self.clock.now()))
            await idle()


async def end_of(serving: "asyncio.Task[Outcome]") -> Outcome:
    """Return the outcome of a message for which nothing is left to happen; a run that waits is a failure, no hang."""
    await idle()
    if not serving.done():
        serving.cancel()
        await asyncio.wait([serving])
        raise AssertionError("the run waits for something")
    return serving.result()


async def end_over_parks(cell: Cell, worker: "Worker", run_id: str, serving: "asyncio.Task[Outcome]") -> Outcome:
    """Return the outcome of a run that parks meanwhile; each time it is swept up again, when it is due."""
    outcome = await end_of(serving)
    while isinstance(outcome, Parked):
        assert await worker.reception.park(outcome)
        await cell.pass_time(max(0.0, (outcome.until or 0.0) - cell.clock.now()))
        assert await worker.sweeper.sweep() == 1
        outcome = await worker.serve(run_id)
    return outcome


class Worker:
    """One process: its reception, its leases, its sweeper. `outcomes` are those of the messages it served."""

    def __init__(self, cell: Cell, owner: str, kinds: Any, lacking: Lacks | None = None) -> None:
        self.cell = cell
        self.line = Line(cell.store, cell.happened)
        store = cast("RunStore", self.line)
        self.keeper = LeaseKeeper(store, cell.clock, TIMING)
        services = DriverServices(store, cell.store, cell.archive, cell.bell, cell.clock, Metrics())
        self.reception = Reception(services, self.keeper, kinds, owner, "test")
        self.sweeper = Sweeper(store, cell.bell, cell.clock, TIMING.sweep_s, lambda: 0.5, lacking)
        self.accepted: list[str] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def serve(self, run_id: str, request: Any = None) -> Outcome:
        """Serve a message to its end; without a request it is our client's."""
        return await end_of(await self.begin(run_id, request))

    def message(self, run_id: str, request: Any = None) -> Message:
        return Message(run_id, "chat", {"stored": "d"} if request is None else request, lambda d: f"{run_id} by {d}")

    async def begin(self, run_id: str, request: Any = None) -> "asyncio.Task[Outcome]":
        """Serve a message in the background; return when everything waits."""
        task = asyncio.create_task(self._serve(self.message(run_id, request)))
        self._tasks.append(task)
        await idle()
        return task

    async def keep(self) -> None:
        """Renew and sweep, as a living process does."""
        self._tasks += [asyncio.create_task(self.keeper.keep()), asyncio.create_task(self.sweeper.keep())]
        await idle()

    async def die(self) -> None:
        """Be killed: nothing is released, nothing renewed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, message: Message) -> Outcome:
        outcome = await self.reception.serve(message, self._accept(message.run_id))
        self.cell.happened.append("outcome")
        return outcome

    def _accept(self, run_id: str) -> Callable[[], Awaitable[None]]:
        async def accept() -> None:
            self.accepted.append(run_id)
            self.cell.happened.append("accepted")

        return accept
