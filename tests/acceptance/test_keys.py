"""Everything that is written to Redis goes by itself, or is bounded: the whole service on a Redis of its own."""

import json
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest
from celery import chord, signature

from api_contracts import keys, names
from tests.acceptance.apps import tool_service
from tests.acceptance.cluster import CELERY, MODEL, Cluster, Process, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.flower_site import Site, start_flower
from tests.acceptance.journal import types
from tests.servers import embedded_valkey
from tests.waiting import eventually
from workers.adapters.sql.archive import SqlArchive
from workers.emulator.speech import VOCABULARY, encode, silence
from workers.ports import RunRecord
from workers.settings import DAY_S
from workers.transport import MAX_LETTERS

RETENTION_S, LIVE_TTL_S = 900, 3600
SERVED: Final = ",".join((*names.QUEUES, names.CONTROL_QUEUE))
WORKERS: Final = ("all-1", "all-2")

# Why a key without time-to-live may be there. Whatever is not on this list fails the test.
BOUNDED: Final = {
    r"fw:\{\w\}:due": "runs that somebody must look at; each leaves when it is announced or its keys are gone",
    re.escape(keys.DEAD_LETTERS): f"the newest {MAX_LETTERS}; test_transport_poison.py",
    re.escape(keys.UNACKED) + "(:index)?": "messages between fetch and accept; no more than workers take",
    re.escape(keys.BINDINGS): "members of the sets below; test_transport_bindings.py",
    re.escape(keys.BEAT) + r"(?!:lock).*": "one hash for each entry of beat, and their index; removed with the entry",
    r"fireworks\.[a-z.]+": "a message for each run that waits (test_backlog.py); beat's are void after a period",
    r"_kombu\.binding\..*": "queues of living processes and those killed within an hour; test_transport_bindings.py",
    r"_kombu\.binding_permanent\..*": "the durable queues of the service and of its tools: one member for each",
    r"_kombu\.binding_deadlines": "one member for each exchange of Celery's own",
}
# Of the tool service, which is none of ours, and of the board on which its tools mark what they do.
STRANGERS: Final = r"(mark|gate):.*|unacked(_index|_mutex)?|" + re.escape(tool_service.QUEUE)
# What of these must be gone when nothing is left to do.
EMPTY_AT_LAST: Final = (r"fw:\{\w\}:due", re.escape(keys.UNACKED) + "(:index)?")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    """Every process that there is, each feature in use."""
    folder = tmp_path_factory.mktemp("keys")
    entry = {"name": "often", "every_s": 1, "task": "acceptance.read", "queue": tool_service.QUEUE}
    lines = [f"{field} = {json.dumps(value)}" for field, value in entry.items()]
    (folder / "beat.toml").write_text("\n".join(["[[entry]]", *lines, ""]))
    settings = {
        "FW_LEASE_S": "2", "FW_SWEEP_S": "0.5", "FW_POLL_S": "0.5", "FW_BEAT_FILE": str(folder / "beat.toml"),
        "FW_RETENTION_S": str(RETENTION_S), "FW_LIVE_TTL_S": str(LIVE_TTL_S),
    }  # fmt: skip
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, **settings)
        try:
            yield made
        finally:
            made.close()


def endless(cluster: Cluster) -> set[str]:
    """Return every key without time-to-live."""
    return {key for key in cluster.redis.scan_iter(count=1000) if cluster.redis.pttl(key) == -1}


def unbounded(found: set[str]) -> list[str]:
    return sorted(key for key in found if not any(re.fullmatch(each, key) for each in (*BOUNDED, STRANGERS)))


def start(cluster: Cluster, name: str) -> Process:
    return cluster.worker(name, queues=SERVED)


def begin_everything(cluster: Cluster, name: str) -> list[str]:
    """Begin runs of all kinds, of which some go on until `end_everything`; return those that are ours."""
    client = cluster.client
    runs = [
        client.chat.submit(say("echo plain"), run_id=f"{name}-plain"),
        client.chat.submit(say("echo behind", lane="background"), run_id=f"{name}-lane"),
        client.chat.submit(say("echo " + "x" * 80_000), run_id=f"{name}-large"),
        client.chat.submit(say(f"use both {name}", tools=["lookup", remote("read")]), run_id=f"{name}-tools"),
        client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=f"{name}-gate"),
        client.chat.submit(say("denied"), run_id=f"{name}-fails"),
        client.chat.submit(say("twice500"), run_id=f"{name}-again"),
        client.chat.submit(say("stall"), run_id=f"{name}-stalls"),
        client.cite.submit(
            model=MODEL, question="cite well", run_id=f"{name}-cites",
            sources=[{"id": "a", "content": "It was built in 1874."}, {"id": "b", "content": "It burned oil."}],
        ),
        client.batch.submit(
            model=MODEL, run_id=f"{name}-rows",
            rows=[{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "echo 1"}]}}],
        ),
    ]  # fmt: skip
    session = client.stt.open(run_id=f"{name}-speech")
    session.send_audio(encode(VOCABULARY[:3]) + silence(0.3))
    return [*runs, session.run_id]


