"""Deploys and roll-backs: workers of three releases share queues, journals and database, and hand runs to each other.

The release before this one is itself, from the project's history; the next one is this one with what a release may add.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

from api_contracts import names
from api_contracts.runs import Event, Result
from tests.acceptance.cluster import Cluster, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, of_type, streamed, types
from tests.acceptance.releases import Release, previous_release, worker_of, written_by
from tests.acceptance.scene import STORY
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.core.runs.later import WAITS

DEPLOYS: Final[list[tuple[Release, Release]]] = [
    ("previous", "present"), ("present", "previous"), ("present", "next"), ("next", "present"),
]  # fmt: skip


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the release before this one."""
    folder = tmp_path_factory.mktemp("previous")
    if why := previous_release(folder):
        pytest.skip(why)
    return folder


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("releases")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="3", FW_SWEEP_S="0.5", FW_DRAIN_S="1")
        del made.env["FW_PRICES"]  # a setting that the release before this one refuses
        try:
            made.tool_service().ready()
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(lasting: Cluster) -> Iterator[Cluster]:
    """A tool service, and no worker before the test starts one, nor after it."""
    yield lasting
    for process in lasting.processes:
        if process.lives and process.name not in ("emulator", "tools"):
            process.kill()


def begun(cluster: Cluster, name: str) -> list[str]:
    """Begin a run that streams and one that waits for a tool elsewhere; return their ids when both are at it."""
    streaming, waiting = f"{name}-streams", f"{name}-waits"
    cluster.client.chat.submit(say("long"), run_id=streaming)
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=waiting)
    seen(cluster, streaming, "chat.delta")
    seen(cluster, waiting, "tool.call_started")
    return [streaming, waiting]


def seen(cluster: Cluster, run_id: str, kind: str, times: int = 1) -> list[Event]:
    return eventually(
        lambda: (found := cluster.client.events(run_id)) and len(of_type(found, kind)) >= times and found, within=60
    )


def _led(events: list[Event]) -> list[Release]:
    """Return which releases led the run, one after the other, however often each."""
    return [release for release, _ in groupby(written_by(events))]


def ended(cluster: Cluster, run_id: str) -> tuple[list[Event], Result]:
    """Return a run's journal and result, which anybody can read, whichever release wrote it."""
    events = list(cluster.client.follow(run_id, timeout_s=90))
    assert is_right(events)
    eventually(lambda: cluster.announced(run_id), within=30)
    return events, cluster.client.result(run_id)


def assert_right(cluster: Cluster, name: str, runs: list[str], by: list[Release]) -> None:
    """Both runs of `begun` ended as if nothing had been, the effect was had once, and these releases led them."""
    (told, result), (waited, said) = (ended(cluster, run_id) for run_id in runs)
    assert (written_by(told), written_by(waited)) == (by, by)
    assert streamed(told) == STORY
    assert (result.status, said.status) == ("completed", "completed")
    assert said.model_dump()["message"]["content"] == f"told: {name} was charged"
    assert cluster.board.marks(name) == ["charged"]
    assert types(waited).count("tool.call_reserved") == 1
    assert {cluster.meta(run_id)["status"] for run_id in runs} == {"SUCCESS"}


@pytest.mark.requirement("RUN-24", "RUN-04")
@pytest.mark.parametrize(("first", "then"), DEPLOYS, ids=lambda release: release)
def test_a_run_begun_under_one_release_goes_on_under_the_other_when_its_worker_is_killed(
    cluster: Cluster, previous: Path, name: str, first: Release, then: Release
) -> None:
    leaving = worker_of(cluster, first, previous).ready()
    runs = begun(cluster, name)
    leaving.kill()
    worker_of(cluster, then, previous)
    cluster.board.open_gate(name)
    assert_right(cluster, name, runs, [first, then])


