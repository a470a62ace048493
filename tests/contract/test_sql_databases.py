"""What archive and reader promise on each database where SQL shows: durability, values, schemas, the end."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from api_contracts.client.results import SqlResults, database_url, reader
from workers.adapters.sql.archive import RecordRefused, SqlArchive
from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.migrate import migrate
from workers.adapters.sql.tables import SCHEMA
from workers.ports import RunRecord, StoreUnavailable

SAVE_AND_WAIT = """
import asyncio, sys, threading
from workers.adapters.sql.archive import SqlArchive
from workers.ports import RunRecord
async def main():
    archive = SqlArchive(sys.argv[1])
    await archive.save(RunRecord("run-1", "chat", "completed", 1, "t", {}, {"said": "all of it"}, 1.0, 2.0))
    print("saved", flush=True)
    threading.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def url(empty_database: str) -> str:
    migrate(empty_database)
    return empty_database


@pytest.fixture
async def archive(url: str) -> AsyncIterator[SqlArchive]:
    archive = SqlArchive(url)
    yield archive
    await archive.close()


@pytest.fixture
def results(empty_database: str) -> Iterator[SqlResults]:
    results = SqlResults(empty_database)
    yield results
    results.close()


def record(run_id: str = "run-1", **result: Any) -> RunRecord:
    return RunRecord(run_id, "chat", "completed", 1, "t", {}, result, 1.0, 2.0)


def asked(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement of the database's owner; return its rows."""
    engine = open_engine(url)
    with engine.begin() as connection:
        found = connection.exec_driver_sql(statement)
        rows = [tuple(row) for row in found] if found.returns_rows else []
    engine.dispose()
    return rows


@pytest.mark.requirement("RUN-08")
async def test_a_saved_record_survives_kill_9_of_the_process(url: str, archive: SqlArchive) -> None:
    pipe = asyncio.subprocess.PIPE
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", SAVE_AND_WAIT, url, stdout=pipe)
    assert worker.stdout is not None
    line = await worker.stdout.readline()
    worker.kill()
    await worker.wait()
    assert line == b"saved\n"
    assert await archive.load("run-1") == record(said="all of it")


async def test_a_save_is_seen_by_another_archive_as_soon_as_it_returns(url: str, archive: SqlArchive) -> None:
    other = SqlArchive(url)
    await archive.save(record(n=1))
    assert await other.load("run-1") == record(n=1)
    await other.close()


async def test_an_archive_without_tables_is_an_outage_that_names_the_cure(empty_database: str) -> None:
    archive = SqlArchive(empty_database)
    for call in (archive.save(record()), archive.load("run-1"), archive.check()):
        with pytest.raises(StoreUnavailable, match="run the migrations"):
            await call
    migrate(empty_database)
    await archive.save(record())
    assert await archive.load("run-1") == record()
    await archive.close()


async def test_a_record_that_is_no_json_is_refused_without_quoting_it(archive: SqlArchive) -> None:
    with pytest.raises(RecordRefused, match="NotJson") as caught:
        await archive.save(record(value=type("s3cret", (), {})()))  # the cause names the type
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_numbers_that_json_cannot_say_are_stored_as_null(archive: SqlArchive) -> None:
    await archive.save(record(values=[float("nan"), {"deep": float("inf")}, (float("-inf"), 1.5)], kept=0.5))
    kept = await archive.load("run-1")
    assert kept is not None
    assert kept.result == {"values": [None, {"deep": None}, [None, 1.5]], "kept": 0.5}


async def test_what_rows_are_selected_by_never_holds_what_a_database_cannot_search(archive: SqlArchive) -> None:
    await archive.save(replace(record(), tenant="ac\u0000me\ud800", labels={"k\u0000": "\udfffv", "żółć": "😀"}))
    kept = await archive.load("run-1")
    assert kept is not None
    assert kept.tenant == "ac\ufffdme\ufffd"
    assert kept.labels == {"k\ufffd": "\ufffdv", "żółć": "😀"}


async def test_stored_json_is_plain_ascii_text(url: str, archive: SqlArchive) -> None:
    await archive.save(record(text="ü\u0000"))
    assert asked(url, "SELECT CAST(result AS TEXT) FROM fw_runs") == [('{"text":"\\u00fc\\u0000"}',)]


async def test_the_check_refuses_an_older_schema_and_accepts_a_newer_one(url: str, archive: SqlArchive) -> None:
    assert await archive.check() == SCHEMA
    asked(url, "UPDATE fw_schema_version SET version_num = '0000'")
    with pytest.raises(StoreUnavailable, match="schema 0000, this version needs"):
        await archive.check()
    asked(url, "UPDATE fw_schema_version SET version_num = '9999'")
    assert await archive.check() == "9999"


async def test_closing_finishes_what_was_begun_and_refuses_the_rest(url: str) -> None:
    archive = SqlArchive(url)
    saving = [asyncio.create_task(archive.save(record(f"run-{n}"))) for n in range(20)]
    await archive.save(record("run-last"))
    await archive.close()
    await archive.close()
    await asyncio.gather(*saving)
    with pytest.raises(StoreUnavailable, match="closed"):
        await archive.load("run-0")
    assert asked(url, "SELECT count(*) FROM fw_runs") == [(21,)]


@pytest.mark.requirement("RUN-08")
async def test_a_result_is_read_from_sql_alone(archive: SqlArchive, results: SqlResults) -> None:
    await archive.save(record(text="zażółć\u0000", n=[1e22, 10**30]))
    assert results.get("run-1") == {"text": "zażółć\u0000", "n": [1e22, 10**30]}
    assert await results.aget("run-1") == results.get("run-1")
    assert results.get("run-2") is None
    assert await results.aget("run-2") is None


async def test_a_database_without_our_table_has_no_result(empty_database: str, results: SqlResults) -> None:
    assert results.get("run-1") is None
    migrate(empty_database)
    archive = SqlArchive(empty_database)
    await archive.save(record(n=1))
    assert results.get("run-1") == {"n": 1}
    await archive.close()


def test_the_reader_cannot_write(url: str) -> None:
    engine = reader(database_url(url))
    with engine.connect() as connection, pytest.raises(SQLAlchemyError, match=r"readonly database|read-only transact"):
        connection.exec_driver_sql("DELETE FROM fw_runs")
    engine.dispose()
