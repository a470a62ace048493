"""Tools of ours (TOOL-21): a model submits a batch once, reads its rows, reads a transcript, all of its own tenant."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from api_contracts import stt
from api_contracts.chat import ChatRequest
from api_contracts.client.scripts import digest_of
from api_contracts.names import Kind
from api_contracts.runs import EventData, RunCompleted, RunQueued
from tests.waiting import idle
from workers.adapters.memory.archive import MemoryArchive
from workers.adapters.memory.batch_rows import MemoryBatchRows
from workers.adapters.memory.bell import MemoryBell
from workers.adapters.memory.clock import ManualClock
from workers.adapters.memory.runs import MemoryRuns
from workers.adapters.tools import Registry, tool
from workers.core.batch.outputs import RowOutcome
from workers.core.chat.schema import schema_of
from workers.ports import NewRow, RunRecord, StoreUnavailable, ToolOutcome
from workers.runners.own_tools import CARDS, PARENT, ROWS, SUBMIT, TRANSCRIPT, OwnTools
from workers.settings import Timing

pytestmark = pytest.mark.requirement("TOOL-21")

TIMING = Timing(lease_s=10, renew_s=3, sweep_s=5, lost_message_s=30, longest_look_s=60)


class FlakyRuns(MemoryRuns):
    """Redis that loses the replies to the first `lost` submits."""

    lost = 0

    async def submit(self, run_id: str, queued: RunQueued, blob: str | None) -> Any:
        """See the port."""
        reply = await super().submit(run_id, queued, blob)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable("no reply")
        return reply


class Desk:
    """A worker's parts, and what a run of a tenant does with the tools."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = FlakyRuns(self.clock, TIMING)
        self.archive, self.rows = MemoryArchive(), MemoryBatchRows()
        self.bell = MemoryBell()
        self.own = OwnTools(self.store, self.archive, self.rows, self.bell, self.clock)

    async def use(
        self, name: str, arguments: dict[str, Any], *, tenant: str = "a", key: str = "k-1", **fields: Any
    ) -> ToolOutcome:
        assert schema_of(dict(CARDS[name].parameters))(arguments) is None
        model = {} if "conversation" in fields else {"model": "m"}
        given = {**model, "messages": [{"role": "user", "content": "hi"}], "tenant": tenant, **fields}
        tools = self.own.of("run-1", ChatRequest.model_validate(given), Registry())
        return await tools.run(name, arguments, key=key)

    async def told(self, name: str, arguments: dict[str, Any], **fields: Any) -> dict[str, Any]:
        outcome = await self.use(name, arguments, **fields)
        assert outcome.ok, outcome
        told = json.loads(outcome.content)
        assert isinstance(told, dict)
        return told

    async def run(self, run_id: str, kind: Kind, events: Sequence[EventData] = (), tenant: str = "a") -> None:
        """Have a live run with these events."""
        request = {"model": "m"}
        queued = RunQueued(kind=kind, digest=digest_of(request), tenant=tenant, request=request)
        await self.store.submit(run_id, queued, None)
        granted: Any = await self.store.acquire(run_id, "w", "{}")
        end = "completed" if any(isinstance(each, RunCompleted) for each in events) else None
        await self.store.append(granted.lease, 1, list(events), terminal=end)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_name_that_is_the_services_own_is_refused() -> None:
    @tool(effect="pure", name="fw_look")
    def look() -> None: ...

    with pytest.raises(ValueError, match="tools of the service itself"):
        Registry([look])


# -- submitting --------------------------------------------------------------------------------------------------------


