"""The SQL archive where SQL shows: durability, locks, outages, what a database refuses."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.migrate import migrate
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
def test_every_connection_syncs_each_commit_to_the_disk(url: str) -> None:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


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
