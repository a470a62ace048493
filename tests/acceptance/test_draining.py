"""A deploy: SIGTERM to a worker that is at work."""

from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import Cluster, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, types
from tests.acceptance.scene import STORY
from tests.servers import embedded_valkey
from tests.waiting import eventually


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """The lease is long: whatever goes on elsewhere does so because it was handed over."""
    folder = tmp_path_factory.mktemp("draining")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="60", FW_SWEEP_S="0.5")
        try:
            made.tool_service()
            yield made
        finally:
            made.close()


def waited(cluster: Cluster, run_id: str, kind: str) -> None:
    eventually(lambda: kind in types(cluster.client.events(run_id)), within=60)


@pytest.mark.requirement("RUN-05")
def test_a_stream_that_ends_within_the_drain_ends_where_it_began(cluster: Cluster, name: str) -> None:
    worker = cluster.worker("patient", FW_DRAIN_S="20").ready()
    cluster.client.chat.submit(say("short"), run_id=name)
    waited(cluster, name, "chat.delta")
    assert worker.stop() == 0
    events = cluster.client.events(name)
    assert is_right(events)
    assert lives(events) == [worker.pid]
    assert cluster.client.result(name).message == {"role": "assistant", "content": STORY}
    assert cluster.meta(name)["status"] == "SUCCESS"
    assert cluster.announced(name)


@pytest.mark.requirement("RUN-05", "RUN-04")
def test_what_does_not_end_within_the_drain_is_handed_over_and_nothing_new_is_taken(
    cluster: Cluster, name: str
) -> None:
    """One run streams, one waits for a tool elsewhere, one comes too late."""
    leaving = cluster.worker("leaving", FW_DRAIN_S="1").ready()
    streaming, waiting, late = (f"{name}-{what}" for what in ("streaming", "waiting", "late"))
    cluster.client.chat.submit(say("long"), run_id=streaming)
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=waiting)
    waited(cluster, streaming, "chat.delta")
    waited(cluster, waiting, "tool.call_started")
    staying = cluster.worker("staying")  # not waited for: the stream goes on meanwhile
    leaving.popen.terminate()
    eventually(lambda: "worker.draining" in leaving.log())
    cluster.client.chat.submit(say("echo late"), run_id=late)
    assert leaving.stop() == 0
    cluster.board.open_gate(name)
    for run_id in (streaming, waiting):
        events = list(cluster.client.follow(run_id, timeout_s=60))
        assert is_right(events)
        assert list(dict.fromkeys(lives(events))) == [leaving.pid, staying.pid]
    assert lives(cluster.client.follow(late, timeout_s=60)) == [staying.pid]
    assert cluster.client.result(streaming).message == {"role": "assistant", "content": STORY}
    assert cluster.client.result(waiting).message == {"role": "assistant", "content": f"told: {name} was charged"}
    assert cluster.board.marks(name) == ["charged"]
    assert cluster.queues.unacknowledged() == 0
