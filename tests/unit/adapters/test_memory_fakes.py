"""The scripted model and the silent bell, which are shipped for tests and demos."""

import pytest

from api_contracts.runs import RunQueued
from tests.unit.runners.cell import Cell, chunk
from workers.adapters.memory.bell import MemoryBell, Ring
from workers.adapters.memory.model import OUT_OF_SCRIPT, MemoryModel
from workers.core.chat.acts import SendCall
from workers.ports import Letter, ProviderFailed, StoreUnavailable

CALL = SendCall("run-1", "1.0", "task-1", "token", "svc.pay", "svc", {})
QUEUED = RunQueued(kind="chat", digest="d")


async def test_the_model_reads_chunks_alone_or_together() -> None:
    a, b = chunk({"content": "a"}), chunk({"content": "b"})
    model = MemoryModel([a, [a, b], ()])
    assert [read async for read in model.stream({}, credential="c", request_id="r")] == [[a], [a, b], []]
    assert (model.open, model.asked[0].credential, model.asked[0].request_id) == (0, "c", "r")


async def test_past_its_script_the_model_fails_for_good() -> None:
    model = MemoryModel()
    with pytest.raises(ProviderFailed) as caught:
        await anext(model.stream({}, credential=None, request_id="r"))
    assert caught.value.failure == OUT_OF_SCRIPT
    assert not OUT_OF_SCRIPT.retryable


async def test_the_bell_notes_what_would_have_been_sent_unless_it_is_away() -> None:
    bell = MemoryBell()
    await bell.ring("run-1", "signature", QUEUED)
    await bell.call(CALL)
    assert (bell.rings, bell.calls) == ([Ring("run-1", "signature", QUEUED)], [CALL])
    bell.away = True
    for send in (bell.ring("run-1", None, QUEUED), bell.call(CALL)):
        with pytest.raises(StoreUnavailable):
            await send
    assert (len(bell.rings), len(bell.calls)) == (1, 1)


@pytest.mark.requirement("TOOL-03", "TOOL-08")
async def test_the_bell_delivers_as_the_task_does_and_repeats_are_one() -> None:
    cell = Cell()
    await cell.submitted("run-1")
    for _ in range(2):
        await cell.bell.deliver(cell.store, CALL, 42)
    await cell.bell.deliver(cell.store, CALL, "task-1", "error")
    letters: list[Letter] = []
    stop = cell.store.watch("run-1", "0", letters.append)
    await cell.pass_time(1)
    stop()
    assert [letter.type for letter in letters] == ["tool_result", "tool_result"]
    assert letters[0].data == {"call_id": "1.0", "token": "token", "ok": True, "value": 42}
    assert letters[1].data["detail"] == "failed, see task task-1 in the tool's service"
