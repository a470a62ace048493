"""A run whose journal is gone but whose result SQL has: the same id is the same run."""

import pytest

from api_contracts.keys import new_run_id
from tests.unit.runners.cell import QUESTION, Cell, says
from workers.adapters.memory.archive import MemoryArchive
from workers.adapters.memory.model import MemoryModel
from workers.ports import RunRecord, StoreUnavailable
from workers.runners.outcome import Ended


def record_of(run_id: str) -> RunRecord:
    said = {"role": "assistant", "content": "long ago"}
    result = {"run_id": run_id, "kind": "chat", "status": "completed", "message": said}
    return RunRecord(run_id, "chat", "completed", 3, "default", {}, result, 1.0, 2.0)


@pytest.mark.requirement("RUN-01", "RUN-10")
async def test_a_message_of_a_run_that_only_sql_remembers_ends_as_sql_says_and_asks_no_model() -> None:
    cell = Cell(MemoryModel(says("again")))
    run_id = new_run_id()
    await cell.archive.save(record_of(run_id))
    outcome = await cell.worker().serve(run_id, QUESTION)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "long ago"
    assert cell.model.asked == []
    assert await cell.types(run_id) == ["run.queued", "run.started", "run.completed"]
    kept = await cell.archive.load(run_id)
    assert kept is not None
    assert (kept.epoch, kept.finished_at) == (3, 2.0), "the first record stands"


class AwayAtFirst(MemoryArchive):
    """SQL that does not answer the first question."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def load(self, run_id: str) -> RunRecord | None:
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailable("SQL is away")
        return await super().load(run_id)


async def test_a_run_begins_although_sql_cannot_be_asked_whether_it_was_there_before() -> None:
    cell = Cell(MemoryModel(says("new")))
    cell.archive = archive = AwayAtFirst()
    outcome = await cell.worker().serve(new_run_id(), QUESTION)
    assert isinstance(outcome, Ended)
    assert outcome.result["message"]["content"] == "new"
    assert archive.asked == 1
