"""Interactive runs start at once, however many background runs wait. Each lane has a worker of its own."""

from collections.abc import Iterator
from statistics import median

import pytest

from api_contracts.client import Client
from tests.acceptance.cluster import Cluster, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, of_type
from tests.servers import embedded_valkey
from tests.waiting import eventually

BACKLOG, CHATS, SLOTS = 5_000, 10, 4
BACKGROUND = "fireworks.chat.bg"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("lanes")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="20", FW_SWEEP_S="0.5", FW_LOST_MESSAGE_S="1")
        try:
            started = [made.worker("chat", c=SLOTS), made.worker("chat-bg", queues=BACKGROUND, c=SLOTS)]
            for process in started:
                process.ready()
            yield made
        finally:
            made.close()


@pytest.mark.requirement("RUN-19", "RUN-17", "RUN-22")
def test_interactive_chats_start_within_a_second_while_thousands_wait_in_the_background(
    cluster: Cluster, name: str
) -> None:
    """The sweepers are told that messages are lost after a second: they must find that none is."""
    with Client(redis_url=cluster.valkey.url, broker_url=cluster.broker, lost_message_s=1) as client:
        for number in range(BACKLOG):
            client.chat.submit(say("long", lane="background"), run_id=f"{name}-{number}")
    eventually(lambda: cluster.client.events(f"{name}-0")[1:], within=60)
    waits = []
    for number in range(CHATS):
        run_id = cluster.client.chat.submit(say("echo now"), run_id=f"{name}-now-{number}")
        events = list(cluster.client.follow(run_id, timeout_s=60))
        assert is_right(events)
        waits.append(of_type(events, "run.started")[0].at - events[0].at)
    # The clause's own figure, on Redis' clock.
    assert median(waits) <= 1000, waits
    waiting = cluster.queues.waiting(BACKGROUND)
    assert BACKLOG / 2 < waiting < BACKLOG * 1.01
    # A message that is just being fetched may look lost, now and then.
    assert cluster.logged("sweep.rang", name) < BACKLOG / 100, "what was not lost is sent again"