def disturb(cluster: Cluster, name: str, flower: Site) -> None:
    """Do what else is done to a service: conflicts, rubbish, canvas, remote control, signals that change nothing."""
    with cluster.foreign_app() as app:
        asked = {"queue": names.queue_of("chat")}
        app.send_task(names.CHAT, kwargs={"request": say("echo other")}, task_id=f"{name}-gate", **asked)
        app.send_task(names.CHAT, kwargs={"request": say("echo late")}, task_id=f"{name}-late", expires=-1, **asked)
        app.send_task("no.such.task", queue=names.CONTROL_QUEUE)
        header = [signature(names.CHAT, kwargs={"request": say(f"echo {n}")}, app=app, **asked) for n in range(2)]
        told = {"run_id": "nobody", "signal": {"type": "cancel"}}
        body = signature(names.SIGNAL, kwargs=told, immutable=True, queue=names.CONTROL_QUEUE, app=app)
        assert chord(header, body, app=app)().get(timeout=120) == "missing"
        assert app.control.inspect(timeout=5).ping()
    cluster.queues.put(names.queue_of("chat"), {}, b"rubbish")
    flower.json("/api/workers?refresh=1")
    cluster.client.signal(f"{name}-speech", "interrupt")


@pytest.mark.requirement("RUN-11")
def test_every_key_has_a_time_to_live_or_is_bounded(cluster: Cluster, name: str) -> None:
    for each in WORKERS:
        start(cluster, each)
    cluster.tool_service()
    cluster.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO").ready("beat: Starting...")
    cluster.keep(partial(start, cluster), *WORKERS)
    flower = start_flower(cluster)
    runs = begin_everything(cluster, name)
    eventually(lambda: "tool.call_started" in types(cluster.client.events(f"{name}-gate")), within=60)
    eventually(lambda: "stt.final" in types(cluster.client.events(f"{name}-speech")), within=60)
    disturb(cluster, name, flower)
    assert unbounded(endless(cluster)) == []
    cluster.holder(f"{name}-gate").kill()
    cluster.keep(partial(start, cluster), *WORKERS)
    assert cluster.client.cancel(f"{name}-stalls")
    cluster.client.stt.session(f"{name}-speech").end()
    cluster.board.open_gate(name)
    for run_id in runs:
        list(cluster.client.follow(run_id, timeout_s=90))
    cluster.client.retry(f"{name}-fails", by="test", reason="again")
    list(cluster.client.follow(f"{name}-fails", timeout_s=60))
    left = r"|".join(EMPTY_AT_LAST)
    eventually(lambda: not [key for key in endless(cluster) if re.fullmatch(left, key)], within=60)
    assert unbounded(endless(cluster)) == []
    of_runs = [key for run_id in runs for key in cluster.redis.scan_iter(match=f"fw:*:{run_id}:*", count=1000)]
    assert len(of_runs) > 2 * len(runs)
    assert all(0 < cluster.redis.ttl(key) <= RETENTION_S for key in of_runs)


@pytest.mark.requirement("RUN-11")
async def test_a_worker_purges_what_sql_has_kept_for_long_enough(cluster: Cluster, name: str) -> None:
    """By the task that beat sends (test_settings_secrets.py)."""
    cluster.keep(partial(start, cluster), WORKERS[0])
    archive = SqlArchive(cluster.database)
    ages = {f"{name}-old": 91 * DAY_S, f"{name}-young": 89 * DAY_S}
    for run_id, age in ages.items():
        ended = time.time() - age
        await archive.save(RunRecord(run_id, "chat", "completed", 1, "t", {}, {"said": "x"}, ended - 1, ended))
    with cluster.foreign_app() as app:
        app.send_task(names.PURGE, queue=names.CONTROL_QUEUE, task_id=name)
    eventually(lambda: any(f"Task {names.PURGE}[{name}] succeeded" in log for log in cluster.logs().values()))
    assert [await archive.load(run_id) is not None for run_id in ages] == [False, True]
    await archive.close()
