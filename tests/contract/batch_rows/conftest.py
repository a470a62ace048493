"""The worlds that the suite runs in."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_contracts.keys import new_run_id
from tests.contract.batch_rows.worlds import MemoryWorld, SqlWorld, World, sqlite_url
from workers.adapters.sql.migrate import migrate

SQL = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied: migrating takes longer than most tests."""
    file = tmp_path_factory.mktemp("sql") / "rows.db"
    migrate(sqlite_url(file))
    return file


@pytest.fixture
def run_id() -> str:
    return new_run_id()


@pytest.fixture(params=("memory", *SQL))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield MemoryWorld()
        return
    async for each in _sql_world(request, tmp_path):
        yield each


@pytest.fixture(params=SQL)
async def sql(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlWorld]:
    """Each database in turn, for what only a database promises."""
    async for each in _sql_world(request, tmp_path):
        yield each


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[SqlWorld]:
    """PostgreSQL, for what only a server promises."""
    world = SqlWorld(postgres_url, stuck_s=0.3)
    yield world
    await world.close()


async def _sql_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlWorld]:
    if request.param == "sqlite":
        file = tmp_path / "rows.db"
        shutil.copy(request.getfixturevalue("migrated_file"), file)
        world = SqlWorld(sqlite_url(file))
    else:
        world = SqlWorld(request.getfixturevalue("postgres_url"))
        await world.forget_jobs()
    yield world
    await world.close()
