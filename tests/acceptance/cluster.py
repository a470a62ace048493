"""The whole service as processes: emulator, workers, tool service; each is started, killed and paused by name."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis

from api_contracts import keys
from api_contracts.client import Client
from tests.acceptance.apps import board, tool_service
from tests.acceptance.combination import Combination
from tests.acceptance.journal import lives
from tests.acceptance.queues import queues_of
from tests.acceptance.scene import scene
from tests.servers import endless_keys
from tests.waiting import eventually
from workers.cli.deathsig import spawn
from workers.cli.embedded import EmbeddedValkey

ROOT = Path(__file__).parents[2]
KEY = "fw_acceptance_9c1f"
"""The provider's key of these tests; it must not be seen anywhere."""
MODEL = "accounts/fireworks/models/emulated-classic"
CELERY = (sys.executable, "-m", "celery", "-A")
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO")
QUEUES = "fireworks.chat,fireworks.control"
READY_WITHIN_S = 180.0
"""Seconds of CPU are needed; on a machine that others keep busy a cluster's processes start for minutes."""


def clean_environment() -> dict[str, str]:
    """Return the environment without what the developer of the day has set for the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FW_", "FIREWORKS_"))}


@dataclass
class Process:
    """One process and what it printed. `stop`, `kill` and `pause` return when it has happened."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log_path: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def lives(self) -> bool:
        return self.popen.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def says(self, text: str) -> bool:
        """Whether it has printed this; fails if it has ended without."""
        found = text in self.log()
        assert found or self.lives, f"{self.name} ended with {self.popen.returncode}:\n{self.log()[-3000:]}"
        return found

    def ready(self, text: str = "ready.") -> "Process":
        eventually(lambda: self.says(text), within=READY_WITHIN_S)
        return self

    def kill(self) -> "Process":
        self.popen.kill()
        self.popen.wait()
        return self

    def stop(self, within: float = 40.0) -> int:
        """SIGTERM; return the exit code."""
        self.popen.terminate()
        return self.popen.wait(timeout=within)

    def pause(self) -> None:
        pause(self.pid)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def pause(pid: int) -> None:
    """SIGSTOP; returns when every thread stands still."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


class Cluster:
    """Redis, an emulator and a client from the start; workers and tool services as the tests start them.

    Broker and database are those of the combination, its own until `close`; where Redis is the broker, it is the one
    of the journals, or else `redis_broker`.
    """

    def __init__(
        self, folder: Path, valkey: EmbeddedValkey, parts: Combination, redis_broker: str = "", **settings: str
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.valkey = valkey
        self.processes: list[Process] = []
        self._stack = ExitStack()
        self.broker = self._stack.enter_context(parts.broker_url(redis_broker or valkey.url))
        self.database = self._stack.enter_context(parts.database_url(folder))
        self.queues = queues_of(self.broker)
        self.redis = Redis.from_url(valkey.url, decode_responses=True)
        self.board = board.Board(settings.get(board.REDIS, valkey.url))
        self.client = Client(
            redis_url=valkey.url, broker_url=self.broker, database_url=self.database, lost_message_s=30,
            signing_keys=settings.get("FW_SIGNING_KEYS", ""),
        )  # fmt: skip
        self.env = clean_environment() | {
            "FW_REDIS_URL": valkey.url,
            "FW_BROKER_URL": self.broker,
            "FW_DATABASE_URL": self.database,
            "FW_STATE_DIR": str(folder),
            "FW_BATCH_FOLDER": str(folder.parent),
            "FW_TOOLS": "tests.acceptance.apps.worker_tools",
            "FIREWORKS_API_KEY": KEY,
            "FW_PRICES": json.dumps({MODEL: {"prompt": "0.20", "cached": "0.10", "completion": "0.90"}}),
            "PYTHONUNBUFFERED": "1",
            board.REDIS: valkey.url,
            tool_service.BROKER: self.broker,
            **settings,
        }
        self.emulator = self._start_emulator()
        self.env["FIREWORKS_BASE_URL"] = f"{self.emulator_url}/inference/v1"
        self.env["FIREWORKS_API_URL"] = self.emulator_url
        self.env["FIREWORKS_ACCOUNT_ID"] = "acceptance"
        for name in ("FIREWORKS_AUDIO_URL", "FIREWORKS_AUDIO_TURBO_URL"):
            self.env[name] = f"{self.emulator_url}/v1"
        self.env["FIREWORKS_AUDIO_STREAMING_URL"] = f"{self.emulator_url.replace('http', 'ws', 1)}/v1"

    def start(self, name: str, *argv: str, at: Path = ROOT, **env: str) -> Process:
        """Start a process in a folder; `ready` of what it returns waits for it."""
        path = self.folder / f"{name}-{len(self.processes)}.log"
        with path.open("wb") as log:
            popen = spawn(argv, output=log, env=self.env | env, cwd=at)
        self.processes.append(Process(name, popen, path))
        return self.processes[-1]

    def worker(
        self, name: str, *, queues: str = QUEUES, c: int = 20, app: str = "workers.app", at: Path = ROOT, **env: str
    ) -> Process:
        """Start a worker of the service; of another release where `app` or `at`, the folder of its files, says so."""
        options = ("-n", f"{name}@here", "-Q", queues, "-c", str(c))
        return self.start(name, *CELERY, app, "worker", *options, *QUIET, at=at, **env)

    def speech_worker(self, name: str, **env: str) -> Process:
        """Start a worker of speech sessions."""
        return self.worker(name, queues="fireworks.stt", **env)

    def tool_service(self, **env: str) -> Process:
        """Start the other service."""
        options = ("-n", f"tools-{len(self.processes)}@here", "-Q", tool_service.QUEUE, "-P", "threads", "-c", "4")
        return self.start("tools", *CELERY, tool_service.__name__, "worker", *options, *QUIET, **env)

    def keep(self, start: Callable[..., Process], *names: str) -> None:
        """Start again those of these workers that a test before killed, and wait for all of them."""
        living = {process.name for process in self.processes if process.lives}
        for name in names:
            if name not in living:
                start(name)
        for name in names:
            self.named(name).ready()

    def named(self, name: str) -> Process:
        """Return the process that bears this name now."""
        return next(process for process in reversed(self.processes) if process.name == name)

    def holder(self, run_id: str) -> Process:
        """Return the worker that has the run."""
        pid = eventually(lambda: lives(self.client.events(run_id)))[-1]
        return next(process for process in self.processes if process.pid == pid)

    def announced(self, run_id: str) -> bool:
        """Return whether the finished run's callbacks are out."""
        return self.redis.hget(keys.lease(run_id), "announced") == "1"

    def logs(self) -> dict[str, str]:
        """Return everything that anyone printed."""
        return {f"{process.name}/{process.pid}": process.log() for process in self.processes}

    def logged(self, event: str, run_id: str) -> int:
        """Return how often the workers logged this event of this run."""
        lines = (line for text in self.logs().values() for line in text.splitlines() if run_id in line)
        return sum(f'"event": "{event}"' in line for line in lines)

    @property
    def emulator_url(self) -> str:
        return self.emulator.log().split("listening on ")[1].split()[0]

    def provider(self) -> dict[str, Any]:
        """Return the emulator's counts."""
        with urllib.request.urlopen(f"{self.emulator_url}/_emulator/stats", timeout=60) as answer:
            return dict(json.load(answer))

    def meta(self, task_id: str) -> Mapping[str, Any]:
        """Return Celery's stored result as any Redis client reads it."""
        return dict(json.loads(str(self.redis.get(f"celery-task-meta-{task_id}") or '{"status": "PENDING"}')))

    @contextmanager
    def foreign_app(self) -> Iterator[Celery]:
        """Yield the app of a producer that has none of our code."""
        with Celery("foreign", broker=self.broker, backend=self.valkey.url, set_as_current=False) as app:
            yield app
            app.backend.result_consumer.stop()  # closing an app leaves its subscription open
            app.backend.client.connection_pool.disconnect()  # a client does not close a pool that it was given

    def close(self) -> None:
        """End every process. No key of ours may be left without an end (RUN-11), and nothing we did not foresee."""
        for process in self.processes:
            if process.lives:
                process.popen.terminate()
                process.go_on()
        for process in self.processes:
            try:
                process.popen.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
        self.client.close()
        self.board.close()
        self.redis.close()
        self.queues.close()
        self._stack.close()
        assert not self.valkey.running or endless_keys(self.valkey.url) == []
        assert self._unforeseen() == []

    def _unforeseen(self) -> list[str]:
        """Return what the workers logged as defects of ours; the other service and Celery's own tasks may fail as they
        like.
        """
        ours = (line for who, text in self.logs().items() if not who.startswith("tools") for line in text.splitlines())
        unforeseen = (line for line in ours if "run.defect" in line or "raised unexpected" in line)
        return [line[:500] for line in unforeseen if "Task celery." not in line]

    def _start_emulator(self) -> Process:
        path = self.folder / "scene.json"
        path.write_text(scene().model_dump_json())
        options = ("--port", "0", "--pace", "0", "--scene", str(path))
        return self.start("emulator", sys.executable, "-m", "workers.cli", "emulator", *options).ready("listening on")


def say(text: str, **fields: Any) -> dict[str, Any]:
    """Return a request with one message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def remote(name: str, **fields: Any) -> dict[str, Any]:
    """Return a tool of the other service, as a request names it."""
    parameters = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
    return {"name": name, "parameters": parameters, "task": f"acceptance.{name}", "queue": tool_service.QUEUE, **fields}
