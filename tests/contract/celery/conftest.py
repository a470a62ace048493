"""A worker's process, and the app that talks to it."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from api_contracts import keys
from tests.contract.celery.apps import settings
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
TASKS = "tests.contract.celery.apps.tasks"


@dataclass
class Sent:
    """A task that was sent. Reads what the worker stored; an AsyncResult would subscribe, and outlive the server."""

    id: str
    client: redis.Redis

    @property
    def meta(self) -> dict[str, Any]:
        raw = self.client.get(f"celery-task-meta-{self.id}")
        return dict(json.loads(str(raw))) if raw else {"status": "PENDING", "result": None}

    @property
    def state(self) -> str:
        return str(self.meta["status"])

    def get(self, within: float = 20) -> Any:
        """Wait for the value."""
        meta = eventually(lambda: self.state in READY and self.meta, within=within)
        assert meta["status"] == "SUCCESS", meta
        return meta["result"]

    def error(self, within: float = 20) -> tuple[str, str]:
        """Wait for the failure: its type and its text."""
        meta = eventually(lambda: self.state in READY and self.meta, within=within)
        assert meta["status"] == "FAILURE", meta
        return meta["result"]["exc_type"], str(meta["result"]["exc_message"])


READY = {"SUCCESS", "FAILURE", "REVOKED"}


@dataclass
class Worker:
    """One `celery worker`, and what a test asks of it."""

    process: subprocess.Popen[bytes]
    app: Celery
    node: str
    queue: str
    log_path: Path
    client: redis.Redis

    def log(self) -> str:
        return self.log_path.read_text()

    def ready(self) -> "Worker":
        def up() -> bool:
            assert self.process.poll() is None, self.log()
            return f"{self.node} ready." in self.log()

        eventually(up, within=30)
        return self

    def send(self, task: str, *args: Any, **options: Any) -> Sent:
        """Send a task by name."""
        result = self.app.send_task(f"{TASKS}.{task}", args, ignore_result=False, **options)
        return Sent(str(result.id), self.client)

    def sign(self, task: str, *args: Any) -> Any:
        return self.app.signature(f"{TASKS}.{task}", args)

    def sent(self, result: Any) -> Sent:
        return Sent(str(result.id), self.client)

    def result(self, task: str, *args: Any, **options: Any) -> Any:
        return self.send(task, *args, **options).get()

    def stats(self) -> dict[str, Any]:
        """The pool's part of `inspect stats`."""
        replies = self.app.control.inspect(destination=[self.node], timeout=5).stats()
        return dict(replies[self.node]["pool"]) if replies else {}

    def active(self) -> list[dict[str, Any]]:
        replies = self.app.control.inspect(destination=[self.node], timeout=5).active()
        return list(replies[self.node])

    def revoke(self, task_id: str, **options: Any) -> Any:
        return self.app.control.revoke(task_id, destination=[self.node], reply=True, timeout=5, **options)

    def marks(self, name: str) -> list[str]:
        return list(self.client.lrange(f"marks:{name}", 0, -1))

    def open(self, name: str, times: int = 1) -> None:
        """Open a gate for so many."""
        self.client.lpush(f"gate:{name}", *range(times))
        self.client.expire(f"gate:{name}", 300)

    def unacked(self, task_id: str) -> list[str]:
        """The delivery tags of a task's unacknowledged messages, on Redis."""
        return [tag for tag, raw in self.client.hgetall(keys.UNACKED).items() if task_id in raw]

    def stop(self, signum: int = signal.SIGTERM, within: float = 30.0) -> int:
        self.process.send_signal(signum)
        return self.process.wait(timeout=within)


Starter = Callable[..., Worker]


@pytest.fixture(scope="module")
def start_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts workers; ends what is left of them after the module."""
    workers: list[Worker] = []

    def start(
        url: str,
        *options: str,
        broker: str = "",
        app: str = "tasks",
        concurrency: int = 8,
        ready: bool = True,
        **environ: str,
    ) -> Worker:
        name = f"contract-{uuid.uuid4().hex[:8]}"
        log_path = tmp_path_factory.mktemp("worker") / "log"
        env = {settings.BROKER: broker or url, settings.RESULTS: url, settings.QUEUE: name, **environ}
        command = [sys.executable, "-m", "celery", "-A", f"tests.contract.celery.apps.{app}", "worker"]
        command += ["-n", f"{name}@here", "-Q", name, "-c", str(concurrency), "-l", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *options]
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **env}, stdout=log, stderr=subprocess.STDOUT
            )
        client = redis.Redis.from_url(url, decode_responses=True)
        producer = settings.make_app(broker or url, "disabled://", name)
        worker = Worker(process, producer, f"{name}@here", name, log_path, client)
        workers.append(worker)
        return worker.ready() if ready else worker

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
        worker.app.close()
        worker.client.close()


@pytest.fixture
def name() -> str:
    """A name for marks and gates that no other test has."""
    return uuid.uuid4().hex
