"""What a worker refuses, on each broker: written by hand, so that nothing of ours made it right.

RabbitMQ where `FW_TEST_RABBITMQ_URL` says; Redis always.
"""

import base64
import bz2
import json
import os
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from celery.signals import before_task_publish
from kombu import Connection, Producer
from kombu.utils.json import dumps

from api_contracts import keys
from api_contracts.client.signed_amqp import KEYS
from api_contracts.names import DELIVER
from api_contracts.signing import HEADER, SigningKeys, sign
from tests.contract.celery.apps import settings
from tests.contract.celery.conftest import TASKS, Sent, Starter, Worker
from tests.waiting import eventually

KEY, OLD_KEY = "the key that signs now that is long enough", "the key that went before that is long enough"
MOST = 64 * 1024
ADD = f"{TASKS}.add"
BODY = b'[[20, 1], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
JSON, PICKLE = "application/json", "application/x-python-serialize"


class Bomb:
    """Ends whoever unpickles it."""

    def __reduce__(self) -> Any:
        return (os._exit, (66,))


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def worker(request: pytest.FixtureRequest, start_worker: Starter, redis_url: str) -> Iterator[Worker]:
    """A worker that asks for signatures."""
    broker = redis_url
    if request.param == "rabbitmq":
        broker = os.environ.get("FW_TEST_RABBITMQ_URL", "")
        if not broker:
            pytest.skip("FW_TEST_RABBITMQ_URL is not set")
    env = {settings.SIGNING_KEYS: f"{KEY},{OLD_KEY}", settings.MESSAGE_BYTES: str(MOST)}
    yield (started := start_worker(redis_url, broker=broker, concurrency=4, **env))
    if request.param == "rabbitmq":
        with Connection(broker) as connection:
            connection.default_channel.queue_delete(started.queue)
            connection.default_channel.exchange_delete(started.queue)


def publish(worker: Worker, task_id: str, body: bytes = BODY, content_type: str = JSON, **headers: Any) -> None:
    """Send bytes as they are."""
    named = {"task": ADD, "id": task_id} | headers
    with Connection(worker.app.conf.broker_url) as connection:
        Producer(connection).publish(
            body, routing_key=worker.queue, content_type=content_type, content_encoding="utf-8", headers=named
        )  # fmt: skip


def signature(task_id: str, body: bytes = BODY, key: str = KEY, task: str = ADD) -> dict[str, str]:
    return {HEADER: sign(task, task_id, body, key)}


def letters(worker: Worker) -> list[dict[str, Any]]:
    return [
        letter
        for raw in worker.client.lrange(keys.DEAD_LETTERS, 0, -1)
        if (letter := json.loads(raw))["queue"] == worker.queue
    ]


def works(worker: Worker, name: str) -> bool:
    """Whether a right message sent now is taken, by the worker that was there from the start."""
    publish(worker, name, **signature(name))
    return Sent(name, worker.client).get() == 21 and worker.process.poll() is None


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize("key", [KEY, OLD_KEY], ids=["first", "rotated"])
def test_a_signed_message_is_taken(worker: Worker, name: str, key: str) -> None:
    publish(worker, name, **signature(name, key=key))
    assert Sent(name, worker.client).get() == 21


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "unsigned"),
        ({"headers": signature("bad", key="a key that nobody knows")}, "bad_signature"),
        ({"body": BODY.replace(b"20", b"30"), "headers": "right"}, "bad_signature"),
        ({"headers": signature("another-id")}, "bad_signature"),
        ({"headers": "right", "task": f"{TASKS}.fails"}, "bad_signature"),
        ({"content_type": PICKLE, "body": pickle.dumps(Bomb()), "headers": "own"}, "not_json"),
        ({"content_type": "application/x-yaml", "body": b"a: b", "headers": "own"}, "not_json"),
        ({"content_type": "application/x-msgpack", "body": b"\x93\xc0", "headers": "own"}, "not_json"),
        ({"compression": "zlib", "body": zlib.compress(bytes(2**25)), "headers": "own"}, "compressed"),
        ({"compression": "bzip2", "body": bz2.compress(bytes(2**24)), "headers": "own"}, "compressed"),
        ({"body": b"[" * 50_000, "headers": "own"}, "too_deep"),
        ({"body": b"[[" + b"1," * MOST + b"1], {}, {}]", "headers": "own"}, "too_large"),
        ({"body": b"[1]", "headers": "own"}, "malformed"),
        ({"body": b"\xff\xfe", "headers": "own"}, "malformed"),
        ({"timelimit": [1], "headers": "own"}, "malformed"),
        ({"task": "nobody.knows", "headers": "own"}, "unknown_task"),
    ],
    ids=["unsigned", "wrong key", "body changed", "id changed", "task changed", "pickle", "yaml", "msgpack",
         "zlib bomb", "bzip2 bomb", "depth", "size", "no task", "no text", "bad header", "unknown"],
)  # fmt: skip
def test_a_message_that_breaks_a_rule_is_a_dead_letter(
    worker: Worker, name: str, change: dict[str, Any], code: str
) -> None:
    task_id, change = f"bad-{name}", dict(change)
    body, task = change.get("body", BODY), change.get("task", ADD)
    match change.pop("headers", {}):
        case "right":
            change |= signature(task_id)
        case "own":
            change |= signature(task_id, body, task=task)
        case given:
            change |= given
    before = len(letters(worker))
    publish(worker, task_id, **change)
    found = eventually(lambda: (now := letters(worker))[: len(now) - before])
    assert [letter["code"] for letter in found] == [code]
    assert len(found[0]["entry"]) <= 8192
    line = eventually(lambda: [line for line in worker.log().splitlines() if task_id in line and "refused" in line])
    assert f"'{code}'" in line[0] or f"={code}" in line[0] or f'"{code}"' in line[0]
    expected = "FAILURE" if code == "unknown_task" else "PENDING"
    eventually(lambda: Sent(task_id, worker.client).state == expected)
    assert works(worker, f"good-{name}")
    assert worker.log().count("Connected to ") == 1


