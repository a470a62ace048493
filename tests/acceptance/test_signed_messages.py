"""The whole service with signing on: everything of ours signs, nothing that is unsigned or changed is taken.

Messages of strangers are written by hand and pushed with plain Redis.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest

from api_contracts import keys
from api_contracts.client import Client
from api_contracts.names import BATCH_POLL, CHAT, CONTROL_QUEUE, DELIVER, PURGE, SIGNAL, SWEEP, WAKE
from api_contracts.runs import Event
from tests.acceptance.cluster import CELERY, Cluster, remote, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.examples import node
from tests.acceptance.journal import is_right, lives, of_type, types
from tests.servers import embedded_valkey
from tests.waiting import eventually

KEY, OLD_KEY = "the signing key of now that is long enough", "the signing key of before that is long enough"
WORKERS = ("chat-1", "chat-2")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("signed")
    with embedded_valkey(folder / "valkey") as valkey:
        settings = {"FW_SIGNING_KEYS": f"{KEY},{OLD_KEY}", "FW_MESSAGE_BYTES": "65536", "FW_POLL_S": "0.3"}
        made = new_cluster(folder, valkey, FW_LEASE_S="2", FW_SWEEP_S="0.5", **settings)
        try:
            made.tool_service().ready()
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(lasting: Cluster) -> Cluster:
    """Two workers that live."""
    lasting.keep(lasting.worker, *WORKERS)
    return lasting


def push(cluster: Cluster, task: str, task_id: str, kwargs: dict[str, Any], key: str = "", **more: Any) -> None:
    """Push a message of protocol 2; with a key it is signed, as any language can."""
    body = json.dumps([more.pop("args", []), kwargs, {}]).encode()
    headers = {"lang": "any", "task": task, "id": task_id} | more
    if key:
        text = b"v1\n" + task_id.encode() + b"\n" + task.encode() + b"\n" + body
        headers["fw_signature"] = hmac.new(key.encode(), text, hashlib.sha256).hexdigest()
    queue = "fireworks.chat" if task == CHAT else CONTROL_QUEUE
    cluster.queues.put(queue, headers, body)


def refusals(cluster: Cluster, task_id: str) -> list[str]:
    """Return the codes of the dead letters of an id, oldest first."""
    found = [json.loads(str(raw)) for raw in cluster.redis.lrange(keys.DEAD_LETTERS, 0, -1)]
    return [each["code"] for each in reversed(found) if f'"id": "{task_id}"' in each["entry"]]


def finished(cluster: Cluster, run_id: str) -> list[Event]:
    events = list(cluster.client.follow(run_id, timeout_s=60, wait_s=30))
    assert is_right(events)
    return events


def said(cluster: Cluster, run_id: str) -> object:
    result = cluster.client.chat.result(run_id)
    return result.message and result.message["content"]


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize("key", [KEY, OLD_KEY], ids=["first", "rotated"])
def test_a_stranger_with_a_key_starts_a_run(cluster: Cluster, name: str, key: str) -> None:
    push(cluster, CHAT, name, {"request": say("echo by hand")}, key)
    finished(cluster, name)
    assert said(cluster, name) == "by hand"
    assert refusals(cluster, name) == []


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize(("key", "code"), [("", "unsigned"), ("another-key-of-his", "bad_signature")])
def test_a_stranger_without_the_key_starts_nothing(cluster: Cluster, name: str, key: str, code: str) -> None:
    push(cluster, CHAT, name, {"request": say("echo by hand")}, key)
    assert eventually(lambda: refusals(cluster, name)) == [code]
    assert cluster.client.events(name) == []
    assert cluster.meta(name)["status"] == "PENDING"


@pytest.mark.requirement("OPS-14")
def test_a_refused_message_leaves_the_run_of_its_id_alone(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("short"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    push(cluster, CHAT, name, {"request": say("echo another")})
    push(cluster, CHAT, name, {"request": say("echo " + "x" * 70_000)}, KEY)
    push(cluster, SIGNAL, name, {"run_id": name, "signal": {"type": "cancel"}})
    assert eventually(lambda: len(found := refusals(cluster, name)) == 3 and sorted(found)) == [
        "too_large", "unsigned", "unsigned",
    ]  # fmt: skip
    events = finished(cluster, name)
    assert events[-1].type == "run.completed"
    assert not of_type(events, "run.conflict")


@pytest.mark.requirement("OPS-14", "RUN-04")
def test_a_worker_sends_a_stranger_s_run_again_under_its_own_signature(cluster: Cluster, name: str) -> None:
    """The stored message has the stranger's signature, of a body that is no longer sent."""
    push(cluster, CHAT, name, {"request": say("short")}, OLD_KEY)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    cluster.holder(name).kill()
    events = finished(cluster, name)
    assert events[-1].type == "run.completed"
    assert len(set(lives(events))) == 2
    assert refusals(cluster, name) == []


