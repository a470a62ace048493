"""Between submit and start: messages that are lost, workers that are full."""

from collections.abc import Iterator

import pytest

from api_contracts.chat import ChatRequest
from api_contracts.client import Client
from api_contracts.client.submission import checked, submission
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, of_type, types
from tests.servers import embedded_valkey
from tests.waiting import eventually

QUEUE = "fireworks.chat"
WORKERS = ("chat-1", "chat-2")
CAPACITY = 2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """Two workers with two slots each, a long lease: nothing changes hands here."""
    folder = tmp_path_factory.mktemp("queueing")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="60", FW_SWEEP_S="0.5", FW_LOST_MESSAGE_S="1")
        try:
            made.keep(lambda name: made.worker(name, queues=QUEUE, c=CAPACITY), *WORKERS)
            yield made
        finally:
            made.close()


@pytest.mark.requirement("RUN-17")
def test_a_run_that_was_recorded_and_never_sent_is_found_and_started_once(cluster: Cluster, name: str) -> None:
    """Its producer died between the record and the message."""
    settings = cluster.client.settings.model_copy(update={"lost_message_s": 1.0})
    script = submission("chat", checked(ChatRequest, say("echo found"), {}), name, settings).script
    assert cluster.redis.eval(script.script, len(script.keys), *script.keys, *script.args) == "created"
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert len(lives(events)) == 1
    assert cluster.client.result(name).message == {"role": "assistant", "content": "found"}
    assert cluster.logged("sweep.rang", name) == 1


@pytest.mark.requirement("RUN-17")
def test_a_message_that_vanished_from_its_queue_is_sent_again(cluster: Cluster, name: str) -> None:
    """Nobody serves the background queue here, so that it can be looked into."""
    background = f"{QUEUE}.bg"
    with Client(redis_url=cluster.valkey.url, broker_url=cluster.broker, lost_message_s=1) as client:
        client.chat.submit(say("echo again", lane="background"), run_id=name)
    assert cluster.queues.drop(background) == 1
    eventually(lambda: cluster.queues.waiting(background), within=30)
    assert cluster.queues.move(background, QUEUE) == 1
    assert is_right(list(cluster.client.follow(name, timeout_s=60)))


def gated(cluster: Cluster, run_id: str) -> str:
    """Submit a chat that holds its slot until its gate opens."""
    return cluster.client.chat.submit(say(f"use wait_pure {run_id}", tools=["wait_pure"]), run_id=run_id)


def begun(cluster: Cluster, runs: list[str]) -> list[str]:
    return [run_id for run_id in runs if "tool.call_started" in types(cluster.client.events(run_id))]


@pytest.mark.requirement("RUN-22")
def test_no_worker_holds_more_than_it_can_start_and_a_waiting_run_goes_to_the_free_one_at_once(
    cluster: Cluster, name: str
) -> None:
    runs = [gated(cluster, f"{name}-{number}") for number in range(6)]
    eventually(lambda: len(begun(cluster, runs)) == 2 * CAPACITY, within=60)
    held = begun(cluster, runs)
    waiting = [run_id for run_id in runs if run_id not in held]
    eventually(lambda: cluster.queues.waiting(QUEUE) == 2)
    assert cluster.queues.unacknowledged() == 0
    by_worker = [cluster.holder(run_id).name for run_id in held]
    assert {worker: by_worker.count(worker) for worker in WORKERS} == dict.fromkeys(WORKERS, CAPACITY)
    for freed in [run_id for run_id in held if cluster.holder(run_id).name == WORKERS[0]]:
        cluster.board.open_gate(freed)
        ended = list(cluster.client.follow(freed, timeout_s=60))[-1]
        taken = eventually(lambda: begun(cluster, waiting))[0]
        waiting.remove(taken)
        assert cluster.holder(taken).name == WORKERS[0]
        # The clause's own figure, on Redis' clock.
        assert of_type(cluster.client.events(taken), "run.started")[0].at - ended.at <= 1000
    for run_id in runs:
        cluster.board.open_gate(run_id)
        assert is_right(list(cluster.client.follow(run_id, timeout_s=60)))
        assert len(lives(cluster.client.events(run_id))) == 1
