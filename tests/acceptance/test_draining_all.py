"""A deploy while every kind of run is at work: SIGTERM, and each goes on elsewhere, at once."""

from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import CELERY, MODEL, Cluster, Process, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, of_type, types
from tests.acceptance.scene import STORY
from tests.acceptance.test_batches import rows
from tests.acceptance.test_citing import SOURCES
from tests.acceptance.test_speech import exactly, heard, some_words, sound_of, spoken
from tests.servers import embedded_valkey
from tests.waiting import eventually

QUEUES = "fireworks.chat,fireworks.chat.bg,fireworks.stt,fireworks.batch,fireworks.control"
DRAIN_S = 2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """The lease is longer than any test: what goes on elsewhere was handed over."""
    folder = tmp_path_factory.mktemp("draining-all")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="60", FW_SWEEP_S="0.5", FW_POLL_S="0.3")
        try:
            made.tool_service()
            made.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO").ready("beat: Starting...")
            yield made
        finally:
            made.close()


def everything(cluster: Cluster, name: str) -> Process:
    return cluster.worker(name, queues=QUEUES, FW_DRAIN_S=str(DRAIN_S))


@pytest.mark.requirement("RUN-05", "RUN-04")
def test_every_kind_of_run_goes_on_elsewhere_at_once_when_its_worker_is_told_to_stop(
    cluster: Cluster, name: str
) -> None:
    leaving, client, words = everything(cluster, "leaving").ready(), cluster.client, some_words(12)
    chat, back, cite, here, there, batch = (
        f"{name}-{kind}" for kind in ("chat", "bg", "cite", "here", "there", "batch")
    )
    client.batch.submit(model=MODEL, rows=rows(5), run_id=batch)
    eventually(lambda: "run.parked" in types(client.events(batch)), within=60)
    client.chat.submit(say("long"), run_id=chat)
    client.chat.submit(say("long", lane="background"), run_id=back)
    client.cite.submit(model=MODEL, question="cite slowly", sources=SOURCES, run_id=cite)
    client.chat.submit(say(f"use wait_pure {here}", tools=["wait_pure"]), run_id=here)
    client.chat.submit(say(f"use charge {there}", tools=[remote("charge")]), run_id=there)
    session = client.stt.open(run_id=f"{name}-stt")
    with spoken(session, sound_of(words)):
        heard(cluster, session.run_id, 2)
        for run_id, kind in ((chat, "chat.delta"), (back, "chat.delta"), (cite, "chat.delta")):
            eventually(lambda: kind in types(client.events(run_id)), within=60)  # noqa: B023 - awaited within the round
        for run_id in (here, there):
            eventually(lambda: "tool.call_started" in types(client.events(run_id)), within=60)  # noqa: B023
        staying = everything(cluster, "staying")  # not waited for: its runs go on meanwhile
        assert leaving.stop() == 0
    for key in (here, here, there):
        cluster.board.open_gate(key)
    moved = {run_id: list(client.follow(run_id, timeout_s=60)) for run_id in (chat, back, cite, here, there)}
    for events in moved.values():
        assert is_right(events)
        assert list(dict.fromkeys(lives(events))) == [leaving.pid, staying.pid]
    assert [client.result(run_id).message["content"] for run_id in (chat, back)] == [STORY] * 2
    assert client.cite.result(cite).citations
    assert client.result(here).message["content"] == f"told: {here} was waited for"
    assert client.result(there).message["content"] == f"told: {there} was charged"
    assert cluster.board.marks(there) == ["charged"]
    spoke = list(client.follow(session.run_id, timeout_s=60))
    assert exactly(spoke, session.result(), words)
    assert len(of_type(spoke, "run.resumed")) == 1
    assert is_right(list(client.follow(batch, timeout_s=60)))
    assert client.batch.result(batch).rows.succeeded == 5
    assert cluster.queues.unacknowledged() == 0
