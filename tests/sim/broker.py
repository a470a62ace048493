"""Celery as the service meets it: messages that come late, twice or never; a state for each task.

What `workers.runtime` does with an outcome is done here again in a few lines: it is the part that needs Celery.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api_contracts.runs import RunQueued
from workers.adapters.memory.runs import MemoryRuns
from workers.core.chat.acts import SendCall
from workers.ports import Lease, StoreUnavailable
from workers.runners.outcome import Ended, Parked, Unreachable
from workers.runners.reception import Message

if TYPE_CHECKING:
    from tests.sim.world import Worker, World


@dataclass(frozen=True, slots=True)
class RunMessage:
    """The message of a run."""

    run_id: str
    kind: Any
    digest: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """`fireworks.tools.deliver`."""

    run_id: str
    letter: Mapping[str, Any]
    letter_id: str


class Broker:
    """The queues of the service."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def put(self, message: RunMessage | Delivery, *, safely: bool = False) -> None:
        """Publish. A lossy broker loses one in ten run messages, doubles one in ten, and brings some late."""
        chance = self._world.chance
        copies = 1
        if self._world.plan.lossy and not safely:
            copies = chance.choices((0 if isinstance(message, RunMessage) else 1, 1, 2), (1, 8, 1))[0]
        for _ in range(copies):
            late = 15.0 if self._world.plan.lossy and chance.random() < 0.05 else 0.0
            self._world.start(self._bring(message, late + chance.uniform(0.01, 0.3)))

    def deliver(self, call: SendCall, letter: Mapping[str, Any]) -> None:
        """Publish what a call of the other service came to."""
        self.put(Delivery(call.run_id, letter, f"{call.call_id}:result"))

    async def _bring(self, message: RunMessage | Delivery, delay_s: float) -> None:
        world = self._world
        await world.clock.sleep_until(world.clock.now() + delay_s)
        while not (taking := [each for each in world.workers if not (each.process.dead or each.process.draining)]):
            await world.clock.sleep_until(world.clock.now() + 1.0)
        worker = world.chance.choice(taking)
        serving = worker.process.start(_serve(worker, message))
        worker.process.serving += 1
        await asyncio.wait([serving])
        worker.process.serving -= 1
        if serving.cancelled() and not isinstance(message, RunMessage):
            self.put(message, safely=True)  # acknowledged only when it is in the inbox


async def _serve(worker: "Worker", message: RunMessage | Delivery) -> None:
    if isinstance(message, RunMessage):
        await _serve_run(worker, message)
    else:
        await _post(worker, message)


async def _serve_run(worker: "Worker", message: RunMessage) -> None:
    def signature(digest: str) -> str:
        return json.dumps({"run_id": message.run_id, "kind": message.kind, "digest": digest})

    async def accept() -> None:
        await worker.celery.accept()

    given = Message(message.run_id, message.kind, {"stored": message.digest}, signature)
    outcome = await worker.reception.serve(given, accept)
    try:
        if isinstance(outcome, Ended):
            await worker.celery.told(message.run_id, outcome.status)
            await worker.store.announced(message.run_id, outcome.epoch)
        elif isinstance(outcome, Parked):
            await worker.celery.parked(outcome.lease)
            if not await worker.reception.park(outcome):
                await worker.sweeper.wake(message.run_id)
        elif isinstance(outcome, Unreachable):
            await worker.process.sleep_until(worker.process.now() + 1.0)
            worker.process.world.broker.put(message, safely=True)
    except StoreUnavailable:
        return  # a sweeper rings


async def _post(worker: "Worker", delivery: Delivery) -> None:
    while True:
        try:
            reply = await worker.store.signal(delivery.run_id, "tool_result", delivery.letter, delivery.letter_id)
            break
        except StoreUnavailable:
            await worker.process.sleep_until(worker.process.now() + 1.0)
    if reply == "woken":
        with contextlib.suppress(StoreUnavailable):  # a sweeper rings
            await worker.sweeper.wake(delivery.run_id)


class Celery:
    """The result backend, and the acknowledgement of a message."""

    def __init__(self, store: MemoryRuns) -> None:
        self.states: dict[str, list[str]] = {}
        self._store = store

    async def accept(self) -> None:
        """Acknowledge."""

    async def told(self, run_id: str, state: str) -> None:
        """Store a task's state."""
        self.states.setdefault(run_id, []).append(state)

    async def parked(self, lease: Lease) -> None:
        """Store that the run waits, while the lease is the parking life's (`parked.lua`)."""
        run = self._store._runs.get(lease.run_id)
        if run and (run.epoch, run.owner, run.status) == (lease.epoch, lease.owner, None):
            await self.told(lease.run_id, "parked")


class SimBell:
    """`Bell` over the simulated brokers."""

    def __init__(self, world: "World") -> None:
        self._world = world

    async def ring(self, run_id: str, signature: str | None, queued: RunQueued, queue: str | None = None) -> None:
        """See the port."""
        known = json.loads(signature) if signature else {"kind": queued.kind, "digest": queued.digest}
        self._world.broker.put(RunMessage(run_id, known["kind"], known["digest"]))

    async def call(self, call: SendCall) -> None:
        """See the port."""
        copies = self._world.chance.choices((0, 1, 2), (1, 8, 1))[0] if self._world.plan.lossy else 1
        for _ in range(copies):
            self._world.start(self._world.service.take(call))