async def test_a_batch_is_submitted_once_for_a_call_however_often_that_is_made(desk: Desk) -> None:
    prompts = {"prompts": ["one", "two"], "system_prompt": "Be brief."}
    fields = {"labels": {"team": "x"}, "lane": "background", "credential": "second"}
    first = await desk.told(SUBMIT, prompts, **fields)
    assert await desk.told(SUBMIT, prompts, **fields) == first
    assert (await desk.told(SUBMIT, prompts, key="k-2"))["batch"] != first["batch"]
    (queued,) = await desk.store.read(first["batch"])
    request = queued.data["request"]
    assert (queued.data["kind"], queued.data["tenant"], queued.data["lane"]) == ("batch", "a", "background")
    assert queued.data["labels"] == {"team": "x", PARENT: "run-1"}
    assert (request["model"], request["system_prompt"], request["credential"]) == ("m", "Be brief.", "second")
    assert [row["body"]["messages"][0]["content"] for row in request["rows"]] == ["one", "two"]
    assert {ring.run_id for ring in desk.bell.rings} >= {first["batch"]}


async def test_the_same_call_of_another_tenant_is_another_batch(desk: Desk) -> None:
    first = await desk.told(SUBMIT, {"prompts": ["one"]})
    assert await desk.told(SUBMIT, {"prompts": ["one"]}, tenant="b") != first


async def test_a_submit_whose_reply_was_lost_is_made_again_and_is_one_batch(desk: Desk) -> None:
    desk.store.lost = 1
    telling = asyncio.create_task(desk.told(SUBMIT, {"prompts": ["one"]}))
    await idle()
    assert not telling.done()
    desk.clock.advance(1.0)
    told = await telling
    assert [event.type for event in await desk.store.read(told["batch"])] == ["run.queued"]


async def test_labels_that_are_full_still_say_the_parent(desk: Desk) -> None:
    told = await desk.told(SUBMIT, {"prompts": ["one"]}, labels={f"l{n}": "x" for n in range(32)})
    (queued,) = await desk.store.read(told["batch"])
    assert (len(queued.data["labels"]), queued.data["labels"][PARENT]) == (32, "run-1")


async def test_without_a_model_in_the_request_there_is_no_batch(desk: Desk) -> None:
    outcome = await desk.use(SUBMIT, {"prompts": ["one"]}, conversation="c-1")
    assert not outcome.ok


@pytest.mark.parametrize("prompts", [[], [""], ["x"] * 1001, ["x" * 32_001], "one"])
def test_what_a_model_may_submit_is_bounded(prompts: Any) -> None:
    assert schema_of(dict(CARDS[SUBMIT].parameters))({"prompts": prompts}) is not None


# -- rows --------------------------------------------------------------------------------------------------------------


