"""Migrations: one schema whoever runs them, whole or not at all, and the same as the code's."""

import inspect
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from workers.adapters.sql.engine import open_engine
from workers.adapters.sql.migrate import MIGRATIONS, migrate, revision
from workers.adapters.sql.tables import SCHEMA, VERSION_TABLE, metadata
from workers.ports import StoreUnavailable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "runs.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


def tables_of(file: Path) -> set[str]:
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    return {name for (name,) in rows}


def scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(configuration())


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    return config


def given_schema(url: str, number: str) -> None:
    """Make a database as an earlier release left it."""
    engine = open_engine(url)
    with engine.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, number)
    engine.dispose()


def test_a_database_is_made_with_its_folder_and_brought_to_the_newest_schema(url: str, file: Path) -> None:
    migrate(url)
    assert revision(url) == SCHEMA
    assert tables_of(file) == {*metadata.tables, VERSION_TABLE}
    batches, talks = {"fw_batches", "fw_batch_rows", "fw_batch_jobs"}, {"fw_conversations", "fw_commits"}
    assert {"fw_runs", "fw_begun"} | batches | talks == set(metadata.tables)


def test_a_database_of_the_first_schema_keeps_its_runs(url: str, file: Path) -> None:
    given_schema(url, "0001")
    assert (revision(url), tables_of(file)) == ("0001", {"fw_runs", VERSION_TABLE})
    owner = sqlite3.connect(file)
    owner.execute("INSERT INTO fw_runs VALUES ('run-1', 'chat', 'completed', 3, 'acme', '{}', '{\"n\":1}', 1.5, 2.5)")
    owner.commit()
    before = owner.execute("SELECT * FROM fw_runs").fetchall()
    migrate(url)
    assert revision(url) == SCHEMA
    assert owner.execute("SELECT * FROM fw_runs").fetchall() == [(*row, None, None) for row in before]
    owner.execute("INSERT INTO fw_batches (run_id, life) VALUES ('run-2', 1)")
    owner.close()
    assert tables_of(file) == {*metadata.tables, VERSION_TABLE}


def test_looking_at_the_revision_makes_no_file(url: str, file: Path) -> None:
    assert revision(url) is None
    assert not file.parent.exists()


def test_the_code_knows_the_newest_migration() -> None:
    assert scripts().get_current_head() == SCHEMA


def test_migrations_are_numbered_and_travel_with_the_package() -> None:
    folder = Path(inspect.getfile(open_engine)).parent / "migrations"
    assert (folder / "__init__.py").exists()
    assert (folder / "versions" / "__init__.py").exists()
    for script in scripts().walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")
        assert script.revision.isdecimal()
        assert len(script.revision) == 4


def test_an_unreachable_server_is_an_outage(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://u:hunter2@/runs?host={tmp_path}"
    for call in (migrate, revision):
        with pytest.raises(StoreUnavailable) as caught:
            call(url)
        assert "hunter2" not in str(caught.value)
