"""Batches in the simulated world: the provider's control plane, which works on, and the beat that has it looked at."""

import json
from typing import TYPE_CHECKING, Any, Final, get_args

from api_contracts.failure import Failure
from tests.unit.core.batch.provider import answer
from workers.adapters.memory.batch import MemoryBatch, Operation
from workers.adapters.memory.batch_rows import MemoryBatchRows
from workers.ports import StoreUnavailable

if TYPE_CHECKING:
    from tests.sim.world import World

TICK_S: Final = 20.0
BUSY: Final = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
MISSED: Final = "row-2"
"""A row that the provider leaves out the first time."""


def rows(count: int) -> list[dict[str, Any]]:
    """Return rows of a request."""
    return [
        {"custom_id": f"row-{n}", "body": {"messages": [{"role": "user", "content": f"{n}?"}]}} for n in range(count)
    ]


class ControlPlane:
    """The provider's side: jobs run for some ticks, then end; a lossy world has it busy now and then."""

    def __init__(self, world: "World") -> None:
        self.service = MemoryBatch()
        self.rows = MemoryBatchRows()
        self._world = world
        self._missed = False

    async def work(self) -> None:
        """Go on for ever."""
        world = self._world
        while True:
            await world.clock.sleep_until(world.clock.now() + TICK_S)
            if world.plan.lossy and world.chance.random() < 0.2:
                operation: Operation = world.chance.choice(get_args(Operation))
                # Where nobody polls, a look comes so seldom that it would meet trouble every time.
                if not self.service.troubles(operation) and (world.scenario.polled or operation != "job"):
                    self.service.trouble(operation, BUSY, late=world.chance.random() < 0.5)
            for name in self.service.go_on():
                self._end(name)

    async def tick(self) -> None:
        """Be beat: have some living process look at the jobs that are due, each minute or so."""
        world = self._world
        while True:
            await world.clock.sleep_until(world.clock.now() + TICK_S)
            if living := [worker for worker in world.workers if not worker.process.dead]:
                worker = world.chance.choice(living)
                worker.process.start(_poll(worker))

    def _end(self, job: str) -> None:
        ids = self.service.ids_of(job)
        if MISSED in ids and not self._missed:
            self._missed = True
            ids.remove(MISSED)
        self.service.finish(job, {"BIJOutputSet.jsonl": b"\n".join(answer(each) for each in ids), "error-data": b""})

    def faults(self, run_id: str, result: dict[str, Any]) -> list[str]:
        """Every row is answered, none twice, and no work was given to the provider twice."""
        kept = self.rows.rows(run_id)
        if self._world.forgot and self._world.scenario.signals:
            return []  # begun anew, without the cancel: it finds the jobs that were stopped before
        wrong = [f"{row.custom_id} is {row.state}: {row.code}" for row in kept if row.state != "succeeded"]
        counts = {"total": len(kept), "succeeded": len(kept), "failed": 0, "quarantined": 0, "pending": 0}
        if result["rows"] != counts:
            wrong.append(f"the result counts {result['rows']}, kept are {len(kept)}")
        given = [_ids(each.files) for each in self.service.datasets.values() if each.name and each.files]
        for custom_id in {each for ids in given for each in ids}:
            times = sum(ids.count(custom_id) for ids in given)
            if times > (2 if custom_id == MISSED else 1) and not self._world.forgot:  # else it began anew
                wrong.append(f"{custom_id} was given to the provider {times} times")
        return wrong


def _ids(files: dict[str, bytes]) -> list[str]:
    lines = [json.loads(line) for data in files.values() for line in data.splitlines()]
    return [str(line["custom_id"]) for line in lines if "body" in line]


async def _poll(worker: Any) -> None:
    try:
        await worker.poller.poll()
    except StoreUnavailable:
        return  # the next tick says the same
