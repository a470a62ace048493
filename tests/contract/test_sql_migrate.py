"""Migrations when several processes start at once, and on each database from each schema that was released."""

import subprocess
import sys
from dataclasses import replace

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from workers.adapters.sql.archive import SqlArchive
from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.migrate import MIGRATIONS, migrate, revision
from workers.adapters.sql.tables import SCHEMA, VERSION_TABLE, metadata
from workers.ports import RunRecord, StoreUnavailable

MIGRATE_ON_A_WORD = """
import sys
from workers.adapters.sql.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1])
"""


@pytest.mark.parametrize("existing", [False, True], ids=["new", "migrated"])
def test_four_processes_migrate_one_database_at_once(empty_database: str, existing: bool) -> None:
    if existing:
        migrate(empty_database)
    run = [sys.executable, "-c", MIGRATE_ON_A_WORD, empty_database]
    pipe = subprocess.PIPE
    racers = [subprocess.Popen(run, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    errors = [racer.communicate(timeout=120)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0], errors
    assert revision(empty_database) == SCHEMA


def upgrade(url: str, number: str) -> None:
    """Bring a database to the schema of an earlier release."""
    engine = open_engine(url)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", MIGRATIONS)
        command.upgrade(config, number)
    engine.dispose()


@pytest.mark.requirement("OPS-15")
async def test_the_first_schema_with_data_is_brought_to_the_newest(empty_database: str) -> None:
    upgrade(empty_database, "0001")
    columns = "run_id, kind, status, epoch, tenant, labels, result, queued_at, finished_at"
    values = """'run-1', 'chat', 'completed', 3, 'acme', '{"a": "b"}', '{"n": [1, null]}', 1.5, 2.5"""
    told(empty_database, f"INSERT INTO fw_runs ({columns}) VALUES ({values})")
    record = RunRecord("run-1", "chat", "completed", 3, "acme", {"a": "b"}, {"n": [1, None]}, 1.5, 2.5)
    archive = SqlArchive(empty_database)
    migrate(empty_database)
    migrate(empty_database)
    assert revision(empty_database) == await archive.check() == SCHEMA
    assert await archive.load("run-1") == record
    told(empty_database, f"INSERT INTO fw_runs ({columns}) VALUES ({values.replace('run-1', 'run-2')})")
    assert await archive.load("run-2") == replace(record, run_id="run-2"), "written by a worker of that release"
    await archive.close()


def test_migrations_and_the_codes_tables_agree_on_each_database(empty_database: str) -> None:
    migrate(empty_database)
    engine = open_engine(empty_database)
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        for table in metadata.tables:
            connection.execute(text(f"SELECT count(*) FROM {table}"))
    engine.dispose()


def told(url: str, *statements: str) -> None:
    """Have the database's owner run statements."""
    engine = open_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def tables_of(url: str) -> set[str]:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = set(inspect(connection).get_table_names())
    engine.dispose()
    return found


def test_migrating_again_changes_nothing(empty_database: str) -> None:
    migrate(empty_database)
    before = tables_of(empty_database)
    migrate(empty_database)
    assert (revision(empty_database), tables_of(empty_database)) == (SCHEMA, before)
    assert before == {*metadata.tables, VERSION_TABLE}


def test_a_schema_of_a_newer_release_is_left_as_it_is(empty_database: str) -> None:
    """During a deploy, and after a roll-back, older workers start on it."""
    migrate(empty_database)
    engine = open_engine(empty_database)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    migrate(empty_database)
    assert revision(empty_database) == "9999"


def test_a_database_of_somebody_else_has_no_revision(empty_database: str) -> None:
    told(
        empty_database,
        "CREATE TABLE alembic_version (version_num TEXT)",
        "INSERT INTO alembic_version VALUES ('theirs')",
    )
    assert revision(empty_database) is None
    migrate(empty_database)
    assert revision(empty_database) == SCHEMA
    assert "alembic_version" in tables_of(empty_database)


def test_a_migration_that_fails_halfway_leaves_nothing_behind(empty_database: str) -> None:
    told(
        empty_database,
        "CREATE TABLE theirs (x INTEGER)",
        "CREATE INDEX ix_fw_runs_finished_at ON theirs (x)",  # the migration's last step stumbles over it
    )
    with pytest.raises(StoreUnavailable, match="ix_fw_runs_finished_at"):
        migrate(empty_database)
    assert tables_of(empty_database) == {"theirs"}
    told(empty_database, "DROP INDEX ix_fw_runs_finished_at")
    migrate(empty_database)
    assert revision(empty_database) == SCHEMA
