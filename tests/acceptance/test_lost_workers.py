"""Workers that are killed or paused in every bad moment: the runs go on elsewhere, effects happen once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from api_contracts.chat import ChatResult
from api_contracts.runs import Event
from tests.acceptance.cluster import Cluster, Process, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, of_type, streamed, types
from tests.acceptance.scene import STORY
from tests.servers import embedded_valkey
from tests.waiting import eventually

LEASE_S, SWEEP_S = 2.0, 0.5
WORKERS = ("chat-1", "chat-2")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("mortal")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S=str(LEASE_S), FW_SWEEP_S=str(SWEEP_S))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(lasting: Cluster) -> Iterator[Cluster]:
    """Two workers and a tool service that live."""
    lasting.keep(lasting.worker, *WORKERS)
    lasting.keep(lambda _: lasting.tool_service(), "tools")
    yield lasting
    for process in lasting.processes:
        if process.lives:
            process.go_on()


def waited(cluster: Cluster, run_id: str, kind: str, times: int = 1) -> list[Event]:
    """Return the journal once it has so many events of the type."""
    return eventually(
        lambda: (found := cluster.client.events(run_id)) and len(of_type(found, kind)) >= times and found, within=60
    )


def finished(cluster: Cluster, run_id: str) -> tuple[list[Event], ChatResult]:
    events = list(cluster.client.follow(run_id, timeout_s=60))
    assert is_right(events)
    result = cluster.client.result(run_id)
    eventually(lambda: cluster.meta(run_id)["status"] == {"completed": "SUCCESS"}[result.status])
    return events, result


def moved_once(events: list[Event], first: Process) -> None:
    """The run had two lives, the first in that process."""
    owners = lives(events)
    assert len(owners) == 2, owners
    assert owners[0] == first.pid != owners[1]


@pytest.mark.requirement("RUN-04", "RUN-12")
def test_a_run_that_began_before_its_message_expired_goes_on_in_another_worker_after_that(
    cluster: Cluster, name: str
) -> None:
    """Celery would discard each later message of it, in every worker."""
    with cluster.foreign_app() as app:
        expires = datetime.now(UTC) + timedelta(seconds=4)
        request = {"request": say("use charge " + name, tools=[remote("charge")])}
        app.send_task("fireworks.chat.complete", kwargs=request, task_id=name, queue="fireworks.chat", expires=expires)
        waited(cluster, name, "tool.call_started")
        eventually(lambda: datetime.now(UTC) > expires)
        app.send_task("fireworks.chat.complete", kwargs=request, task_id=name, queue="fireworks.chat", expires=expires)
    killed = cluster.holder(name).kill()
    cluster.board.open_gate(name)
    events, result = finished(cluster, name)
    moved_once(events, killed)
    assert result.status == "completed"


@pytest.mark.requirement("RUN-04", "RUN-02", "CHAT-02")
def test_a_worker_killed_while_it_streams_is_succeeded_within_lease_and_sweep_and_2_s(
    cluster: Cluster, name: str
) -> None:
    cluster.client.chat.submit(say("short"), run_id=name)
    waited(cluster, name, "chat.delta", times=5)
    killed = cluster.holder(name).kill()
    last = cluster.client.events(name)[-1]
    events, result = finished(cluster, name)
    moved_once(events, killed)
    (resumed,) = of_type(events, "run.resumed")
    assert resumed.seq == last.seq + 1
    # The clause's own figure, on Redis' clock.
    assert resumed.at - last.at <= (LEASE_S + SWEEP_S + 2) * 1000
    assert len(of_type(events, "chat.replaced")) == 1
    assert streamed(events) == STORY
    assert result.message == {"role": "assistant", "content": STORY}


@pytest.mark.requirement("RUN-04", "TOOL-03", "TOOL-06", "TOOL-11")
def test_a_result_that_comes_while_the_run_has_no_worker_waits_for_the_next_one(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=name)
    waited(cluster, name, "tool.call_started")
    eventually(lambda: cluster.board.marks(name) == ["charged"])
    killed = cluster.holder(name).kill()
    cluster.board.open_gate(name)
    events, result = finished(cluster, name)
    moved_once(events, killed)
    assert result.message == {"role": "assistant", "content": f"told: {name} was charged"}
    assert cluster.board.marks(name) == ["charged"]
    assert types(events).count("tool.call_result") == 1
    assert types(events).count("chat.requested") == 2


@pytest.mark.requirement("RUN-04", "TOOL-12")
def test_worker_and_tool_service_killed_after_the_effect_and_the_effect_is_not_repeated(
    cluster: Cluster, name: str
) -> None:
    """The broker gives the tool's message to the service's next process; the guard finds the mark."""
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=name)
    waited(cluster, name, "tool.call_started")
    eventually(lambda: cluster.board.marks(name) == ["charged"])
    killed = cluster.holder(name).kill()
    cluster.named("tools").kill()
    cluster.queues.give_back(name)
    cluster.tool_service()
    events, result = finished(cluster, name)
    moved_once(events, killed)
    assert cluster.board.marks(name) == ["charged"]
    (failed,) = of_type(events, "tool.call_failed")
    assert failed.data["detail"].startswith("OutcomeUnknown")
    assert [call.state for call in result.tool_calls] == ["failed"]


@pytest.mark.requirement("RUN-04", "TOOL-11")
@pytest.mark.parametrize(
    ("tool", "begun", "state"), [("wait_once", 1, "outcome_unknown"), ("wait_pure", 2, "succeeded")]
)
def test_a_tool_that_died_with_its_worker_is_run_again_only_if_that_is_harmless(
    cluster: Cluster, name: str, tool: str, begun: int, state: str
) -> None:
    cluster.client.chat.submit(say(f"use {tool} {name}", tools=[tool]), run_id=name)
    eventually(lambda: cluster.board.marks(name) == ["begun"], within=60)
    killed = cluster.holder(name).kill()
    cluster.board.open_gate(name, times=2)
    events, result = finished(cluster, name)
    moved_once(events, killed)
    assert cluster.board.marks(name) == ["begun"] * begun
    assert [call.state for call in result.tool_calls] == [state]
    assert types(events).count("tool.call_reserved") == 1


@pytest.mark.requirement("RUN-03")
def test_a_worker_that_was_paused_beyond_its_lease_writes_nothing_more(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("long"), run_id=name)
    waited(cluster, name, "chat.delta", times=3)
    paused = cluster.holder(name)
    paused.pause()
    resumed = of_type(waited(cluster, name, "run.resumed"), "run.resumed")[0]
    waited(cluster, name, "chat.delta", times=6)
    paused.go_on()
    eventually(lambda: cluster.logged("run.lost", name), within=30)
    events, result = finished(cluster, name)
    moved_once(events, paused)
    assert {event.epoch for event in events if event.seq >= resumed.seq} == {resumed.epoch}
    assert result.status == "completed"
    assert paused.lives
    # The zombie took part in nothing, and is as good as any other now.
    cluster.named(next(each for each in WORKERS if each != paused.name)).kill()
    assert cluster.client.chat.complete(say("echo again"), timeout_s=60).status == "completed"


@pytest.mark.requirement("RUN-04", "RUN-22")
def test_every_worker_killed_and_a_new_one_finishes_what_all_of_them_had(cluster: Cluster, name: str) -> None:
    runs = [f"{name}-{number}" for number in range(6)]
    for run_id in runs:
        cluster.client.chat.submit(say("short"), run_id=run_id)
    for run_id in runs:
        waited(cluster, run_id, "chat.delta", times=2)
    killed = {cluster.named(worker).kill().pid for worker in WORKERS}
    queued = cluster.client.chat.submit(say("echo meanwhile"), run_id=f"{name}-last")
    cluster.keep(cluster.worker, WORKERS[0])
    for run_id in runs:
        events, result = finished(cluster, run_id)
        assert lives(events)[0] in killed
        assert lives(events)[1:] == [cluster.named(WORKERS[0]).pid]
        assert result.message == {"role": "assistant", "content": STORY}
    assert len(lives(finished(cluster, queued)[0])) == 1
