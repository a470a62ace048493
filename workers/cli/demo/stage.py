"""The demo's processes: the stand-in, two chat workers, a control worker and a tool service, each of its own."""

import shutil
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from workers.cli.demo.tools import QUEUE
from workers.cli.roster import RestartPolicy
from workers.cli.stack import Stack, stack
from workers.cli.supervisor import Supervisor

LEASE_S, SWEEP_S = 3.0, 1.0
"""Shorter than the defaults (10 and 5), so that nobody waits; the story says so."""

_READY_WITHIN_S = 40.0
_LATE = RestartPolicy(first_s=30.0)
"""A killed worker comes back after the story: it is the other one that must go on."""
_WORKER = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--without-gossip", "--without-mingle"]
_TOOLS = [
    sys.executable,
    "-m",
    "celery",
    "-A",
    "workers.cli.demo.tools",
    "worker",
    "--pool",
    "solo",
    "-l",
    "INFO",
    "-Q",
    QUEUE,
]


class StageError(RuntimeError):
    """A process did not come up; the text carries its last lines."""


class Stage:
    """The running processes, and what they say. `hear(name, line)` gets each line as it comes."""

    def __init__(self, parts: Stack, supervisor: Supervisor, lines: "Lines") -> None:
        self.env = parts.env
        self.emulated = parts.emulated
        self._supervisor = supervisor
        self._lines = lines
        self.names: list[str] = []

    def start(self, name: str, argv: list[str], ready: str) -> None:
        """Start a process; `wait` waits for it to say `ready`."""
        self._lines.expect(name, ready)
        self._supervisor.start(name, argv, env=self.env)
        self.names.append(name)

    def wait(self) -> None:
        """Wait until each process has said that it is ready; raise StageError."""
        for name in self.names:
            self._lines.wait(name, _READY_WITHIN_S)

    def pids(self) -> dict[str, int]:
        """Return the processes that live now."""
        return {name: pid for name in self.names if (pid := self._supervisor.pid(name)) is not None}

    def kill(self, name: str) -> int:
        """Send SIGKILL; return the pid that it hit. The supervisor starts the process again."""
        return self._supervisor.kill(name)


class Lines:
    """What the processes said, and whether each said what was waited for."""

    def __init__(self, hear: Callable[[str, str], None]) -> None:
        self._hear = hear
        self._said: dict[str, list[str]] = defaultdict(list)
        self._expected: dict[str, str] = {}
        self._changed = threading.Condition()

    def __call__(self, name: str, line: str) -> None:
        """Take a line; the supervisor's sink."""
        with self._changed:
            self._said[name].append(line)
            self._changed.notify_all()
        self._hear(name, line)

    def expect(self, name: str, text: str) -> None:
        """Say what the process prints when it is ready."""
        self._expected[name] = text

    def wait(self, name: str, within_s: float) -> None:
        """Return when the process is ready; raise StageError with its last lines."""
        wanted = self._expected[name]
        with self._changed:
            if not self._changed.wait_for(lambda: any(wanted in line for line in self._said[name]), within_s):
                last = "\n".join(self._said[name][-15:])
                raise StageError(f"{name} was not ready after {within_s:.0f} s; it said:\n{last}")


@contextmanager
def stage(hear: Callable[[str, str], None], *, real: bool) -> Iterator[Stage]:
    """Set the stage in a folder of its own, and clear it."""
    folder = Path(tempfile.mkdtemp(prefix="fireworks-demo-"))
    lines = Lines(hear)
    try:
        with stack(folder, emulate=not real) as parts, Supervisor(lines, grace_s=10, restarts=_LATE) as supervisor:
            parts.env.update({"FW_LEASE_S": str(LEASE_S), "FW_SWEEP_S": str(SWEEP_S), "FW_STATE_DIR": str(folder)})
            yield Stage(parts, supervisor, lines)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_all(on: Stage) -> None:
    """Start every process of the chat act and wait until all are ready."""
    if on.emulated:
        scene = resources.files("workers.cli.demo") / "scene.json"
        port = on.env["FW_EMULATOR_PORT"]
        command = [sys.executable, "-m", "workers.cli", "emulator", "--port", port, "--scene", str(scene)]
        on.start("emulator", command, "listening")
    for name in ("chat-1", "chat-2"):
        on.start(name, [*_WORKER, "-n", f"{name}@%h", "-Q", "fireworks.chat", "--concurrency", "50"], "ready.")
    on.start("control", [*_WORKER, "-n", "control@%h", "-Q", "fireworks.control", "--concurrency", "10"], "ready.")
    on.start("tools", [*_TOOLS, "-n", "tools@%h"], "ready.")
    on.wait()
