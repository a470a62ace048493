"""Content stays where it belongs: what people, models, tools and speakers say is in journals, results and SQL.

It is not in messages, in what Celery tells of them, in logs or in Flower.

Redis shows every command that it is given, so nothing that goes through the broker can hide. A message to a tool of
another service holds the call's arguments, and the one that brings its result holds that: they are what it is for.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

from api_contracts import keys
from tests.acceptance.cluster import CELERY, MODEL, Cluster, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.flower_site import Site, leaks, start_flower
from tests.acceptance.journal import is_right, of_type
from tests.acceptance.test_credentials import unwrapped
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.emulator.speech import VOCABULARY, encode, silence

pytestmark = [
    pytest.mark.requirement("RUN-25"),
    pytest.mark.broker("redis", "it listens to every command that the broker is given; producers are the same"),
]

QUEUES = "fireworks.chat,fireworks.stt,fireworks.batch,fireworks.control"
OF_TOOLS = ("acceptance.read", "fireworks.tools.deliver")
JOURNALS = ("EVAL", "EVALSHA", "XADD", "XREAD", "SCRIPT")
RUN_KEYS = keys.events("x")[:4]
SAID = "zeugma"
"""Stands in everything that is content; nobody else uses the word."""


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("content")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="2", FW_SWEEP_S="0.5", FW_POLL_S="0.3", FW_LOG_LEVEL="DEBUG")
        try:
            made.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "DEBUG")
            made.tool_service().ready()
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(lasting: Cluster) -> Iterator[Cluster]:
    """No worker of ours before a test starts one, nor after it."""
    yield lasting
    for process in lasting.processes:
        if process.lives and process.name in ("first", "second"):
            process.kill()


@pytest.fixture(scope="module")
def site(lasting: Cluster) -> Site:
    return start_flower(lasting)


@contextmanager
def broker_told(cluster: Cluster) -> Iterator[list[str]]:
    """Collect what anybody puts into Redis meanwhile: messages, Celery's events, its orders to workers."""
    told: list[str] = []
    listening = threading.Event()
    with Redis.from_url(cluster.valkey.url, decode_responses=True, encoding_errors="replace") as client:

        def listen() -> None:
            with client.monitor() as monitor:
                listening.set()
                for each in monitor.listen():
                    if "all was heard" in each["command"]:
                        return
                    told.append(each["command"])

        thread = threading.Thread(target=listen)
        thread.start()
        assert listening.wait(10)
        try:
            yield told
        finally:
            cluster.redis.echo("all was heard")
            thread.join(30)


def of_broker(commands: list[str]) -> list[str]:
    """Return those that are no journal's, no result's, and no message of a tool, as far as they say anything."""
    ours = (each for each in commands if " " in each and each.split(" ", 1)[0].upper() not in JOURNALS)
    # What AsyncResult.get() returns is Celery's result backend's.
    ours = (each for each in ours if "celery-task-meta-" not in each.split(" ", 2)[1][:40])
    # Inside of a script: the script's caller is a journal's, as its keys are.
    ours = (each for each in ours if RUN_KEYS not in each.split(" ", 2)[1][: len(RUN_KEYS)])
    ours = (each for each in ours if not each.startswith("RPUSH mark:"))  # the tool's own notes
    return [each for each in ours if not any(f'"task": "{tool}"' in each for tool in OF_TOOLS)]