@pytest.mark.requirement("RUN-24", "RUN-05")
def test_a_run_goes_through_a_deploy_and_its_roll_back_by_drains(cluster: Cluster, previous: Path, name: str) -> None:
    """From this release to the one before and back: each worker is told to stop, and hands over."""
    back_and_forth: list[Release] = ["present", "previous", "present"]
    leaving = worker_of(cluster, back_and_forth[0], previous).ready()
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=name)
    seen(cluster, name, "tool.call_started")
    for lives, release in enumerate(back_and_forth[1:], start=2):
        coming = worker_of(cluster, release, previous).ready()
        assert leaving.stop() == 0
        # On a busy machine the run has parked meanwhile: a letter that it ignores wakes it.
        cluster.client.signal(name, "approve", {"call_id": "none"})
        eventually(lambda lives=lives: len(_led(cluster.client.events(name))) == lives, within=30)
        leaving = coming
    cluster.board.open_gate(name)
    events, result = ended(cluster, name)
    assert _led(events) == back_and_forth
    assert result.status == "completed"
    assert cluster.board.marks(name) == ["charged"]


@pytest.mark.requirement("RUN-24", "RUN-17")
def test_three_releases_serve_side_by_side_while_each_is_killed_in_its_turn(
    cluster: Cluster, previous: Path, name: str
) -> None:
    """They share the queues and each other's runs: sweepers of all ring, anybody answers, no effect is had twice."""
    releases: tuple[Release, ...] = ("previous", "present", "next")
    for release in releases:
        worker_of(cluster, release, previous).ready()
    pairs = {f"{name}-{number}": list[str]() for number in range(6)}
    for turn, each in enumerate(pairs):
        pairs[each] = begun(cluster, each)
        if turn % 2:
            release = releases[turn // 2]
            cluster.named(release).kill()
            worker_of(cluster, release, previous)
        cluster.board.open_gate(each)
    wrote = set[Release]()
    for each, runs in pairs.items():
        for run_id in runs:
            events, result = ended(cluster, run_id)
            wrote |= {*written_by(events)}
            assert result.status == "completed"
            assert types(events).count("tool.call_reserved") == (run_id == runs[1])
        assert streamed(cluster.client.events(runs[0])) == STORY
        assert cluster.board.marks(each) == ["charged"]
    assert wrote == set(releases)


@pytest.mark.requirement("RUN-24")
def test_a_run_that_only_the_next_release_understands_waits_through_a_roll_back(
    cluster: Cluster, previous: Path, name: str
) -> None:
    run_id = f"needs-{name}"
    leaving = worker_of(cluster, "next", previous).ready()
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=run_id)
    seen(cluster, run_id, "tool.call_started")
    leaving.kill()
    rolled_back = worker_of(cluster, "present", previous)
    (parked,) = of_type(seen(cluster, run_id, "run.parked"), "run.parked")[:1]
    assert parked.data["why"].startswith(WAITS)
    cluster.board.open_gate(name)
    eventually(lambda: cluster.meta(run_id)["status"] == "RETRY")
    rolled_back.kill()
    worker_of(cluster, "next", previous)
    events, result = ended(cluster, run_id)
    assert written_by(events)[:: len(written_by(events)) - 1] == ["next", "next"]
    assert "present" in written_by(events)
    assert result.status == "completed"
    assert cluster.board.marks(name) == ["charged"]


CONTROL: Final = {
    names.SIGNAL: {"run_id": "nobody", "signal": {"type": "cancel"}},
    names.WAKE: {"run_id": "nobody"},
    names.SWEEP: {},
    names.PURGE: {},
    names.BATCH_POLL: {},
    names.DELIVER: {"run_id": "nobody", "call_id": "1", "token": "x", "outcome": "result"},
}


@pytest.mark.requirement("RUN-24")
def test_messages_with_headers_and_arguments_of_tomorrow_are_heard(cluster: Cluster, previous: Path, name: str) -> None:
    """A later release, or its beat, speaks to the workers of this one."""
    more = {"later": {"deep": [1, None, "x"]}}
    worker = worker_of(cluster, "present", previous).ready()
    with cluster.foreign_app() as app:
        for task, kwargs in CONTROL.items():
            told = {"queue": names.CONTROL_QUEUE, "headers": more, "task_id": f"{name}-{task}"}
            app.send_task(task, args=["done"] if task == names.DELIVER else [], kwargs=kwargs | more, **told)
            eventually(lambda task=task: f"Task {task}[{name}-{task}] succeeded" in worker.log(), within=30)
        app.send_task(
            names.CHAT, kwargs={"request": say("echo it")}, task_id=name, queue="fireworks.chat", headers=more
        )
    assert ended(cluster, name)[1].status == "completed"
