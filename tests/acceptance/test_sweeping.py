"""Beat as the backstop: the workers' own sweeps are switched off here, and what nobody holds is found all the same."""

from collections.abc import Iterator

import pytest

from api_contracts.chat import ChatRequest
from api_contracts.client.submission import checked, submission
from tests.acceptance.cluster import CELERY, Cluster, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, types
from tests.servers import embedded_valkey
from tests.waiting import eventually

QUEUES = "fireworks.chat,fireworks.batch,fireworks.control"
WITHIN_S = 90.0
"""Beat has the runs looked at each half a minute."""


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("sweeping")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="2", FW_SWEEP_S="300", FW_LOST_MESSAGE_S="60")
        try:
            yield made
        finally:
            made.close()


@pytest.mark.requirement("RUN-17")
def test_beat_alone_has_lost_messages_dead_workers_runs_and_due_parks_found_each_once(
    cluster: Cluster, name: str
) -> None:
    unsent, orphan, asleep = (f"{name}-{what}" for what in ("unsent", "orphan", "asleep"))
    cluster.keep(lambda which: cluster.worker(which, queues=QUEUES), "doomed")
    rows = [{"custom_id": "row-1", "body": {"messages": [{"role": "user", "content": "slow 1"}]}}]
    model = "accounts/fireworks/models/emulated-new"
    cluster.client.batch.submit(model=model, rows=rows, deadline_s=8.0, run_id=asleep)
    cluster.client.chat.submit(say("short"), run_id=orphan)
    eventually(lambda: types(cluster.client.events(asleep))[-1:] == ["run.parked"], within=60)
    eventually(lambda: "chat.delta" in types(cluster.client.events(orphan)), within=60)
    cluster.named("doomed").kill()
    settings = cluster.client.settings.model_copy(update={"lost_message_s": 1.0})
    script = submission("chat", checked(ChatRequest, say("echo found"), {}), unsent, settings).script
    assert cluster.redis.eval(script.script, len(script.keys), *script.keys, *script.args) == "created"

    cluster.keep(lambda which: cluster.worker(which, queues=QUEUES), "other-1", "other-2")
    cluster.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO").ready("beat: Starting...")
    for run_id, end in ((unsent, "run.completed"), (orphan, "run.completed"), (asleep, "run.failed")):
        events = list(cluster.client.follow(run_id, timeout_s=WITHIN_S))
        assert is_right(events)
        assert events[-1].type == end, run_id
    assert cluster.logged("sweep.rang", unsent) == cluster.logged("sweep.rang", orphan) == 1
    assert len(lives(cluster.client.events(unsent))) == 1
    assert len(lives(cluster.client.events(orphan))) == 2