@pytest.mark.requirement("OPS-14")
def test_a_message_without_head_is_a_dead_letter(worker: Worker, name: str) -> None:
    """Protocol 1 has task and id in its body, where no signature is."""
    before = len(letters(worker))
    body = json.dumps({"task": ADD, "id": name, "args": [1, 2], "kwargs": {}}).encode()
    with Connection(worker.app.conf.broker_url) as connection:
        Producer(connection).publish(body, routing_key=worker.queue, content_type=JSON, content_encoding="utf-8")
    assert works(worker, f"good-{name}")
    assert [letter["code"] for letter in letters(worker)[: len(letters(worker)) - before]] == ["malformed"]
    assert Sent(name, worker.client).state == "PENDING"


@pytest.mark.requirement("OPS-14")
def test_what_our_app_sends_is_signed_and_so_is_what_a_worker_sends_on(worker: Worker, name: str) -> None:
    """A link and a chain are sent by the worker, with the body that it made."""
    sender = settings.make_app(worker.app.conf.broker_url, "disabled://", worker.queue)
    sender.conf[KEYS] = SigningKeys((KEY,))
    first = sender.signature(ADD, (20, 1), task_id=f"{name}-1")
    chained = first | sender.signature(ADD, (2,), task_id=f"{name}-2")
    chained.apply_async(link=sender.signature(ADD, (4,), task_id=f"{name}-3"))
    assert [Sent(f"{name}-{n}", worker.client).get() for n in (1, 2, 3)] == [21, 23, 27]
    sender.close()


@pytest.mark.requirement("OPS-14")
def test_a_foreign_app_signs_with_a_signal_of_celery(worker: Worker, name: str) -> None:
    """The recipe of docs/decisions/0016 and of examples/: what it signs is what kombu sends."""

    def add_signature(sender: str, headers: dict[str, Any], body: Any, **_: Any) -> None:
        headers[HEADER] = sign(sender, headers["id"], dumps(body).encode(), KEY)

    before_task_publish.connect(add_signature)
    try:
        worker.send("add", 20, 1, task_id=name)
    finally:
        before_task_publish.disconnect(add_signature)
    assert Sent(name, worker.client).get() == 21


@pytest.mark.requirement("OPS-14", "TOOL-03")
def test_a_tools_result_with_links_would_have_the_worker_sign_for_a_stranger(worker: Worker, name: str) -> None:
    before = len(letters(worker))
    linked = {"task": ADD, "args": [1, 1], "kwargs": {}, "options": {"task_id": f"bad-{name}"}, "subtask_type": None}
    body = json.dumps([[5], {}, {"callbacks": [linked]}]).encode()
    publish(worker, f"deliver-{name}", body, task=DELIVER)
    assert works(worker, f"good-{name}")
    assert [letter["code"] for letter in letters(worker)[: len(letters(worker)) - before]] == ["unsigned"]
    assert Sent(f"bad-{name}", worker.client).state == "PENDING"


@pytest.mark.requirement("OPS-14")
def test_a_letter_of_rabbitmq_can_be_read_as_one_of_redis(worker: Worker, name: str) -> None:
    publish(worker, f"bad-{name}")
    letter = eventually(lambda: [each for each in letters(worker) if f"bad-{name}" in each["entry"]])[0]
    entry = json.loads(letter["entry"])
    assert entry["headers"]["id"] == f"bad-{name}"
    assert base64.b64decode(entry["body"]) == BODY
    assert letter["queue"] == worker.queue