def one_of_each(cluster: Cluster, name: str) -> list[str]:
    """Do a run of each kind, with the word in each field of content; return their ids once they are told."""
    client, ids = cluster.client, [f"{name}-{kind}" for kind in ("chat", "tool", "cite", "stt", "batch")]
    chat, tool, cite, stt, batch = ids
    client.chat.submit(say(f"echo {SAID}", metadata={"note": SAID}, user=SAID), run_id=chat)
    client.chat.submit(say(f"use read {SAID}-{name}", tools=[remote("read", description=SAID)]), run_id=tool)
    text = f"It was built in 1874. {SAID}. Its lamp burned oil until 1931."
    source = {"id": SAID, "content": text, "metadata": {"title": SAID}}
    client.cite.submit(model=MODEL, question=f"cite well {SAID}", sources=[source], instructions=SAID, run_id=cite)
    session = client.stt.open(prompt=SAID, run_id=stt)
    session.send_audio(encode(VOCABULARY[:2]) + silence(0.3))
    session.end()
    row: Any = {"custom_id": SAID, "body": {"messages": [{"role": "user", "content": f"echo {SAID}"}]}}
    client.batch.submit(model=MODEL, rows=[row], system_prompt=SAID, run_id=batch)
    for run_id in ids:
        events = list(client.follow(run_id, timeout_s=90))
        assert is_right(events)
        assert SAID in events[0].model_dump_json(), "it is where it belongs"
        assert client.result(run_id).status == "completed"
    eventually(lambda: all(cluster.announced(run_id) for run_id in ids), within=30)
    return ids


def test_no_kind_of_run_lets_content_into_messages_events_logs_or_flower(
    cluster: Cluster, site: Site, name: str
) -> None:
    cluster.worker("first", queues=QUEUES).ready()
    with broker_told(cluster) as commands:
        ids = one_of_each(cluster, name)
        for run_id in ids:
            site.shows(run_id, "SUCCESS")
        pages = site.everything(*ids, worker="first@here")
    told = of_broker(commands)
    assert sum(run_id in unwrapped(each) or run_id in each for each in told for run_id in ids) >= 3 * len(ids)
    assert any(SAID in each or SAID in unwrapped(each) for each in commands), "and would be seen here"
    assert [each[:300] for each in told if SAID in each or SAID in unwrapped(each)] == []
    logs = {who: text for who, text in cluster.logs().items() if not who.startswith(("tools", "emulator"))}
    assert len(logs) >= 3
    assert leaks(pages | logs, SAID) == []


def test_a_run_that_is_rung_for_again_is_named_and_not_told(cluster: Cluster, name: str) -> None:
    """Also where a producer of another service had put the whole request into its message."""
    first = cluster.worker("first", queues=QUEUES).ready()
    with cluster.foreign_app() as app:
        app.send_task(
            "fireworks.chat.complete", kwargs={"request": say(f"stall {SAID}")}, task_id=name, queue="fireworks.chat"
        )
        eventually(lambda: of_type(cluster.client.events(name), "chat.delta"))
        with broker_told(cluster) as commands:
            first.kill()
            cluster.worker("second", queues=QUEUES).ready()
            eventually(lambda: of_type(cluster.client.events(name), "run.resumed"), within=60)
            cluster.client.cancel(name)
            list(cluster.client.follow(name, timeout_s=60))
            eventually(lambda: cluster.announced(name), within=30)
    rung = [each for each in of_broker(commands) if "fireworks.chat.complete" in each]
    assert any(name in each for each in rung), "somebody rang"
    assert [each[:300] for each in of_broker(commands) if SAID in each or SAID in unwrapped(each)] == []


def test_a_large_request_is_stored_beside_the_journal_and_the_message_stays_small(cluster: Cluster, name: str) -> None:
    text = f"echo {SAID} " + "x" * 100_000
    with broker_told(cluster) as commands:
        cluster.client.chat.submit(say(text), run_id=name)
    (queued,) = cluster.client.events(name)
    assert queued.data.get("request") is None
    assert len(json.dumps(queued.data)) < 2000
    (message,) = [each for each in of_broker(commands) if each.startswith("LPUSH fireworks.chat ")]
    assert len(message) < 4000
    cluster.worker("first", queues=QUEUES).ready()
    list(cluster.client.follow(name, timeout_s=60))
    assert cluster.client.result(name).model_dump()["message"]["content"].startswith(f"{SAID} xxx")
