"""The processes that a measure runs on: the stand-in and workers, quiet, and gone at the end."""

import json
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.cli.stack import Stack
from workers.cli.supervisor import Supervisor

_READY_WITHIN_S = 60.0
_READY = {"emulator": "listening"}
"""What a process says when it is ready; workers say `ready.`."""


class Stand:
    """Processes under one supervisor. `start_...` returns when the process is ready."""

    def __init__(self, parts: Stack, settings: Mapping[str, str]) -> None:
        self.env = {**parts.env, **settings}
        self._said: dict[str, list[str]] = defaultdict(list)
        self._changed = threading.Condition()
        self.supervisor = Supervisor(self._hear, grace_s=10)

    def start_emulator(self, folder: Path, scene: Mapping[str, Any]) -> int:
        """Start the stand-in with a scene; return its pid."""
        file = folder / "scene.json"
        file.write_text(json.dumps(scene))
        port = self.env["FW_EMULATOR_PORT"]
        return self._start("emulator", "workers.cli", "emulator", "--port", port, "--scene", str(file))

    def start_worker(self, name: str, *, app: str = "workers.app", concurrency: int, queue: str = "") -> int:
        """Start the worker of one queue, `fireworks.<queue or name>`, as the Procfile does; return its pid."""
        options = ["-n", f"{name}@%h", "-Q", f"fireworks.{queue or name}", "--without-gossip", "--without-mingle"]
        return self._start(name, "celery", "-A", app, "worker", *options, "--concurrency", str(concurrency))

    def _start(self, name: str, *module: str) -> int:
        self.supervisor.start(name, [sys.executable, "-m", *module], env=self.env)
        ready = _READY.get(name, "ready.")
        with self._changed:
            came = self._changed.wait_for(lambda: any(ready in line for line in self._said[name]), _READY_WITHIN_S)
        if not came or (pid := self.supervisor.pid(name)) is None:
            raise RuntimeError(f"{name} did not come up; it said:\n" + "\n".join(self._said[name][-15:]))
        return pid

    def _hear(self, name: str, line: str) -> None:
        with self._changed:
            self._said[name].append(line)
            self._changed.notify_all()


@contextmanager
def stand(parts: Stack, **settings: str) -> Iterator[Stand]:
    """Provide a stand, with more in the environment of its processes; they end with the block."""
    made = Stand(parts, settings)
    with made.supervisor:
        yield made
