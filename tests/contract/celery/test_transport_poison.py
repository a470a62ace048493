"""List entries that are no messages: each is buried with its reason, the worker lives, the next message runs."""

import base64
import json
from typing import Any

import pytest
import redis

from api_contracts import keys
from tests.contract.celery.conftest import TASKS, Sent, Starter, Worker
from tests.waiting import eventually
from workers.cli.embedded import EmbeddedValkey
from workers.transport import MAX_LETTERS
from workers.transport.letters import MAX_ENTRY_BYTES


@pytest.fixture(scope="module")
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, concurrency=4)


def envelope(worker: Worker, task_id: str) -> dict[str, Any]:
    """What a foreign producer pushes: protocol 2, nothing optional."""
    return {
        "body": base64.b64encode(json.dumps([[20, 1], {}, None]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": f"{TASKS}.add", "id": task_id},
        "properties": {
            "delivery_tag": f"tag-{task_id}",
            "delivery_info": {"exchange": "", "routing_key": worker.queue},
            "body_encoding": "base64",
        },
    }


def changed(path: str, value: Any) -> Any:
    """A change to the envelope: set what is at the path, or remove it."""

    def change(message: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            message = message[parent]
        if value is REMOVED:
            del message[last]
        else:
            message[last] = value

    return change


REMOVED = object()

POISON = {
    "headers missing": changed("headers", REMOVED),
    "headers is null": changed("headers", None),
    "properties missing": changed("properties", REMOVED),
    "properties is a list": changed("properties", []),
    "properties.delivery_tag missing": changed("properties/delivery_tag", REMOVED),
    "properties.delivery_tag is a number": changed("properties/delivery_tag", 7),
    "properties.delivery_info missing": changed("properties/delivery_info", REMOVED),
    "properties.delivery_info.routing_key missing": changed("properties/delivery_info/routing_key", REMOVED),
    "properties.delivery_info.exchange is an object": changed("properties/delivery_info/exchange", {}),
    "body missing": changed("body", REMOVED),
    "body is an object": changed("body", {}),
    "body is not base64": changed("body", "abc"),
    "body is not rot13": changed("properties/body_encoding", "rot13"),
    "body is not JSON": changed("body", base64.b64encode(b"{{{").decode()),
    "body is not [args, kwargs, embed]": changed("body", base64.b64encode(b"7").decode()),
    "body is not [args, kwargs, embed]: wrong types": changed("body", base64.b64encode(b"[{}, [], 1]").decode()),
    "content-type missing": changed("content-type", REMOVED),
    "content-encoding missing": changed("content-encoding", REMOVED),
    "content-type is not application/json": changed("content-type", "application/x-python-serialize"),
    "headers.id missing": changed("headers/id", REMOVED),
    "headers.id is an object": changed("headers/id", {}),
    "headers.task is an object": changed("headers/task", {}),
    "headers.timelimit is not [hard, soft]": changed("headers/timelimit", [1]),
    "headers.retries is a string": changed("headers/retries", "3"),
    "headers.eta is a number": changed("headers/eta", 5),
    "headers.stamped_headers is not": changed("headers/stamped_headers", [{}]),
}


def letters(worker: Worker) -> list[dict[str, Any]]:
    return [
        letter
        for raw in worker.client.lrange(keys.DEAD_LETTERS, 0, -1)
        if (letter := json.loads(raw))["queue"] == worker.queue
    ]


def push(worker: Worker, entry: bytes | str) -> None:
    worker.client.lpush(worker.queue, entry)


def buried(worker: Worker, entry: bytes | str, name: str) -> dict[str, Any]:
    """Push an entry and a good message after it; return the entry's letter."""
    before = len(letters(worker))
    push(worker, entry)
    push(worker, json.dumps(envelope(worker, name)))
    assert Sent(name, worker.client).get() == 21
    assert worker.process.poll() is None
    found = letters(worker)
    assert len(found) == before + 1
    assert worker.log().count("Connected to ") == 1  # nor was it taken for a lost connection
    eventually(lambda: not worker.unacked(name))
    return found[0]


@pytest.mark.requirement("RUN-20")
@pytest.mark.parametrize("reason", POISON)
def test_an_entry_with_something_wrong_in_it_is_buried(worker: Worker, name: str, reason: str) -> None:
    message = envelope(worker, f"bad-{name}")
    POISON[reason](message)
    letter = buried(worker, json.dumps(message), name)
    assert letter["reason"].startswith(reason.replace(" missing", " is missing"))
    assert json.loads(letter["entry"]) == message
    assert letter["at"] > 1_600_000_000_000


@pytest.mark.requirement("RUN-20")
@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("}{", "not JSON: JSONDecodeError"),
        ("", "not JSON: JSONDecodeError"),
        (b"\xff\xfe\x00", "not JSON: UnicodeDecodeError"),
        ("[" * 200_000, "not JSON: RecursionError"),
        ('{"__type__": "uuid", "__value__": 7}', "not JSON: TypeError"),
        ('{"__type__": "datetime", "__value__": "soon"}', "not JSON: ValueError"),
        ("[1]", "not an object but a list"),
        ("7", "not an object but a number"),
        ("null", "not an object but null"),
    ],
    ids=["braces", "nothing", "bytes", "depth", "uuid", "datetime", "list", "number", "null"],
)
def test_an_entry_that_is_no_message_is_buried(worker: Worker, name: str, entry: bytes | str, reason: str) -> None:
    letter = buried(worker, entry, name)
    assert letter["reason"] == reason
    assert letter["bytes"] == len(entry)
    assert len(letter["entry"]) <= MAX_ENTRY_BYTES


@pytest.mark.requirement("RUN-20")
@pytest.mark.parametrize(
    ("change", "code"),
    [(changed("headers/task", "nobody.knows.this"), "unknown_task"), (changed("headers", {}), "malformed"),
     (changed("headers/expires", "never"), "malformed"), (changed("headers/eta", "now"), "malformed")],
    ids=["unregistered", "no task", "bad expires", "bad eta"],
)  # fmt: skip
def test_a_message_that_the_worker_rejects_is_buried(worker: Worker, name: str, change: Any, code: str) -> None:
    message = envelope(worker, f"bad-{name}")
    change(message)
    letter = buried(worker, json.dumps(message), name)
    assert letter["code"] == code
    assert json.loads(letter["entry"])["properties"]["delivery_tag"] == f"tag-bad-{name}"


def test_a_broadcast_that_is_no_message_is_dropped(worker: Worker, name: str) -> None:
    database = worker.client.connection_pool.connection_kwargs.get("db", 0)
    for junk in ("}{", "7", "{}", '{"headers": {}, "properties": {}}'):
        worker.client.publish(f"/{database}.celery.pidbox", junk)
    assert worker.result("add", 1, 1) == 2
    assert worker.process.poll() is None
    assert worker.stats()["running"] == 0
    assert worker.log().count("Connected to ") == 1


def test_the_dead_letter_list_is_bounded(start_worker: Starter, own_valkey: EmbeddedValkey, name: str) -> None:
    client = redis.Redis.from_url(own_valkey.url)
    client.rpush(keys.DEAD_LETTERS, *(json.dumps({"queue": "old"}) for _ in range(MAX_LETTERS)))
    worker = start_worker(own_valkey.url)
    buried(worker, "}{", name)
    assert client.llen(keys.DEAD_LETTERS) == MAX_LETTERS
    client.close()
