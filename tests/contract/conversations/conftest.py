"""The worlds that the suite runs in."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_contracts.keys import new_run_id
from tests.contract.conversations.worlds import MemoryWorld, SqlWorld, World
from workers.adapters.sql.migrate import migrate
from workers.core.runs.turns import ConversationKey


@pytest.fixture(scope="session")
def migrated_talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied: migrating takes longer than most tests."""
    file = tmp_path_factory.mktemp("sql") / "talks.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def key() -> ConversationKey:
    return ConversationKey("acme", new_run_id())


@pytest.fixture(params=("memory", "sqlite", "postgresql"))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield MemoryWorld()
        return
    if request.param == "sqlite":
        file = tmp_path / "talks.db"
        shutil.copy(request.getfixturevalue("migrated_talks"), file)
        world = SqlWorld(f"sqlite:///{file}")
    else:
        world = SqlWorld(request.getfixturevalue("postgres_url"))
    yield world
    await world.close()
