"""The SQL archive where SQL shows: durability, locks, outages, what a database refuses."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def url(file: Path) -> str:
    url = f"sqlite:///{file}"
    migrate(url)
    return url


@pytest.fixture
async def archive(url: str) -> AsyncIterator[SqlArchive]:
    archive = SqlArchive(url)
    yield archive
    await archive.close()


def record(run_id: str = "run-1", **result: Any) -> RunRecord:
    return RunRecord(run_id, "chat", "completed", 1, "t", {}, result, 1.0, 2.0)


@pytest.mark.requirement("RUN-08")
async def test_a_saved_record_survives_kill_9_of_the_process(url: str, archive: SqlArchive) -> None:
    pipe = asyncio.subprocess.PIPE
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", SAVE_AND_WAIT, url, stdout=pipe)
    assert worker.stdout is not None
    line = await worker.stdout.readline()
    worker.kill()
    await worker.wait()
    assert line == b"saved\n"
    kept = await archive.load("run-1")
    assert kept is not None
    assert kept.result == {"said": "all of it"}


@pytest.mark.requirement("RUN-08")
def test_every_connection_syncs_each_commit_to_the_disk(url: str) -> None:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


async def test_a_save_is_seen_by_another_archive_as_soon_as_it_returns(url: str, archive: SqlArchive) -> None:
    other = SqlArchive(url)
    await archive.save(record(n=1))
    assert await other.load("run-1") == record(n=1)
    await other.close()


async def test_a_locked_file_is_an_outage_and_the_next_try_succeeds(url: str, file: Path) -> None:
    archive = SqlArchive(url, lock_wait_s=0.05)
    holder = sqlite3.connect(file)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="database is locked"):
        await archive.save(record())
    holder.close()
    await archive.save(record())
    assert await archive.load("run-1") == record()
    await archive.close()


async def test_a_save_that_waits_for_the_lock_stops_neither_the_loop_nor_reads(url: str, file: Path) -> None:
    archive = SqlArchive(url, lock_wait_s=10)
    await archive.save(record("run-0"))
    holder = sqlite3.connect(file)
    holder.execute("BEGIN IMMEDIATE")
    saving = asyncio.create_task(archive.save(record("run-1")))
    for _ in range(2):  # the task begins during the first, so the second comes behind it
        assert await archive.load("run-0") == record("run-0")
    assert not saving.done()
    holder.close()
    await saving
    assert await archive.load("run-1") == record("run-1")
    await archive.close()


async def test_an_archive_without_tables_is_an_outage_that_names_the_cure(file: Path) -> None:
    archive = SqlArchive(f"sqlite:///{file}")
    for call in (archive.save(record()), archive.load("run-1"), archive.check()):
        with pytest.raises(StoreUnavailable, match="run the migrations"):
            await call
    migrate(f"sqlite:///{file}")
    await archive.save(record())
    assert await archive.load("run-1") == record()
    await archive.close()


async def test_a_file_that_is_no_database_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("buy milk " * 200)
    archive = SqlArchive(f"sqlite:///{tmp_path}/notes.db")
    with pytest.raises(StoreUnavailable, match="not a database"):
        await archive.save(record())
    await archive.close()


async def test_a_path_that_cannot_be_opened_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    archive = SqlArchive(f"sqlite:///{tmp_path}/folder.db")
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await archive.load("run-1")
    await archive.close()


async def test_an_unreachable_server_is_an_outage_that_hides_the_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    archive = SqlArchive(f"postgresql://u:hunter2@/runs?host={tmp_path}")
    with pytest.raises(StoreUnavailable, match="OperationalError") as caught:
        await archive.save(record())
    assert "hunter2" not in str(caught.value)
    await archive.close()


async def test_a_record_that_is_no_json_is_refused_without_quoting_it(archive: SqlArchive) -> None:
    with pytest.raises(RecordRefused, match="TypeError") as caught:
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


async def test_stored_json_is_plain_ascii_text(archive: SqlArchive, file: Path) -> None:
    await archive.save(record(text="ü\u0000"))
    reader = sqlite3.connect(file)
    assert reader.execute("SELECT result, typeof(result) FROM fw_runs").fetchall() == [
        ('{"text":"\\u00fc\\u0000"}', "text")
    ]
    reader.close()


async def test_the_check_names_the_schema_it_found(archive: SqlArchive) -> None:
    assert await archive.check() == SCHEMA


async def test_the_check_refuses_an_older_schema_and_accepts_a_newer_one(archive: SqlArchive, file: Path) -> None:
    writer = sqlite3.connect(file)
    writer.execute("UPDATE fw_schema_version SET version_num = '0000'")
    writer.commit()
    with pytest.raises(StoreUnavailable, match="schema 0000, this version needs"):
        await archive.check()
    writer.execute("UPDATE fw_schema_version SET version_num = '9999'")
    writer.commit()
    writer.close()
    assert await archive.check() == "9999"


async def test_closing_finishes_what_was_begun_and_refuses_the_rest(url: str, file: Path) -> None:
    archive = SqlArchive(url)
    saving = [asyncio.create_task(archive.save(record(f"run-{n}"))) for n in range(20)]
    await archive.save(record("run-last"))
    await archive.close()
    await archive.close()
    await asyncio.gather(*saving)
    with pytest.raises(StoreUnavailable, match="closed"):
        await archive.load("run-0")
    reader = sqlite3.connect(file)
    assert reader.execute("SELECT count(*) FROM fw_runs").fetchone() == (21,)
    reader.close()
