"""The stage of the golden stories: workers of every kind of work in one loop, on the memory adapters and a clock that
stands still. A run is begun on it, or put on it in the middle of a journal that another release wrote.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic import SecretStr, TypeAdapter

from api_contracts.client.envelope import opened
from api_contracts.client.scripts import digest_of, spill
from api_contracts.names import Kind, queue_of
from api_contracts.runs import TERMINAL, RunQueued
from tests.golden.files import Around, Golden
from tests.golden.outside import Oracle, Tools, answer_of
from tests.unit.core.batch.provider import answer
from tests.unit.core.stt.recogniser import Recogniser, Ways
from tests.unit.runners.batch_cell import until_rung
from tests.unit.runners.cell import TIMING, Cell, Worker
from workers.adapters.credentials import Credentials
from workers.adapters.csl import CslReferences
from workers.adapters.memory.audio import MemoryAudio
from workers.adapters.memory.batch import MemoryBatch, MemoryDataset, MemoryJob
from workers.adapters.memory.batch_rows import KeptRow, MemoryBatchRows, _Batch, _Watched
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.runs import _Run
from workers.adapters.memory.speech import MemoryLine, MemorySpeech
from workers.bootstrap import Parts, WorkerKinds
from workers.runners.batch import BatchParts
from workers.runners.outcome import Ended, Outcome, Parked
from workers.runners.polling import Poller
from workers.runners.reception import Message
from workers.runners.talks import Talks

RUN_ID: Final = "golden-1"
MISSED: Final = "row-1"
"""A row that the provider leaves out the first time."""
STEP_S: Final = 0.1
_HOURS: Final = 4 * 3600.0
_NO_KEYS: Final = Credentials(SecretStr("k"), {}, None)


@dataclass
class Surroundings:
    """What of a batch lies in SQL and with the provider."""

    rows: list[KeptRow]
    life: int
    watched: list[_Watched]
    datasets: dict[str, MemoryDataset]
    jobs: dict[str, MemoryJob]


_SURROUNDINGS: Final = TypeAdapter(Surroundings)


class StageAudio(MemoryAudio):
    """Keeps what is trimmed: a journal may be taken up at an earlier place."""

    async def trim(self, run_id: str, before: str) -> None:
        """See the port."""


class StageWorker(Worker):
    """A worker of every kind."""

    kind: Kind = "chat"

    def message(self, run_id: str, request: Any = None) -> Message:
        """See `Worker`."""
        return Message(run_id, self.kind, request or {"stored": "d"}, lambda digest: f"{run_id} by {digest}")


@dataclass
class Stage(Cell):
    """One run, and all that it meets."""

    kind: Kind = "chat"
    lives: int = 0
    to_say: list[bytes] = field(default_factory=list)
    """What the producer says next, a moment's worth each; then it hangs up."""
    ears: dict[MemoryLine, Recogniser] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.audio = StageAudio(self.clock)
        self.speech = MemorySpeech(answer=self._hear)
        self.service, self.rows = MemoryBatch(), MemoryBatchRows()
        batches = BatchParts(self.service, self.rows, cast("Any", None), self.clock, lambda: 1.0)
        self.kinds = WorkerKinds(
            Parts(Oracle(self.clock), Tools(self.clock), self.speech, self.audio, cast("Any", None), batches,
                  CslReferences(), self.bell, self.clock, _NO_KEYS, self.circuits,
                  Talks(self.archive.conversations, self.store.known, self.clock))
        )  # fmt: skip
        self._answered = 0
        self._golden: Golden | None = None

    # -- a run ---------------------------------------------------------------------------------------------------------

    async def ask(self, request: Mapping[str, Any]) -> None:
        """Record the run, as the client does."""
        queued, blob = spill(
            RunQueued(kind=self.kind, digest=digest_of(request), request=dict(request), writer="golden")
        )
        assert await self.store.submit(RUN_ID, queued, blob) == "created"

    def take_up(self, golden: Golden, upto: int) -> None:
        """Put a run here whose worker died after its event number `upto`."""
        events = golden.journal[:upto]
        first, last = events[0].data, events[-1]
        epoch = max(event.epoch for event in events)
        queue = queue_of(golden.kind, first.get("lane", "interactive"))
        self.store._runs[RUN_ID] = _Run(str(first["digest"]), list(events), queue, epoch, "lost:1:x" if epoch else "")
        self.store._runs[RUN_ID].status = TERMINAL.get(last.type)
        self.store._due[RUN_ID] = self.clock.now()
        self.store._blobs.update({(RUN_ID, number): text for number, text in golden.blobs.items()})
        box = self.store._boxes[RUN_ID]
        box.letters += [letter for after, letter in golden.letters if after <= upto]
        box.last = max((int(letter.id.partition("-")[0]) for letter in box.letters), default=0)
        self.store._runs[RUN_ID].cancelled = any(each.type == "cancel" for each in box.letters)
        if around := golden.around_at(last.seq):
            self._put_around(_SURROUNDINGS.validate_python(around))
        self.audio._streams[RUN_ID].entries += golden.audio
        self._golden = golden

    async def life(self, ends_after: str = "", times: int = 1) -> tuple[Worker, "asyncio.Task[Outcome]"]:
        """Have a new worker serve the run until it is done with it, or until it wrote so many events of the type."""
        before = len(await self.journal(RUN_ID))
        worker = self.worker_of()
        serving = await worker.begin(RUN_ID)
        end = self.clock.now() + _HOURS
        while not serving.done():
            types = [event.type for event in (await self.journal(RUN_ID))[before:]]
            if ends_after and types.count(ends_after) >= times:
                break
            assert self.clock.now() < end, f"nothing ends it: {types[-5:]}"
            await self._moment(worker)
        return worker, serving

    async def go_on(self, worker: Worker, serving: "asyncio.Task[Outcome]") -> Outcome:
        """Let a life go on to its end; a run that parks is rung for."""
        end = self.clock.now() + _HOURS
        while not serving.done():
            assert self.clock.now() < end, f"nothing ends it: {(await self.types(RUN_ID))[-5:]}"
            await self._moment(worker)
        outcome = serving.result()
        if isinstance(outcome, Parked) and await worker.reception.park(outcome):
            await self.rung()
        await worker.die()
        return outcome

    def worker_of(self) -> StageWorker:
        """Return a new process."""
        self.lives += 1
        worker = StageWorker(self, f"host:{self.lives}:abc", self.kinds)
        worker.kind = self.kind
        return worker

    async def finish(self) -> Outcome:
        """Have the run served, by a new worker each time, until it ends."""
        for _ in range(40):
            outcome = await self.go_on(*await self.life())
            if isinstance(outcome, Ended):
                return outcome
        raise AssertionError("the run does not end")

    async def rung(self) -> None:
        """Let time pass, and the provider work, until a parked run is rung for."""
        sweeper = self.worker("sweeper").sweeper
        poller = Poller(self.service, self.rows, self.store, sweeper, self.clock, 30.0)
        await until_rung(self, self._work, poller, sweeper)

    def around(self, seq: int) -> Around:
        """Return what stands around the journal now."""
        batch = self.rows._batches.get(RUN_ID, _Batch())
        found = Surroundings(
            list(batch.rows.values()), batch.life, list(self.rows._jobs.values()), self.service.datasets,
            self.service.jobs,
        )  # fmt: skip
        return Around(seq, _SURROUNDINGS.dump_python(found, mode="json"))

    # ------------------------------------------------------------------------------------------------------------------

    async def _moment(self, worker: Worker) -> None:
        """Let a moment pass: leases are renewed, somebody speaks, the other service answers, golden letters come."""
        if self.to_say:
            self.audio.add(RUN_ID, self.to_say.pop(0))
            if not self.to_say:
                self.audio.add(RUN_ID, None, {"type": "end"})
        await self.pass_time(STEP_S, step=STEP_S)
        await worker.keeper.renew()
        for call in self.bell.calls[self._answered :]:
            value = {"call_id": call.call_id, "token": call.token} | opened(
                answer_of(call.task.removeprefix("svc.")), "result"
            )
            await self.store.signal(RUN_ID, "tool_result", value, f"{call.call_id}:result")
        self._answered = len(self.bell.calls)
        if self._golden is not None:
            await self._bring_letters(self._golden)

    async def _bring_letters(self, golden: Golden) -> None:
        """Bring what came to the golden run after the cut, but results of calls that are other calls now."""
        journal = await self.journal(RUN_ID)
        reserved = {event.data["token"]: event for event in journal if event.data.get("token")}
        for number, (_, letter) in enumerate(golden.letters):
            if letter.type != "tool_result" or letter.data["token"] in reserved:
                await self.store.signal(RUN_ID, letter.type, letter.data, f"golden-{number}")

    def _work(self) -> None:
        """Let every job that is at work end; the provider leaves one row out the first time."""
        for name in self.service.go_on():
            ids = self.service.ids_of(name)
            told = [each for each in ids if each != MISSED or len(ids) == 1]
            self.service.finish(name, {"BIJOutputSet.jsonl": b"\n".join(map(answer, told)), "error-data": b""})

    def _put_around(self, found: Surroundings) -> None:
        taken = {row.custom_id for row in found.rows if row.custom_id is not None}
        self.rows._batches[RUN_ID] = _Batch(found.life, {row.number: row for row in found.rows}, taken)
        self.rows._jobs = {(RUN_ID, each.job.shard): each for each in found.watched}
        self.service.datasets, self.service.jobs = found.datasets, found.jobs

    def _hear(self, line: MemoryLine, message: bytes | str) -> None:
        ears = self.ears.setdefault(line, Recogniser(Ways()))
        answers = ears.audio(message) if isinstance(message, bytes) else ears.text(json.loads(message))
        line.say(*[json.dumps(each) for each in answers])


def stage_of(golden: Golden, upto: int) -> Stage:
    """Return a stage with the run as its worker left it after event `upto`, when its lease has run out."""
    at = golden.journal[upto - 1].at / 1000
    if golden.audio:
        at = max(at, int(golden.audio[-1].id.partition("-")[0]) / 1000)
    stage = Stage(clock=ManualClock(at + TIMING.lease_s), kind=golden.kind)
    stage.take_up(golden, upto)
    return stage
