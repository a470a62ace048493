"""What a worker tells of its tasks (Flower, `celery events`): everything, some times a second, to its very end."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery.events.receiver import EventReceiver

from tests.contract.celery.apps.settings import DRAIN
from tests.contract.celery.conftest import Sent, Starter, Worker
from tests.waiting import eventually

OF_EACH = ["task-received", "task-started", "task-succeeded"]


class Listener:
    """Hears the events of all workers, message by message, from `with` on."""

    def __init__(self, worker: Worker) -> None:
        self._messages: list[list[dict[str, Any]]] = []
        self._listens, self._stop = threading.Event(), threading.Event()
        self._worker = worker
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        assert self._listens.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _listen(self) -> None:
        heard = self._messages

        class Receiver(EventReceiver):
            def _receive(self, body: Any, message: object) -> None:
                heard.append(body if isinstance(body, list) else [body])

        with self._worker.app.connection_for_read() as connection:
            receiver = Receiver(connection, app=self._worker.app)
            with receiver.consumer_context(wakeup=False) as (line, _, _):
                self._listens.set()
                while not self._stop.is_set():
                    try:
                        line.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    def messages(self, *sent: Sent) -> list[list[dict[str, Any]]]:
        """Those that tell of these tasks, without what they tell of others."""
        ids = {each.id for each in sent}
        ours = [[event for event in message if event.get("uuid") in ids] for message in list(self._messages)]
        return [message for message in ours if message]

    def told(self, sent: Sent) -> list[str]:
        """What was told of a task, in order."""
        return [event["type"] for message in self.messages(sent) for event in message]


@pytest.fixture
def worker(start_worker: Starter, redis_url: str) -> Worker:
    return start_worker(redis_url, "-E", concurrency=1, **{DRAIN: "20"})


@pytest.fixture
def listener(worker: Worker) -> Iterator[Listener]:
    with Listener(worker) as listener:
        yield listener


def test_tasks_that_follow_closely_are_told_of_together_and_each_in_full(worker: Worker, listener: Listener) -> None:
    began = time.monotonic()
    sent = [worker.send("brief") for _ in range(7)]
    eventually(lambda: all(listener.told(each) == OF_EACH for each in sent))
    most = 2 + (time.monotonic() - began) / 0.1
    assert len(listener.messages(*sent)) < most, "told at once they would be three messages for each"


def test_what_ends_while_the_worker_drains_is_told_before_it_leaves(
    worker: Worker, listener: Listener, name: str
) -> None:
    held = worker.send("hold", name)
    eventually(lambda: listener.told(held) == OF_EACH[:2])
    worker.process.terminate()
    eventually(lambda: "drain" in worker.marks(worker.queue))
    worker.open(name)
    assert worker.process.wait(30) == 0
    eventually(lambda: listener.told(held) == OF_EACH)
