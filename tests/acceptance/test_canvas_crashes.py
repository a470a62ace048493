"""Canvas around runs whose worker is killed, that park, that are retried: what was linked is called all the same."""

from collections.abc import Iterator

import pytest
from celery import Celery, chain, chord

from tests.acceptance.cluster import Cluster
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, types
from tests.acceptance.test_canvas import callers, quiet_app, run
from tests.servers import embedded_valkey
from tests.waiting import eventually

WORKERS = ("chat-1", "chat-2")

pytestmark = [
    pytest.mark.requirement("RUN-23"),
    # Celery's producer side of a chord leaves a connection to the result backend to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("canvas")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="3", FW_SWEEP_S="0.5")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(lasting: Cluster) -> Cluster:
    lasting.keep(lasting.worker, *WORKERS)
    lasting.keep(lambda _: lasting.tool_service(), "tools")
    return lasting


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with quiet_app(cluster) as app:
        yield app


def killed(cluster: Cluster, run_id: str) -> None:
    """Kill the worker that has the run, while the model speaks."""
    eventually(lambda: "chat.delta" in types(cluster.client.events(run_id)), within=60)
    cluster.holder(run_id).kill()


def resumed(cluster: Cluster, run_id: str) -> None:
    events = list(cluster.client.follow(run_id, timeout_s=60))
    assert is_right(events)
    assert len(set(lives(events))) == 2


def test_a_chain_goes_on_after_a_killed_worker(cluster: Cluster, app: Celery, name: str) -> None:
    chain(run(app, name, "short"), run(app, f"{name}-2", "echo then"), callers(app, "done", name)).apply_async()
    killed(cluster, name)
    resumed(cluster, name)
    eventually(lambda: cluster.board.marks(name) == ["done completed"], within=60)


def test_a_chord_is_joined_once_though_a_worker_was_killed_under_it(cluster: Cluster, app: Celery, name: str) -> None:
    header = [run(app, f"{name}-{n}", text) for n, text in enumerate(("short", "echo x", "short"))]
    chord(header, callers(app, "gathered", name)).apply_async()
    killed(cluster, f"{name}-0")
    resumed(cluster, f"{name}-0")
    eventually(lambda: cluster.board.marks(name) == ["gathered completed completed completed"], within=60)


def test_the_callbacks_of_a_run_are_called_after_a_killed_worker(cluster: Cluster, app: Celery, name: str) -> None:
    given = {"link": callers(app, "done", name), "link_error": callers(app, "failed", name)}
    run(app, name, "short").apply_async(**given)
    killed(cluster, name)
    resumed(cluster, name)
    eventually(lambda: cluster.board.marks(name) == ["done completed"], within=60)


def test_a_chain_and_a_chord_go_on_after_a_park(cluster: Cluster, app: Celery, name: str) -> None:
    """Parked is RETRY for Celery: neither success nor failure, so nobody is called yet."""
    parked = f"{name}-parked"
    header = [run(app, parked, "later"), run(app, f"{name}-1", "echo x")]
    chord(header, chain(run(app, f"{name}-2", "echo then"), callers(app, "done", name))).apply_async()
    eventually(lambda: cluster.meta(parked)["status"] == "RETRY", within=60)
    assert cluster.board.marks(name) == []
    eventually(lambda: cluster.board.marks(name) == ["done completed"], within=60)
    assert "run.parked" in types(cluster.client.events(parked))


def test_a_retried_run_goes_on_with_its_chain(cluster: Cluster, app: Celery, name: str) -> None:
    """First its errback is called, since it had failed; after the retry, what comes next in the chain."""
    first = run(app, name, "mended").set(link_error=callers(app, "failed", name))
    chain(first, callers(app, "done", name)).apply_async()
    eventually(lambda: cluster.board.marks(name) == [f"failed {name}"], within=60)
    assert cluster.client.retry(name, "the key was changed", by="ann") in ("reopened", "woken")
    eventually(lambda: cluster.board.marks(name) == [f"failed {name}", "done completed"], within=60)
    assert cluster.meta(name)["status"] == "SUCCESS"
