"""What every archive of finished runs promises, held against each implementation of the port."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import pytest

from api_contracts.keys import new_run_id
from workers.adapters.memory.archive import MemoryArchive
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.migrate import migrate
from workers.ports import Archive, Begun, RunRecord
from workers.ports.register import FinishedRuns, Wanted


class Kept(Archive, FinishedRuns, Protocol):
    """What keeps finished runs also lists them."""


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    """An archive that may hold other runs already: each test makes run ids of its own."""
    if request.param == "memory":
        yield MemoryArchive()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/runs.db"
        migrate(url)
    else:
        url = request.getfixturevalue("postgres_url")
    kept = SqlArchive(url)
    yield kept
    await kept.close()


def finished(**changes: Any) -> RunRecord:
    record = RunRecord(
        run_id=new_run_id(),
        kind="chat",
        status="completed",
        epoch=3,
        tenant="acme",
        labels={"team": "search"},
        result={"message": {"role": "assistant", "content": "hi"}, "rounds": 1},
        queued_at=1_700_000_000.125,
        finished_at=1_700_000_001.000_001,
    )
    return replace(record, **changes)


@pytest.mark.requirement("RUN-08")
async def test_a_saved_record_is_loaded_as_it_was(archive: Archive) -> None:
    record = finished()
    await archive.save(record)
    assert await archive.load(record.run_id) == record


async def test_an_unknown_run_has_no_record(archive: Archive) -> None:
    await archive.save(finished())
    assert await archive.load(new_run_id()) is None


async def test_run_ids_differ_by_case(archive: Archive) -> None:
    lower, upper = finished(run_id=new_run_id() + "a"), finished(status="failed")
    upper = replace(upper, run_id=lower.run_id[:-1] + "A")
    await archive.save(lower)
    await archive.save(upper)
    assert await archive.load(lower.run_id) == lower
    assert await archive.load(upper.run_id) == upper


async def test_saving_the_same_record_again_changes_nothing(archive: Archive) -> None:
    record = finished()
    await archive.save(record)
    await archive.save(record)
    assert await archive.load(record.run_id) == record


async def test_a_later_epoch_replaces_every_field(archive: Archive) -> None:
    record = finished()
    later = finished(
        run_id=record.run_id, kind="batch", status="failed", epoch=4, tenant="other", labels={}, result={"failure": 1},
        finished_at=2.0, idempotency_key="k",
    )  # fmt: skip
    await archive.save(record)
    await archive.save(later)
    assert await archive.load(record.run_id) == later


async def test_an_older_epoch_is_dropped_in_silence(archive: Archive) -> None:
    record = finished()
    await archive.save(record)
    await archive.save(replace(record, epoch=2, status="failed", result={}))
    assert await archive.load(record.run_id) == record


@pytest.mark.requirement("RUN-03")
async def test_a_record_of_a_lost_journal_never_replaces_one_of_the_next_whatever_its_epoch(archive: Archive) -> None:
    record = finished(epoch=1)
    before = replace(record, epoch=7, status="failed", queued_at=record.queued_at - 60.0)
    await archive.save(before)
    await archive.save(record)
    assert await archive.load(record.run_id) == record
    await archive.save(before)
    assert await archive.load(record.run_id) == record


# -- what has begun ----------------------------------------------------------------------------------------------------


def begun(record: RunRecord) -> Begun:
    return Begun(record.run_id, record.kind, record.tenant, record.labels, record.queued_at, "key")


async def test_what_has_begun_is_noted_once_for_each_journal_and_the_first_stands(archive: Archive) -> None:
    first = begun(finished())
    assert (await archive.remembered(first.run_id))[1] is None
    assert await archive.note(first)
    assert await archive.note(first), "each life of a run says so again"
    assert not await archive.note(replace(first, queued_at=first.queued_at + 60.0))
    assert (await archive.remembered(first.run_id))[1] == first


async def test_a_result_takes_the_note_of_its_own_journal_away_and_no_later_one(archive: Archive) -> None:
    record = finished()
    await archive.note(begun(record))
    await archive.save(replace(record, queued_at=record.queued_at - 60.0))
    assert (await archive.remembered(record.run_id))[1] == begun(record)
    await archive.save(record)
    assert (await archive.remembered(record.run_id))[1] is None


async def test_the_same_epoch_may_correct_its_record(archive: Archive) -> None:
    record = finished()
    again = replace(record, result={"message": "second try"}, finished_at=record.finished_at + 1)
    await archive.save(record)
    await archive.save(again)
    assert await archive.load(record.run_id) == again


async def test_the_latest_epoch_wins_in_any_order_of_arrival(archive: Archive) -> None:
    records = [finished(run_id="run-of-many-epochs-" + new_run_id(), epoch=epoch) for epoch in range(1, 13)]
    run_id = records[0].run_id
    shuffled = [replace(records[i * 7 % 12], run_id=run_id) for i in range(12)]
    await asyncio.gather(*(archive.save(record) for record in shuffled))
    kept = await archive.load(run_id)
    assert kept is not None
    assert kept.epoch == 12


async def test_many_runs_are_saved_at_once_without_mixing(archive: Archive) -> None:
    records = [finished(result={"n": n}) for n in range(40)]
    await asyncio.gather(*(archive.save(record) for record in records))
    assert await asyncio.gather(*(archive.load(record.run_id) for record in records)) == records


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": [{"b": [[], {}, None, True, False]}]}, id="nested"),
        pytest.param("zażółć 日本語 😀 \u2028 \" ' \\ \\u0000 %s :name", id="unicode and what looks like markup"),
        pytest.param("before\u0000after", id="NUL"),
        pytest.param("half a pair \ud83d", id="lone surrogate"),
        pytest.param([0.1, 1e22, 5e-324, 1.0, -0.0, 1.7976931348623157e308], id="floats"),
        pytest.param([2**53 + 1, -(2**64), 10**60], id="big integers"),
        pytest.param("x" * 2_000_000, id="large"),
    ],
)
async def test_a_result_keeps_its_values_exactly(archive: Archive, value: Any) -> None:
    record = finished(result={"value": value}, labels={"ключ": 'значение \\ " %'})
    await archive.save(record)
    kept = await archive.load(record.run_id)
    assert kept == record
    assert kept is not None
    assert repr(kept.result["value"]) == repr(value)  # repr also tells 1 from 1.0 and 0.0 from -0.0


async def test_the_order_of_a_results_fields_is_kept(archive: Archive) -> None:
    record = finished(result={"z": 1, "a": 2, "m": {"y": 1, "b": 2}})
    await archive.save(record)
    kept = await archive.load(record.run_id)
    assert kept is not None
    assert list(kept.result) == ["z", "a", "m"]
    assert list(kept.result["m"]) == ["y", "b"]


async def test_the_record_does_not_follow_later_changes_of_the_callers_values(archive: Archive) -> None:
    result = {"message": {"content": "hi"}}
    record = finished(result=result, labels=MappingProxyType({"a": "b"}))
    await archive.save(record)
    result["message"]["content"] = "changed"
    kept = await archive.load(record.run_id)
    assert kept is not None
    assert kept.result == {"message": {"content": "hi"}}
    kept.result["message"]["content"] = "changed again"
    assert (await archive.load(record.run_id)).result == {"message": {"content": "hi"}}  # type: ignore[union-attr]


@pytest.mark.requirement("RUN-18")
async def test_finished_runs_are_listed_newest_first_and_without_their_results(archive: Kept) -> None:
    tenant, failure = new_run_id(), {"code": "provider_unavailable", "message": "a\u0000b"}
    said = {"run_id": "r", "kind": "chat", "status": "failed", "failure": failure, "message": "secret\u0000" * 999}
    records = [finished(tenant=tenant, finished_at=1_700_000_000.0 + n, status="failed", result=said) for n in range(4)]
    for record in records:
        await archive.save(record)
    await archive.save(finished(tenant=tenant, finished_at=1_700_000_009.0, labels={'q"t': "x", "team": "ads"}))
    lines = await archive.finished(Wanted(tenant=tenant), 3)
    assert [line.run_id for line in lines][1:] == [records[3].run_id, records[2].run_id]
    assert [(line.standing, line.why, line.last) for line in lines] == [
        ("completed", "", "run.completed"), *[("failed", "provider_unavailable", "run.failed")] * 2,
    ]  # fmt: skip
    assert lines[1].labels == {"team": "search"}
    assert (lines[1].epoch, lines[1].ended_at, lines[1].queued_at) == (3, 1_700_000_003.0, 1_700_000_000.125)
    assert "secret" not in repr(lines)


@pytest.mark.requirement("RUN-18")
@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (Wanted(standings={"failed"}), 1),
        (Wanted(standings={"queued"}), 0),
        (Wanted(kind="chat"), 2),
        (Wanted(kind="stt"), 0),
        (Wanted(labels={"team": "search"}), 1),
        (Wanted(labels={"team": "search", "none": "x"}), 0),
        (Wanted(labels={"q\"'t$.[0]": "it's"}), 1),
        (Wanted(since=1_700_000_005.0), 1),
    ],
)
async def test_finished_runs_are_chosen_by_what_is_known_of_them(archive: Kept, wanted: Wanted, number: int) -> None:
    tenant = new_run_id()
    await archive.save(finished(tenant=tenant, status="failed"))
    labels = {"q\"'t$.[0]": "it's"}
    await archive.save(finished(tenant=tenant, finished_at=1_700_000_009.0, labels=labels))
    assert len(await archive.finished(replace(wanted, tenant=tenant), 10)) == number