def answered(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()


async def a_batch(desk: Desk, run_id: str, texts: Sequence[str]) -> None:
    await desk.run(run_id, "batch")
    await desk.rows.restart(run_id, 1)
    await desk.rows.add(run_id, 1, [NewRow(n, f"p-{n}", 1, 2, b"{}") for n, _ in enumerate(texts, 1)])
    await desk.rows.settle(
        run_id, 1, [RowOutcome(n, "succeeded", response=answered(text)) for n, text in enumerate(texts, 1) if text]
    )


async def test_rows_are_read_in_pages(desk: Desk) -> None:
    await a_batch(desk, "batch-1", ["one", "", "three"])
    assert await desk.told(ROWS, {"batch": "batch-1", "limit": 2}) == {
        "status": "live",
        "rows": [{"row": 1, "state": "succeeded", "text": "one"}, {"row": 2, "state": "pending"}],
        "next": 2,
    }
    assert await desk.told(ROWS, {"batch": "batch-1", "after": 2}) == {
        "status": "live", "rows": [{"row": 3, "state": "succeeded", "text": "three"}],
    }  # fmt: skip


async def test_a_page_is_no_larger_than_a_model_can_read(desk: Desk) -> None:
    await a_batch(desk, "batch-1", ["ż" * 9000] * 50)
    page = await desk.told(ROWS, {"batch": "batch-1", "limit": 50})
    assert len(json.dumps(page, ensure_ascii=False).encode()) < 60_000
    assert page["next"] == len(page["rows"]) == 6
    assert (len(page["rows"][0]["text"]), page["rows"][0]["cut"]) == (4000, True)
    rows = 0
    while "next" in page:
        rows += len(page["rows"])
        page = await desk.told(ROWS, {"batch": "batch-1", "limit": 50, "after": page["next"]})
    assert rows + len(page["rows"]) == 50


@pytest.mark.parametrize("where", ["journal", "sql"])
async def test_nothing_is_told_of_what_is_another_tenants_or_of_another_kind(desk: Desk, where: str) -> None:
    """And what is told is the same as of what there is not."""
    batch, session, chat = "batch-1", "session-1", "chat-1"
    if where == "journal":
        await a_batch(desk, batch, ["secret"])
        await desk.run(session, "stt", [final("secret")])
        await desk.run(chat, "chat")
    else:
        for run_id, kind in ((batch, "batch"), (session, "stt"), (chat, "chat")):
            await desk.archive.save(RunRecord(run_id, kind, "completed", 1, "a", {}, {"text": "secret"}, 1.0, 2.0))
    assert (await desk.use(ROWS, {"batch": batch})).ok
    assert (await desk.use(TRANSCRIPT, {"session": session})).ok
    nothing = await desk.use(ROWS, {"batch": "no-such-run"}), await desk.use(TRANSCRIPT, {"session": "no-such-run"})
    for run_id, tenant in ((batch, "b"), (chat, "a"), (session, "a"), ("not an id", "a")):
        assert await desk.use(ROWS, {"batch": run_id}, tenant=tenant) == nothing[0]
    for run_id, tenant in ((session, "b"), (chat, "a"), (batch, "a"), ("", "a")):
        assert await desk.use(TRANSCRIPT, {"session": run_id}, tenant=tenant) == nothing[1]
    assert not nothing[0].ok
    assert not nothing[1].ok


# -- transcripts -------------------------------------------------------------------------------------------------------


def final(text: str, *, glued: bool | None = None) -> stt.SttFinal:
    return stt.SttFinal(
        conn=1, text=text, start=0.0, end=1.0, segments=[0], words=[], glued=glued, anchor_entry="0", anchor_at=0
    )


def interim(text: str) -> stt.SttInterim:
    return stt.SttInterim(conn=1, text=text, start=1.0, end=2.0, segments=[1])


async def test_a_live_transcript_is_read_from_where_the_last_part_ended(desk: Desk) -> None:
    await desk.run("session-1", "stt", [interim("goo"), final("good morning"), interim("ev"), interim("every")])
    whole = {"status": "live", "text": "good morning", "next": 12, "characters": 12, "not_final": "every"}
    assert await desk.told(TRANSCRIPT, {"session": "session-1"}) == whole
    part = await desk.told(TRANSCRIPT, {"session": "session-1", "limit": 4})
    assert part == {"status": "live", "text": "good", "next": 4, "characters": 12}
    assert (await desk.told(TRANSCRIPT, {"session": "session-1", "offset": 4}))["text"] == " morning"
    assert (await desk.told(TRANSCRIPT, {"session": "session-1", "offset": 99}))["next"] == 12


async def test_what_was_not_final_is_void_once_it_is_said_otherwise(desk: Desk) -> None:
    await desk.run("session-1", "stt", [interim("goo"), final("good"), final("bye", glued=True)])
    assert await desk.told(TRANSCRIPT, {"session": "session-1"}) == {
        "status": "live", "text": "goodbye", "next": 7, "characters": 7,
    }  # fmt: skip


async def test_a_session_that_ended_is_read_from_its_journal_or_its_result(desk: Desk) -> None:
    await desk.run("session-1", "stt", [final("good"), RunCompleted(result={"run_id": "session-1"})])
    assert (await desk.told(TRANSCRIPT, {"session": "session-1"}))["status"] == "completed"
    record = RunRecord("session-2", "stt", "completed", 1, "a", {}, {"text": "good day"}, 1.0, 2.0)
    await desk.archive.save(record)
    told = await desk.told(TRANSCRIPT, {"session": "session-2", "offset": 5})
    assert (told["status"], told["text"]) == ("completed", "day")
