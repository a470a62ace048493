"""Migrations when several processes start at once, and on each database from each schema that was released."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from tests.contract.batch_rows.worlds import POSTGRES, postgres_schema
from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.migrate import MIGRATIONS, migrate, revision
from workers.adapters.sql.tables import SCHEMA, VERSION_TABLE, metadata
from workers.ports import RunRecord

MIGRATE_ON_A_WORD = """
import sys
from workers.adapters.sql.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1])
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new' / 'folder' / 'runs.db'}"


@pytest.mark.parametrize("existing", [False, True], ids=["new file", "migrated file"])
def test_four_processes_migrate_one_file_at_once(url: str, existing: bool) -> None:
    if existing:
        migrate(url)
    run = [sys.executable, "-c", MIGRATE_ON_A_WORD, url]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(run, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    errors = [racer.communicate(timeout=60)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0], errors
    assert revision(url) == SCHEMA


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database, or of a schema of our own in one, that nothing is in."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/runs.db"
        return
    if not POSTGRES:
        pytest.skip("FW_TEST_POSTGRES_URL is not set")
    pytest.importorskip("psycopg")
    yield from postgres_schema()


def upgrade(url: str, number: str) -> None:
    """Bring a database to the schema of an earlier release."""
    engine = open_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", MIGRATIONS)
        command.upgrade(config, number)
    engine.dispose()


async def test_the_first_schema_with_data_is_brought_to_the_newest(empty: str) -> None:
    upgrade(empty, "0001")
    archive = SqlArchive(empty)
    record = RunRecord("run-1", "chat", "completed", 3, "acme", {"a": "b"}, {"n": [1, None]}, 1.5, 2.5)
    await archive.save(record)
    migrate(empty)
    migrate(empty)
    assert revision(empty) == await archive.check() == SCHEMA
    assert await archive.load("run-1") == record
    await archive.close()


def test_migrations_and_the_codes_tables_agree_on_each_database(empty: str) -> None:
    migrate(empty)
    engine = open_engine(empty)
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        for table in metadata.tables:
            connection.execute(text(f"SELECT count(*) FROM {table}"))
    engine.dispose()
