"""What every test may use: a Redis, a Redis of its own to kill, and proof that nothing was left behind."""

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from tests.postgres import embedded_postgres, given_postgres, schema
from tests.servers import delete, embedded_valkey, endless_keys, given_redis
from workers.adapters.sql.migrate import migrate
from workers.cli.embedded import EmbeddedValkey

# How long an example takes says something about the machine only; and a run leaves no file behind for the next.
hypothesis.settings.register_profile("fireworks-workers", deadline=None, database=None)
hypothesis.settings.load_profile("fireworks-workers")

# A task that was cancelled a moment ago may still be on its way out.
_TASKS_END_WITHIN_S = 1.0


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """The embedded server of this test process. Nobody kills or flushes it; `own_valkey` is there for that."""
    with embedded_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """The Redis to test with: `FW_TEST_REDIS_URL` if set, else the embedded server. Choose run ids of your own."""
    url: str = given_redis(os.environ) or request.getfixturevalue("shared_valkey").url
    return url


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server of the test's own: `kill` it, `restart()` it, fill it, flush it."""
    with embedded_valkey(tmp_path / "valkey") as server:
        yield server
        assert not server.running or endless_keys(server.url) == []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The PostgreSQL to test with: `FW_TEST_POSTGRES_URL` if set, else an embedded one. Make a `schema` of your own."""
    if given := given_postgres(os.environ):
        yield given
        return
    with embedded_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A migrated schema for the tests of this process. Choose run ids of your own."""
    with schema(postgres_server) as url:
        migrate(url)
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind that nothing is in: a file that is not there yet, or a schema of the test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'folder' / 'runs.db'}"
        return
    with schema(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say how far we are, whatever is captured. In one of several test processes nobody would hear it."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def telling(line: str) -> None:
        if not hasattr(request.config, "workerinput"):
            with capture.global_and_fixture_disabled():
                sys.stdout.write(f"\n{line}")
                sys.stdout.flush()

    return telling


@pytest.fixture(autouse=True)
def no_key_lives_for_ever(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a key of ours without time-to-live (RUN-11); on the embedded server only."""
    yield
    if "shared_valkey" in request.fixturenames and not _is_in(request, "unit"):
        url = request.getfixturevalue("shared_valkey").url
        left = endless_keys(url)
        delete(url, left)  # the next test is not to blame
        assert left == [], f"keys without time-to-live: {left}"


@pytest.fixture(autouse=True)
def no_task_goes_on(request: pytest.FixtureRequest) -> None:
    """Fail an async test of unit/ or contract/ that leaves an asyncio task running."""
    test = getattr(request.node, "obj", None)
    test = getattr(getattr(test, "hypothesis", None), "inner_test", test)
    if inspect.iscoroutinefunction(test) and not _is_in(request, "acceptance"):
        request.getfixturevalue("_tasks_end")


@pytest_asyncio.fixture
async def _tasks_end() -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=_TASKS_END_WITHIN_S)
    assert not left, f"tasks left running: {sorted(str(task) for task in left)}"


def _is_in(request: pytest.FixtureRequest, shelf: str) -> bool:
    return shelf in request.node.path.relative_to(Path(__file__).parent).parts
