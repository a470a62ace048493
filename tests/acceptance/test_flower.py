"""Flower against the whole service: it tells the truth, shows no content, ends runs and starts them."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.acceptance.apps import tool_service
from tests.acceptance.cluster import CELERY, QUIET, Cluster, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.flower_site import COMMAND, USER, Site, leaks, start_flower
from tests.acceptance.journal import is_right, of_type, types
from tests.acceptance.test_batches import parked, rows, start_beat
from tests.servers import embedded_valkey
from tests.waiting import eventually

CHAT = "fireworks.chat.complete"
SLOW = "accounts/fireworks/models/emulated-new"
WORKERS = {"chat-1": "fireworks.chat", "chat-2": "fireworks.chat", "work": "fireworks.batch,fireworks.control"}


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("flower")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="2", FW_SWEEP_S="0.5", FW_POLL_S="0.3")
        try:
            start_beat(made)
            options = ("-n", "tools@here", "-Q", tool_service.QUEUE, "-P", "threads", "-c", "2", "-E")
            made.start("tools", *CELERY, tool_service.__name__, "worker", *options, *QUIET)
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(lasting: Cluster) -> Cluster:
    lasting.keep(lambda name: lasting.worker(name, queues=WORKERS[name]), *WORKERS)
    lasting.named("tools").ready()
    return lasting


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Celery]:
    with cluster.foreign_app() as app:
        yield app


@pytest.fixture(scope="module")
def started(lasting: Cluster) -> Site:
    return start_flower(lasting)


@pytest.fixture
def site(cluster: Cluster, started: Site) -> Site:
    return started


def batch(cluster: Cluster, run_id: str) -> None:
    """Have a batch parked for long."""
    cluster.client.batch.submit(model=SLOW, rows=rows(3, "slow"), run_id=run_id)
    eventually(lambda: [e for e in of_type(parked(cluster, run_id), "batch.state") if e.data["state"] == "RUNNING"])


@pytest.mark.requirement("OPS-03", "RUN-26")
def test_the_states_are_the_runs_own(cluster: Cluster, site: Site, name: str) -> None:
    done, failed, gone, waits, runs = (f"{name}-{number}" for number in range(5))
    cluster.client.chat.submit(say("echo a"), run_id=done)
    cluster.client.chat.submit(say("denied"), run_id=failed)
    for run_id in (gone, runs):
        cluster.client.chat.submit(say("stall"), run_id=run_id)
    batch(cluster, waits)
    assert site.shows(done, "SUCCESS")["name"] == CHAT
    failure = site.shows(failed, "FAILURE")
    assert failure["exception"] == "RunFailed(provider_authentication)"
    assert not failure["traceback"]
    assert site.shows(waits, "RETRY")["exception"].startswith("parked: ")
    assert site.task(waits)["name"] == "fireworks.batch.submit"
    site.shows(gone, "STARTED")
    site.terminate(gone)
    assert site.shows(gone, "REVOKED")
    assert site.shows(runs, "STARTED")["worker"] in ("chat-1@here", "chat-2@here")
    listed = site.json("/api/tasks")
    assert [listed[run_id]["state"] for run_id in (done, failed, gone, waits, runs)] == [
        "SUCCESS", "FAILURE", "REVOKED", "RETRY", "STARTED"
    ]  # fmt: skip
    for run_id in (waits, runs):
        site.terminate(run_id)
        site.shows(run_id, "REVOKED")


def test_a_duplicate_of_a_parked_run_leaves_it_parked(cluster: Cluster, site: Site, app: Celery, name: str) -> None:
    batch(cluster, name)
    before, journal = site.shows(name, "RETRY"), cluster.client.events(name)
    request = {"stored": journal[0].data["digest"]}
    app.send_task("fireworks.batch.submit", kwargs={"request": request}, task_id=name, queue="fireworks.batch")
    eventually(lambda: site.task(name)["received"] > before["received"], within=60)
    after = site.shows(name, "RETRY", within=10)
    assert cluster.logged("run.dropped", name) == 1
    assert cluster.client.events(name) == journal, "nothing has happened"
    assert after["retried"] > before["retried"], "it was told again"
    assert after["exception"] == before["exception"]
    site.terminate(name)
    site.shows(name, "REVOKED")


@pytest.mark.requirement("RUN-26")
def test_after_a_kill_the_successor_is_shown_and_the_end(cluster: Cluster, site: Site, name: str) -> None:
    cluster.client.chat.submit(say("long"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    first = site.shows(name, "STARTED")["worker"]
    cluster.holder(name).kill()
    second = eventually(lambda: (task := site.task(name))["worker"] != first and task, within=60)
    assert second["state"] == "STARTED"
    assert is_right(list(cluster.client.follow(name, timeout_s=60)))
    assert site.shows(name, "SUCCESS")["worker"] == second["worker"]


def queued(cluster: Cluster, run_id: str) -> None:
    """No worker serves the background lane here."""
    cluster.client.chat.submit(say("stall", lane="background"), run_id=run_id)


def running(cluster: Cluster, run_id: str) -> None:
    cluster.client.chat.submit(say("stall"), run_id=run_id)
    eventually(lambda: "chat.delta" in types(cluster.client.events(run_id)), within=60)


@pytest.mark.requirement("OPS-03", "RUN-26")
@pytest.mark.parametrize("where", [queued, running, batch], ids=["queued", "running", "parked"])
def test_terminate_ends_a_run_wherever_it_is(
    cluster: Cluster, site: Site, name: str, where: Callable[[Cluster, str], None]
) -> None:
    where(cluster, name)
    assert site.terminate(name) == f"Run {name} was asked to cancel"
    events = list(cluster.client.follow(name, timeout_s=20))  # a message that is lost is sent again after 30 s
    assert is_right(events)
    assert (events[-1].type, events[-1].data["reason"]) == ("run.cancelled", "terminated in Flower")
    site.shows(name, "REVOKED")
    eventually(lambda: cluster.meta(name)["status"] == "REVOKED")


@pytest.mark.requirement("OPS-03", "RUN-26")
def test_terminate_after_the_end_says_so_and_changes_nothing(cluster: Cluster, site: Site, name: str) -> None:
    cluster.client.chat.complete(say("echo x"), run_id=name, timeout_s=60)
    before = site.shows(name, "SUCCESS")
    eventually(lambda: cluster.announced(name))
    journal = cluster.client.events(name), cluster.meta(name)
    assert site.terminate(name) == f"Run {name} had ended before: nothing is changed"
    status, why = site.ask(f"/api/task/abort/{name}", {})
    assert (status, "revoke" in why) == (403, True)
    assert (cluster.client.events(name), cluster.meta(name)) == journal
    assert site.task(name) == before


def test_an_id_that_is_no_run_is_revoked_by_celery(cluster: Cluster, site: Site, app: Celery, name: str) -> None:
    assert site.terminate(name) == f"Revoked '{name}'"
    eventually(lambda: name in app.control.inspect(destination=["work@here"], timeout=2).revoked()["work@here"])


def by_send_task(site: Site, kwargs: dict[str, Any]) -> Any:
    return site.json(f"/api/task/send-task/{CHAT}", {"kwargs": kwargs, "queue": "fireworks.chat"})


def by_async_apply(site: Site, kwargs: dict[str, Any]) -> Any:
    return site.json(f"/api/task/async-apply/{CHAT}", {"kwargs": kwargs})


def by_apply(site: Site, kwargs: dict[str, Any]) -> Any:
    answer = site.json(f"/api/task/apply/{CHAT}", {"kwargs": kwargs})
    assert (answer["state"], answer["result"]) == ("SUCCESS", "(in the journal)")
    return answer


@pytest.mark.requirement("OPS-03")
@pytest.mark.parametrize("start", [by_send_task, by_async_apply, by_apply], ids=lambda start: start.__name__)
def test_the_api_starts_a_run(
    cluster: Cluster, site: Site, name: str, start: Callable[[Site, dict[str, Any]], Any]
) -> None:
    run_id = start(site, {"request": say(f"echo {name}")})["task-id"]
    assert is_right(list(cluster.client.follow(run_id, timeout_s=60)))
    assert cluster.client.result(run_id).message["content"] == name
    site.shows(run_id, "SUCCESS")
    assert leaks(site.everything(run_id, worker="chat-1@here"), name) == []


@contextmanager
def heard(app: Celery) -> Iterator[list[dict[str, Any]]]:
    """Collect every event of every worker, as any listener at the broker can."""
    events: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": True})
        thread.start()
        try:
            eventually(lambda: events, within=30)
            yield events
        finally:
            receiver.should_stop = True
            thread.join(10)


def of_ours(events: list[dict[str, Any]], run_id: str, kind: str) -> bool:
    return any(event["type"] == kind and event.get("uuid") == run_id for event in events)


@pytest.mark.requirement("OPS-03", "RUN-25", "RUN-26")
def test_no_content_of_a_foreign_producer_is_told_by_anyone(
    cluster: Cluster, site: Site, app: Celery, name: str
) -> None:
    """It renders the request into the headers itself, and its tool's worker tells of arguments and results."""
    secret, held = f"secret-{name}", f"{name}-held"
    with heard(app) as events:
        for run_id, text in ((name, f"use read {secret}"), (held, f"stall {secret}")):
            request = say(text, tools=[remote("read", description=f"Reads {secret}.")])
            app.send_task(CHAT, kwargs={"request": request}, task_id=run_id, queue="fireworks.chat")
        eventually(lambda: of_ours(events, name, "task-succeeded"), within=60)
        site.shows(name, "SUCCESS")
        site.shows(held, "STARTED")
        inspected = app.control.inspect(destination=["chat-1@here", "chat-2@here"], timeout=2)
        asked = [inspected.active(), inspected.query_task(held), inspected.reserved(), inspected.scheduled()]
        pages = site.everything(name, held, worker=site.task(held)["worker"])
    ours = [event for event in events if not event["hostname"].startswith("tools")]
    told = {"events": json.dumps(ours), "inspect": json.dumps(asked), "message": str(cluster.meta(held))}
    assert held in told["inspect"]
    assert any(event.get("result") == f"'{secret} was read'" for event in events), "the tool's worker does tell"
    assert "acceptance.read" in pages["/api/tasks"]
    assert leaks(pages | told | logs_but_of(cluster, "tools", "emulator"), secret) == []
    site.terminate(held)
    site.shows(held, "REVOKED")


