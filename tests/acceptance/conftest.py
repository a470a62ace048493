"""One cluster for the tests that kill nothing; a fresh name for each test."""

import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import Cluster
from tests.servers import embedded_valkey


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers and a tool service. Nobody kills or pauses anything here; modules that do bring their own.

    The lease is long: on a loaded machine nothing may change hands that a test has not killed.
    """
    folder = tmp_path_factory.mktemp("cluster")
    with embedded_valkey(folder / "valkey") as valkey:
        made = Cluster(folder, valkey, FW_LEASE_S="20", FW_SWEEP_S="0.5")
        try:
            started = [made.worker("chat-1"), made.worker("chat-2"), made.tool_service()]
            for process in started:
                process.ready()
            yield made
        finally:
            made.close()


@pytest.fixture
def name() -> str:
    """A run id, or part of one, that no other test has."""
    return uuid.uuid4().hex
