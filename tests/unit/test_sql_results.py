"""Reading results as a producer does: no service, no writing, and precise words when something is missing."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_contracts.client.results import (
    BadDatabaseUrl,
    MissingExtra,
    ResultsUnavailable,
    SqlResults,
    database_url,
)
from api_contracts.keys import BadRunId
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.migrate import migrate
from workers.ports import RunRecord

WHAT_IT_IMPORTS = """
import sys, api_contracts.client.results
print(sorted({"sqlalchemy", "workers", "alembic", "psycopg"} & set(sys.modules)))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a folder with 100% of #" / "runs.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def results(url: str) -> Iterator[SqlResults]:
    results = SqlResults(url)
    yield results
    results.close()


async def archived(url: str, **result: object) -> None:
    migrate(url)
    archive = SqlArchive(url)
    await archive.save(RunRecord("run-1", "chat", "completed", 1, "t", {}, result, 1.0, 2.0))
    await archive.close()


async def test_reading_before_the_first_worker_finds_nothing_and_makes_nothing(file: Path, results: SqlResults) -> None:
    assert results.get("run-1") is None
    assert await results.aget("run-1") is None
    assert not file.parent.exists()


async def test_a_file_that_was_replaced_is_read_anew(url: str, file: Path, results: SqlResults) -> None:
    await archived(url, n=1)
    assert results.get("run-1") == {"n": 1}
    for old in file.parent.iterdir():
        old.unlink()
    await archived(url, n=2)
    assert results.get("run-1") == {"n": 2}


async def test_reading_goes_on_while_a_writer_holds_the_file(url: str, file: Path, results: SqlResults) -> None:
    await archived(url, n=1)
    holder = sqlite3.connect(file)
    holder.execute("BEGIN IMMEDIATE")
    assert results.get("run-1") == {"n": 1}
    holder.close()


async def test_a_database_that_cannot_be_read_is_not_a_missing_result(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("buy milk " * 200)
    results = SqlResults(f"sqlite:///{tmp_path}/notes.db")
    with pytest.raises(ResultsUnavailable, match="not a database"):
        await results.aget("run-1")
    results.close()


async def test_a_server_that_does_not_answer_is_not_a_missing_result(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    results = SqlResults(f"postgresql://u:hunter2@/runs?host={tmp_path}")
    with pytest.raises(ResultsUnavailable) as caught:
        await results.aget("run-1")
    assert "hunter2" not in str(caught.value)
    results.close()


def test_a_bad_run_id_is_refused(results: SqlResults) -> None:
    with pytest.raises(BadRunId):
        results.get("no spaces")


def test_importing_it_needs_neither_sqlalchemy_nor_the_service() -> None:
    done = subprocess.run([sys.executable, "-c", WHAT_IT_IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("url", "gone", "words"),
    [
        ("sqlite:///x.db", "sqlalchemy", r"pip install 'fireworks-workers\[sql\]'"),
        ("postgresql://h/d", "psycopg", r"postgresql needs the driver psycopg.*pip install 'psycopg"),
    ],
)
def test_a_missing_package_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, url: str, gone: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(MissingExtra, match=words):
        SqlResults(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:hunter2@h/d", "'mysql' is not supported"),
        ("postgresql+asyncpg://u:hunter2@h/d", "'postgresql.asyncpg' is not supported"),
        ("hunter2", "cannot be read"),
        ("postgresql://u:hunter2@h:port/d", "cannot be read"),
        ("", "cannot be read"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite://hunter2/x.db", "without host"),
        ("sqlite:///x.db?mode=ro", "no options"),
        ("sqlite:///what?/x.db", "no question mark"),
        ("sqlite:///file:x.db", "without host and 'file:'"),
    ],
)
def test_an_unusable_url_is_refused_in_words_without_its_password(url: str, words: str) -> None:
    for use in (SqlResults, SqlArchive, open_engine, migrate):
        with pytest.raises(BadDatabaseUrl, match=words) as caught:
            use(url)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///x.db", "sqlite+pysqlite"),
        ("sqlite+aiosqlite:///x.db", "sqlite+pysqlite"),
        ("postgres://h/d", "postgresql+psycopg"),
        ("postgresql://h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg"),
    ],
)
def test_the_driver_is_chosen_here(url: str, driver: str) -> None:
    assert database_url(url).drivername == driver


def test_a_relative_path_stays_the_same_file_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_url("sqlite:///runs.db").database == str(tmp_path / "runs.db")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(BadDatabaseUrl, match=r"taken.*Not a directory|taken.*File exists"):
        open_engine(f"sqlite:///{tmp_path}/taken/runs.db")
