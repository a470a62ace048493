"""The examples for producers, each run as its own process against the whole service.

Django and FastAPI are no dependencies of ours: their examples run where they are installed, and in `make clients`.
"""

import importlib.util
import json
import os
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from api_contracts.runs import Event
from tests.acceptance.cluster import CELERY, MODEL, QUIET, ROOT, Cluster, Process
from tests.acceptance.examples import node
from tests.acceptance.journal import is_right, types
from tests.acceptance.scene import STORY
from tests.clients.environments import WEB as WEB_PACKAGES
from tests.clients.record import Record
from tests.waiting import eventually

WEB = {"django": "examples.django.app:application", "fastapi": "examples.fastapi.app:app"}


@pytest.mark.requirement("OPS-18")
@pytest.mark.broker("redis", "the example speaks to Redis; on RabbitMQ a producer takes a client of it")
def test_node_enqueues_and_follows_without_a_package(cluster: Cluster, name: str) -> None:
    assert node(cluster, name, "short") == f"{STORY}\nrun.completed\n"
    assert is_right(cluster.client.events(name))


@pytest.mark.requirement("OPS-18")
@pytest.mark.broker("redis", "the example speaks to Redis; on RabbitMQ a producer takes a client of it")
def test_node_says_whole_texts_in_any_script(cluster: Cluster, name: str) -> None:
    said = "Grüße, 世界, \N{GRINNING FACE} " * 300
    assert node(cluster, name, f"echo {said}") == f"{said}\nrun.completed\n"


@pytest.mark.requirement("OPS-18")
@pytest.mark.broker("redis", "the example speaks to Redis; on RabbitMQ a producer takes a client of it")
def test_node_tells_how_a_run_ended(cluster: Cluster, name: str) -> None:
    assert node(cluster, name, "denied").endswith("\nrun.failed\n")


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[Process]:
    """The worker of the plain Celery example."""
    options = ("-n", "shop@here", "-Q", "shop", "-P", "solo", *QUIET)
    served = cluster.start("shop", *CELERY, "examples.plain_celery.app", "worker", *options)
    yield served.ready()
    served.stop()


@pytest.mark.requirement("OPS-18", "RUN-13")
def test_a_plain_celery_service_enqueues_by_name_and_a_task_of_its_own_takes_the_result(
    cluster: Cluster, shop: Process, name: str
) -> None:
    ask = ("-m", "examples.plain_celery.app")
    asked = cluster.start("ask", sys.executable, *ask, f"echo yes {name}", FW_MODEL=MODEL, RUN_ID=name)
    assert asked.popen.wait(timeout=120) == 0
    assert asked.log().strip() == f"yes {name}"
    eventually(lambda: shop.says(f"order 4711: yes {name}"), within=60)
    refused = cluster.start("ask", sys.executable, *ask, "denied", FW_MODEL=MODEL, RUN_ID=f"{name}-2")
    assert refused.popen.wait(timeout=120) == 1
    eventually(lambda: shop.says(f"order 4711: run {name}-2 failed"), within=60)


@pytest.fixture(params=WEB)
def site(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """The address of an example under an ASGI server."""
    path = str(WEB_PACKAGES.ready().packages) if os.environ.get("FW_TEST_CLIENTS") else ""
    for package in (request.param, "uvicorn"):
        if not path and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: examples/{request.param} is for `make clients`")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv, env = ("-m", "uvicorn", WEB[request.param], "--port", str(port)), {"FW_MODEL": MODEL, "PYTHONPATH": path}
    served = cluster.start("site", sys.executable, *argv, **env)
    yield ready(served, port)
    served.stop()
    if path:
        Record.known().note(request.param, WEB_PACKAGES.version(request.param), "the service", "submit, stream, resume")


def ready(served: Process, port: int) -> str:
    served.ready("Uvicorn running on")
    return f"http://127.0.0.1:{port}"


def submitted(site: str, text: str, key: str) -> str:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    asked = urllib.request.Request(f"{site}/chats", json.dumps({"text": text}).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return str(json.load(answer)["run_id"])


def streamed(site: str, run_id: str, after: int = 0) -> list[tuple[int, str]]:
    """Read the server-sent events to their end; return ids and names."""
    asked = urllib.request.Request(
        f"{site}/chats/{run_id}/events", headers={"Last-Event-ID": str(after)} if after else {}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = answer.read().decode().strip().split("\n\n")
    fields = [dict(line.split(": ", 1) for line in event.split("\n")) for event in events]
    return [(int(each.get("id", 0)), each["event"]) for each in fields]


@pytest.mark.requirement("OPS-18")
def test_a_web_service_enqueues_and_streams_and_resumes(cluster: Cluster, site: str, name: str) -> None:
    run_id = submitted(site, "short", name)
    assert submitted(site, "short", name) == run_id
    told = streamed(site, run_id)
    events: list[Event] = cluster.client.events(run_id)
    assert is_right(events)
    assert [kind for _, kind in told] == types(events)
    assert streamed(site, run_id, after=told[4][0]) == told[5:]
    assert streamed(site, "no-such-run") == [(0, "error")]


def test_each_example_is_short() -> None:
    for path in (path for kind in ("py", "mjs", "js") for path in Path(ROOT, "examples").rglob(f"*.{kind}")):
        most = 160 if "browser" in path.parts else 60  # a page is more than a view
        assert len(path.read_text().splitlines()) <= most, path
