"""One cluster for the tests that kill nothing; a fresh name for each test; the combination that all run on."""

import sys
import uuid
from collections.abc import Iterator
from functools import partial

import pytest

from tests.acceptance.apps.mcp_desk import servers_file
from tests.acceptance.cluster import Cluster
from tests.acceptance.combination import Combination
from tests.servers import embedded_valkey

NewCluster = partial[Cluster]
"""`new_cluster(folder, valkey, **settings)`; close what it returns."""


@pytest.fixture(scope="session")
def combination(request: pytest.FixtureRequest) -> Combination:
    return Combination.chosen(lambda: str(request.getfixturevalue("postgres_server")))


@pytest.fixture(scope="session")
def new_cluster(combination: Combination) -> NewCluster:
    """What makes a cluster on the combination."""
    if why := combination.why_not():
        pytest.skip(why)
    return partial(Cluster, parts=combination)


@pytest.fixture(autouse=True)
def _fits_the_combination(request: pytest.FixtureRequest, combination: Combination) -> None:
    """Skip what the combination does not change, and what has no meaning on its broker."""
    if not combination.default and "new_cluster" not in request.fixturenames:
        pytest.skip("brings parts of its own, the same on every combination")
    for mark in request.node.iter_markers("broker"):
        broker, why = mark.args
        if broker != combination.broker:
            pytest.skip(f"on {broker} only: {why}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """Two workers and a tool service. Nobody kills or pauses anything here; modules that do bring their own.

    The lease is long: on a loaded machine nothing may change hands that a test has not killed.
    """
    folder = tmp_path_factory.mktemp("cluster")
    with embedded_valkey(folder / "valkey") as valkey:
        servers = str(servers_file(folder, sys.executable))
        made = new_cluster(folder, valkey, FW_LEASE_S="20", FW_SWEEP_S="0.5", FW_MCP_FILE=servers)
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