def logs_but_of(cluster: Cluster, *others: str) -> dict[str, str]:
    return {who: text for who, text in cluster.logs().items() if not who.startswith(others)}


@pytest.mark.requirement("OPS-03")
def test_nobody_enters_without_the_password(site: Site, name: str) -> None:
    paths = [
        "/",
        "/tasks",
        "/task/x",
        "/broker",
        "/api/tasks",
        "/api/workers",
        "/api/task/info/x",
        "/api/task/result/x",
    ]
    for user in ("", "operator:wrong", "a-password-4c1d"):
        assert [site.ask(path, user=user)[0] for path in paths] == [401] * len(paths)
        for path in (f"/api/task/revoke/{name}", f"/api/task/send-task/{CHAT}", f"/api/task/abort/{name}"):
            assert site.ask(path, {}, user=user)[0] == 401
    assert site.ask("/healthcheck", user="") == (200, "OK")


@pytest.mark.requirement("OPS-03")
def test_the_password_is_on_no_command_line_and_in_no_log(cluster: Cluster, site: Site) -> None:
    password = USER.partition(":")[2]
    command = (Path("/proc") / str(site.process.pid) / "cmdline").read_text()
    assert "flower" in command
    assert leaks({"ps": command} | cluster.logs(), password) == []


@pytest.mark.requirement("OPS-03", "OPS-17")
@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"FW_FLOWER_AUTH": ""}, "FW_FLOWER_AUTH: not set"),
        ({"FW_FLOWER_AUTH": "no-colon"}, "FW_FLOWER_AUTH: must be user:password"),
        ({"FLOWER_MAX_TASKS": "many"}, "a variable FLOWER_... cannot be read"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_it_does_not_start_and_says_why_in_one_line(lasting: Cluster, env: dict[str, str], why: str) -> None:
    process = lasting.start("refused", *COMMAND, **{"FW_FLOWER_AUTH": USER, **env})
    assert process.popen.wait(timeout=120) == 1
    (line,) = process.log().splitlines()
    assert line.startswith(why)
    assert "no-colon" not in line


def test_a_port_that_is_taken_is_said_in_one_line(lasting: Cluster, started: Site) -> None:
    process = lasting.start("second", *COMMAND, FW_FLOWER_AUTH=USER, FW_FLOWER_PORT=str(started.port))
    assert process.popen.wait(timeout=120) == 1
    assert [line[:28] for line in process.log().splitlines()] == ["FW_FLOWER_PORT: cannot liste"]


def test_it_stops_at_once_and_kubernetes_may_name_a_service_flower(lasting: Cluster) -> None:
    second = start_flower(lasting, FLOWER_PORT="tcp://10.0.0.7:5555", FLOWER_URL_PREFIX="ops")
    assert second.ask("/ops/healthcheck") == (200, "OK")
    assert second.ask("/ops/api/task/abort/x", {})[0] == 403
    assert second.process.stop(within=5) == 0
    assert "Traceback" not in second.process.log()