@pytest.mark.requirement("OPS-14", "TOOL-03", "TOOL-12")
def test_a_tool_of_a_service_without_a_key_answers_and_nobody_can_answer_for_it(cluster: Cluster, name: str) -> None:
    """A stranger who knows all names, and sends his results first, changes nothing: he does not know the token."""
    cluster.client.chat.submit(say(f"use charge {name}", tools=[remote("charge")]), run_id=name)
    eventually(lambda: cluster.board.marks(name) == ["charged"], within=60)
    before = types(cluster.client.events(name))
    (reserved,) = of_type(cluster.client.events(name), "tool.call_reserved")
    call = {"run_id": name, "call_id": reserved.data["call_id"]}
    forged = [{"token": ""}, {"token": "0" * 32}, {"token": reserved.data["task_id"]}]
    for number, token in enumerate(forged):
        for outcome in ("result", "failed"):
            push(cluster, DELIVER, f"{number}-{outcome}-{name}", call | token | {"outcome": outcome}, args=["forged"])
    letters = eventually(lambda: cluster.redis.xlen(keys.inbox(name)) == 2 * len(forged))
    assert letters
    after = types(cluster.client.events(name))
    assert [each for each in after if each != "run.ignored"] == before, "forged letters are told, and change nothing"
    cluster.board.open_gate(name)
    finished(cluster, name)
    assert said(cluster, name) == f"told: {name} was charged"


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize("task", [SWEEP, PURGE, BATCH_POLL, WAKE])
def test_no_stranger_makes_the_service_look(cluster: Cluster, name: str, task: str) -> None:
    push(cluster, task, name, {"run_id": name} if task == WAKE else {})
    assert eventually(lambda: refusals(cluster, name)) == ["unsigned"]


@pytest.mark.requirement("OPS-14")
def test_a_signed_signal_reaches_its_run(cluster: Cluster, name: str) -> None:
    cluster.client.chat.submit(say("short"), run_id=name)
    eventually(lambda: "chat.delta" in types(cluster.client.events(name)), within=60)
    push(cluster, SIGNAL, f"s-{name}", {"run_id": name, "signal": {"type": "cancel", "id": "1"}}, KEY)
    assert finished(cluster, name)[-1].type == "run.cancelled"


@pytest.mark.requirement("OPS-14")
def test_beat_s_ticks_are_signed(cluster: Cluster) -> None:
    cluster.start("beat", *CELERY, "workers.app", "beat", "--pidfile=", "-l", "INFO")
    eventually(lambda: any(f"Task {BATCH_POLL}[" in log for log in cluster.logs().values()), within=60)
    refused = [str(raw) for raw in cluster.redis.lrange(keys.DEAD_LETTERS, 0, -1) if '"origin"' in str(raw)]
    assert refused == []


@pytest.mark.requirement("OPS-14")
def test_a_client_without_the_key_records_a_run_that_only_a_worker_can_ring_for(cluster: Cluster, name: str) -> None:
    """Who can write the journals is trusted: signing keeps the broker's door, not Redis'."""
    where = {"redis_url": cluster.valkey.url, "broker_url": cluster.broker, "database_url": cluster.database}
    with Client(**where, signing_keys="") as unsigned:
        unsigned.chat.submit(say("echo x"), run_id=name)
    assert eventually(lambda: refusals(cluster, name)) == ["unsigned"]
    assert types(cluster.client.events(name)) == ["run.queued"]
    cluster.client.cancel(name)
    assert finished(cluster, name)[-1].type == "run.cancelled"


@pytest.mark.requirement("OPS-14")
def test_no_signing_key_is_in_any_log(cluster: Cluster) -> None:
    assert not any(KEY in log or OLD_KEY in log for log in cluster.logs().values())


@pytest.mark.requirement("OPS-14", "OPS-18")
@pytest.mark.broker("redis", "the example speaks to Redis; on RabbitMQ a producer takes a client of it")
def test_node_signs_with_the_key_that_its_environment_has(cluster: Cluster, name: str) -> None:
    assert node(cluster, name, "echo signed") == "signed\nrun.completed\n"
