"""Decides what the supervisor does next: who starts again and when, who is asked to stop, who is killed.

Pure: facts and `now` go in, actions come out. It must not know of processes, threads, signals' delivery or the clock.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How long a process that exits waits before its next start, in seconds.

    `first_s` doubles with each exit in a row up to `cap_s`; a life of `settled_s` starts the count anew.
    """

    # Far below the lease of 10 s, so a crashed worker is back before its runs are swept; yet a worker that fails at
    # import, which costs about a second of CPU, cannot eat a core for long.
    first_s: float = 0.5
    # What an operator waits at most after the cause is mended.
    cap_s: float = 30.0
    # More than a start, its connection attempts included: failing late at start is still failing at start.
    settled_s: float = 30.0

    def delay(self, exits: int) -> float:
        """The wait after the `exits`-th exit in a row, counted from 1."""
        doublings = min(exits - 1, 64)  # 2**64 is past any cap; a longer count would only overflow
        return min(self.cap_s, self.first_s * 2.0**doublings)


@dataclass(frozen=True, slots=True)
class Added:
    """A process joins; it is to be started."""

    name: str


@dataclass(frozen=True, slots=True)
class Started:
    """Its process exists."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The system gave us no process."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Exited:
    """Its process ended by itself (code >= 0) or by a signal (-code)."""

    name: str
    code: int


@dataclass(frozen=True, slots=True)
class KillRequested:
    """Someone wants this signal sent to this process."""

    name: str
    signum: int


@dataclass(frozen=True, slots=True)
class StopRequested:
    """All are to stop. Saying it again changes nothing."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Ctrl-C: stop; while stopping: at once."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`deadline` has come."""


Fact = Added | Started | StartFailed | Exited | KillRequested | StopRequested | Interrupted | Tick


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start it, then report Started or StartFailed."""

    name: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send the signal to the process itself; its children are its own business."""

    name: str
    signum: int


@dataclass(frozen=True, slots=True)
class KillGroup:
    """SIGKILL to the process and all that it started within its group."""

    name: str


@dataclass(frozen=True, slots=True)
class Bury:
    """Its process ended: kill what is left of its group, then reap it."""

    name: str


@dataclass(frozen=True, slots=True)
class Say:
    """One line for whoever watches."""

    text: str


Action = Spawn | Send | KillGroup | Bury | Say


@dataclass(slots=True)
class _Entry:
    since: float | None = None  # running since; None: no process
    due: float | None = None  # the next start; None: running, being started, or never again
    exits: int = 0  # in a row


class Roster:
    """The processes of one supervisor, by name. Times are seconds of any one monotonic clock."""

    def __init__(self, *, grace_s: float, restarts: RestartPolicy) -> None:
        self._grace_s = grace_s
        self._restarts = restarts
        self._entries: dict[str, _Entry] = {}
        self._stopping = False
        self._kill_at: float | None = None
        self._killed: list[str] = []

    @property
    def deadline(self) -> float | None:
        """When to send a Tick at the latest; None: nothing is due."""
        times = [entry.due for entry in self._entries.values() if entry.due is not None]
        if self._kill_at is not None:
            times.append(self._kill_at)
        return min(times, default=None)

    @property
    def stopping(self) -> bool:
        """Nothing starts any more."""
        return self._stopping

    @property
    def finished(self) -> bool:
        """Stopped, and no process is left."""
        return self._stopping and not any(self._running())

    @property
    def killed(self) -> tuple[str, ...]:
        """Those that did not stop when asked to."""
        return tuple(self._killed)

    def receive(self, fact: Fact, now: float) -> list[Action]:
        """What follows from the fact; starts and kills that are due by `now` come last."""
        return [*self._follow(fact, now), *self._due(now)]

    def _follow(self, fact: Fact, now: float) -> list[Action]:
        match fact:
            case Added(name):
                return self._added(name)
            case Started(name, pid):
                self._entries[name].since = now
                return [Say(f"{name} started, pid {pid}")]
            case StartFailed(name, why):
                return self._again(name, f"{name} could not be started: {why}", lived_s=0.0, now=now)
            case Exited(name, code):
                return self._exited(name, code, now)
            case KillRequested(name, signum):
                return [Send(name, signum)] if name in self._running() else []
            case StopRequested():
                return self._stop(now)
            case Interrupted():
                return self._kill("as asked") if self._stopping else self._stop(now)
            case Tick():
                return []
        assert_never(fact)

    def _added(self, name: str) -> list[Action]:
        if self._stopping:
            return []
        self._entries[name] = _Entry()
        return [Spawn(name)]

    def _exited(self, name: str, code: int, now: float) -> list[Action]:
        entry = self._entries[name]
        lived_s = now - (entry.since if entry.since is not None else now)
        entry.since = None
        how = f"{name} {_manner(code)} after {lived_s:.1f} s"
        return [Bury(name), *self._again(name, how, lived_s=lived_s, now=now)]

    def _again(self, name: str, how: str, *, lived_s: float, now: float) -> list[Action]:
        if self._stopping:
            return [Say(how)]
        entry = self._entries[name]
        entry.exits = 1 if lived_s >= self._restarts.settled_s else entry.exits + 1
        delay = self._restarts.delay(entry.exits)
        entry.due = now + delay
        return [Say(f"{how}; starts again in {delay:g} s")]

    def _stop(self, now: float) -> list[Action]:
        if self._stopping:
            return []
        self._stopping = True
        self._kill_at = now + self._grace_s
        for entry in self._entries.values():
            entry.due = None
        running = list(self._running())
        words = f"stopping {', '.join(running) or 'nothing'}; at most {self._grace_s:g} s"
        return [Say(words), *(Send(name, signal.SIGTERM) for name in running)]

    def _due(self, now: float) -> list[Action]:
        if self._kill_at is not None and now >= self._kill_at:
            return self._kill(f"still there after {self._grace_s:g} s")
        ready = [name for name, entry in self._entries.items() if entry.due is not None and entry.due <= now]
        for name in ready:
            self._entries[name].due = None
        return [Spawn(name) for name in ready]

    def _kill(self, why: str) -> list[Action]:
        self._kill_at = None
        running = list(self._running())
        self._killed.extend(name for name in running if name not in self._killed)
        return [action for name in running for action in (Say(f"{name} is killed, {why}"), KillGroup(name))]

    def _running(self) -> Iterator[str]:
        return (name for name, entry in self._entries.items() if entry.since is not None)


def _manner(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    known = {int(one): one.name for one in signal.Signals}
    return f"died of {known.get(-code, f'signal {-code}')}"
