"""The demo's processes: the stand-in, two workers of each kind, a control worker and a tool service."""

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

LEASE_S, SWEEP_S, POLL_S = 3.0, 1.0, 0.5
"""Shorter than the defaults (10, 5 and 30), so that nobody waits; the story says so."""

_READY_WITHIN_S = 40.0
_LATE = RestartPolicy(first_s=4.0, cap_s=4.0)
"""A killed worker comes back too late for its own run: it is the other one that must go on."""
_WORKER = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--without-gossip", "--without-mingle"]
_BEAT = [sys.executable, "-m", "celery", "-A", "workers.app", "beat", "--pidfile=", "-l", "INFO"]
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
    """The running processes, and what they say. `hear(name, line)` gets each line as it comes.

    The world (the provider's stand-in, the other service) and the service itself are under a supervisor each, so that
    the service can be stopped as a whole.
    """

    def __init__(self, parts: Stack, lines: "Lines") -> None:
        self.env = parts.env
        self.emulated = parts.emulated
        self._lines = lines
        self._world = Supervisor(lines, grace_s=10)
        self._service = self._new_service()
        self._where: dict[str, Supervisor] = {}

    @property
    def names(self) -> list[str]:
        """The processes that were started, in that order."""
        return list(self._where)

    def start_world(self, name: str, argv: list[str], ready: str) -> None:
        """Start a process that is not of the service; `wait` waits for it to say `ready`."""
        self._start(self._world, name, argv, ready)

    def start_worker(self, name: str, *options: str) -> None:
        """Start a worker of the service."""
        self._start(self._service, name, [*_WORKER, "-n", f"{name}@%h", *options], "ready.")

    def start_beat(self) -> None:
        """Start the service's clock."""
        self._start(self._service, "beat", _BEAT, "beat: Starting...")

    def wait(self, *names: str) -> None:
        """Wait until each of these processes has said that it is ready; raise StageError."""
        for name in names:
            self._lines.wait(name, _READY_WITHIN_S)

    def pids(self) -> dict[str, int]:
        """Return the processes that live now."""
        return {name: pid for name, where in self._where.items() if (pid := where.pid(name)) is not None}

    def kill(self, name: str) -> int:
        """Send SIGKILL; return the pid that it hit. The supervisor starts the process again."""
        return self._where[name].kill(name)

    def stop_service(self) -> bool:
        """Stop every process of the service; return whether each went of itself. `start_service` starts them anew."""
        went = self._service.stop()
        self._where = {name: where for name, where in self._where.items() if where is not self._service}
        self._service = self._new_service()
        return went

    def close(self) -> None:
        """Stop everything."""
        self._service.stop()
        self._world.stop()

    def _new_service(self) -> Supervisor:
        return Supervisor(self._lines, grace_s=10, restarts=_LATE)

    def _start(self, where: Supervisor, name: str, argv: list[str], ready: str) -> None:
        self._lines.expect(name, ready)
        where.start(name, argv, env=self.env)
        self._where[name] = where


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
        """Say what the process prints when it is ready; what it said before does not count."""
        with self._changed:
            self._expected[name] = text
            self._said[name].clear()

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
    try:
        with stack(folder, emulate=not real) as parts:
            timing = {"FW_LEASE_S": str(LEASE_S), "FW_SWEEP_S": str(SWEEP_S), "FW_POLL_S": str(POLL_S)}
            parts.env.update(timing | {"FW_STATE_DIR": str(folder)})
            on = Stage(parts, Lines(hear))
            try:
                yield on
            finally:
                on.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


CHAT = ("chat-1", "chat-2", "control")
SPEECH = ("stt-1", "stt-2")
BATCH = ("batch", "control", "beat")
"""The workers that an act needs."""


def start_world(on: Stage) -> tuple[str, ...]:
    """Start what is not of the service; return the names."""
    if on.emulated:
        scene = resources.files("workers.cli.demo") / "scene.json"
        port = on.env["FW_EMULATOR_PORT"]
        command = [sys.executable, "-m", "workers.cli", "emulator", "--port", port, "--scene", str(scene)]
        on.start_world("emulator", command, "listening")
    on.start_world("tools", [*_TOOLS, "-n", "tools@%h"], "ready.")
    return tuple(on.names)


def start_service(on: Stage) -> None:
    """Start every process of the service; `Stage.wait` waits for those that an act needs."""
    for name in ("chat-1", "chat-2"):
        on.start_worker(name, "-Q", "fireworks.chat", "--concurrency", "50")
    on.start_worker("control", "-Q", "fireworks.control", "--concurrency", "10")
    if on.emulated:
        for name in SPEECH:
            on.start_worker(name, "-Q", "fireworks.stt", "--concurrency", "50")
        on.start_worker("batch", "-Q", "fireworks.batch", "--concurrency", "10")
        on.start_beat()
