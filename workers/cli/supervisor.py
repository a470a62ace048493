"""Keeps named processes running: starts, restarts, stops them and hands on what they print (ADR 0003).

Threads and not asyncio: a child dies with the thread that forked it (see deathsig), so one thread, the keeper, forks,
signals and reaps them all and lives as long as they do; synchronous and asynchronous callers are served alike.
What to do is decided in roster and done here. It must not know what the processes are for.
"""

import argparse
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, assert_never

from workers.cli import roster
from workers.cli.child import Child, Launch
from workers.cli.prefixed import PrefixedPrinter
from workers.cli.procfile import RESERVED, ProcfileError, parse_procfile, with_own_scripts

Sink = Callable[[str, str], None]

# What Kubernetes grants too. A worker hands its runs over in a fraction of it.
GRACE_S = 30.0

# How long the last words of a process may delay the news of its end, and of all at the end of the supervisor.
_LAST_WORDS_S = 0.5


class SupervisorError(RuntimeError):
    """The caller asked for what cannot be: an unknown command or name, a second start, anything after the stop."""


@dataclass(frozen=True, slots=True)
class _Question:
    """To the keeper: which pid has `name`, once it has followed the fact that came along?"""

    name: str
    answer: Future[int | None] = field(default_factory=Future)


class Supervisor:
    """Runs named processes until stopped; each one's exit concerns that one alone.

    `sink(name, line)` gets every line of stdout and stderr, and under the name `supervisor` what happens to whom. It is
    called from threads of the supervisor, one call at a time. A slow sink slows the children, not the supervisor; one
    that raises costs the child its output pipe.
    `grace_s` is the time from SIGTERM to SIGKILL. Leaving the context stops all.
    """

    def __init__(
        self,
        sink: Sink | None = None,
        *,
        grace_s: float = GRACE_S,
        restarts: roster.RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink or PrefixedPrinter()
        self._clock = clock
        self._roster = roster.Roster(grace_s=grace_s, restarts=restarts or roster.RestartPolicy())
        # SimpleQueue: its put may be called from a signal handler that interrupted a put.
        self._inbox: queue.SimpleQueue[tuple[roster.Fact, _Question | None]] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._launches: dict[str, Launch] = {}
        self._children: dict[str, Child] = {}
        self._readers: list[threading.Thread] = []
        self._gate = threading.Lock()  # of _ended with _inbox: no question is put to a keeper that has left
        self._sink_gate = threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="supervisor-keeper", daemon=True)
        self._teller = threading.Thread(target=self._tell, name="supervisor-teller", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Starts a process and keeps it running. `env` is its whole environment (default: ours); no shell reads `argv`.

        Raises SupervisorError for a name that is taken and for a command that is not in PATH.
        """
        environment = dict(os.environ if env is None else env)
        # Python holds back what it prints to a pipe; a line is news only while it is new.
        environment.setdefault("PYTHONUNBUFFERED", "1")
        if name == RESERVED or name in self._launches:
            raise SupervisorError(f"the name {name!r} is taken")
        if not argv or shutil.which(argv[0], path=environment.get("PATH")) is None:
            raise SupervisorError(f"{name}: no such command: {' '.join(argv[:1])!r}")
        self._launches[name] = Launch(tuple(argv), environment, cwd)
        if not self._keeper.ident:
            self._keeper.start()
            self._teller.start()
        if self._ask(roster.Added(name), name) is None and self._roster.stopping:
            raise SupervisorError(f"{name}: the supervisor is stopping")

    def pid(self, name: str) -> int | None:
        """The process's id; None while it waits for its next start."""
        child = self._children.get(name)
        return None if child is None else child.pid

    def kill(self, name: str, signum: int = signal.SIGKILL) -> int:
        """Sends the process a signal and returns its pid. If it dies of that it is started again, as after any exit."""
        if name not in self._launches:
            raise SupervisorError(f"there is no process {name!r}")
        if signum not in signal.valid_signals():
            raise SupervisorError(f"there is no signal {signum}")
        pid = self._ask(roster.KillRequested(name, signum), name)
        if pid is None:
            raise SupervisorError(f"{name} is not running")
        return pid

    def stop(self) -> bool:
        """SIGTERM to all, SIGKILL after the grace period; waits until none is left. True: none had to be killed."""
        if not self._keeper.ident:
            return True
        self._inbox.put((roster.StopRequested(), None))
        self._keeper.join()
        return self._roster.finished and not self._roster.killed

    def run_forever(self) -> int:
        """Waits for SIGTERM, SIGINT or SIGHUP, then stops all; a SIGINT while stopping kills at once. Main thread only.

        Returns 0, or 1 if a process had to be killed. SIGHUP counts as SIGTERM: a terminal that is closed takes
        with it what was started there. Where it is ignored (nohup) it stays ignored.
        """
        if not self._keeper.ident:
            raise SupervisorError("there is nothing to run")
        previous = {}
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:
                previous[signum] = signal.signal(signum, self._on_signal)
        try:
            self._ended.wait()
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
        return 0 if self.stop() else 1

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        fact = roster.Interrupted() if signum == signal.SIGINT else roster.StopRequested()
        self._inbox.put((fact, None))

    def _ask(self, fact: roster.Fact, name: str) -> int | None:
        """Lets the keeper follow the fact; the answer is the pid of `name` afterwards."""
        question = _Question(name)
        with self._gate:
            if self._ended.is_set():
                raise SupervisorError("the supervisor has stopped")
            self._inbox.put((fact, question))
        return question.answer.result()

    # --- from here on the keeper's thread, which alone touches roster and children ---

    def _keep(self) -> None:
        try:
            while not self._roster.finished:
                fact, question = self._next()
                self._perform(self._roster.receive(fact, self._clock()))
                if question is not None:
                    question.answer.set_result(self.pid(question.name))
        finally:
            self._close()

    def _next(self) -> tuple[roster.Fact, _Question | None]:
        due = self._roster.deadline
        try:
            return self._inbox.get(timeout=None if due is None else max(0.0, due - self._clock()))
        except queue.Empty:
            return roster.Tick(), None

    def _close(self) -> None:
        with self._gate:
            self._ended.set()
        while not self._inbox.empty():
            _, question = self._inbox.get()
            if question is not None:
                question.answer.set_exception(SupervisorError("the supervisor has stopped"))
        self._news.put(None)
        for thread in (self._teller, *self._readers):
            thread.join(timeout=_LAST_WORDS_S)

    def _perform(self, actions: Iterable[roster.Action]) -> None:
        for action in actions:
            match action:
                case roster.Spawn(name):
                    self._perform(self._roster.receive(self._spawn(name), self._clock()))
                case roster.Send(name, signum):
                    self._children[name].send(signum)
                case roster.KillGroup(name):
                    self._children[name].kill_group()
                case roster.Bury(name):
                    self._children.pop(name).bury()
                case roster.Say(text):
                    self._news.put(text)
                case _:
                    assert_never(action)

    def _spawn(self, name: str) -> roster.Fact:
        try:
            child = Child(self._launches[name])
        except (OSError, ValueError) as error:
            return roster.StartFailed(name, str(error))
        self._children[name] = child
        reader = threading.Thread(target=self._read, args=(name, child), name=f"{name}-reader", daemon=True)
        self._readers = [*(one for one in self._readers if one.is_alive()), reader]
        reader.start()
        threading.Thread(target=self._watch, args=(name, child, reader), name=f"{name}-watcher", daemon=True).start()
        return roster.Started(name, child.pid)

    # --- the other threads ---

    def _read(self, name: str, child: Child) -> None:
        for line in child.lines():
            self._show(name, line)

    def _watch(self, name: str, child: Child, reader: threading.Thread) -> None:
        code = child.wait()
        reader.join(timeout=_LAST_WORDS_S)
        self._inbox.put((roster.Exited(name, code), None))

    def _tell(self) -> None:
        while (text := self._news.get()) is not None:
            self._show(RESERVED, text)

    def _show(self, name: str, line: str) -> None:
        with self._sink_gate:
            self._sink(name, line)


def main(argv: Sequence[str]) -> int:
    """`python -m workers.cli.supervisor PROCFILE [--grace S]`: the bare supervisor, without what `up` prepares."""
    parser = argparse.ArgumentParser(prog="supervisor")
    parser.add_argument("procfile", type=Path)
    parser.add_argument("--grace", type=float, default=GRACE_S, metavar="S")
    options = parser.parse_args(argv)
    environ = with_own_scripts(os.environ)
    try:
        commands = parse_procfile(options.procfile.read_text(encoding="utf-8"), environ)
        supervisor = Supervisor(grace_s=options.grace)
        for command in commands:
            supervisor.start(command.name, command.argv, env=environ)
        return supervisor.run_forever()
    except (OSError, ProcfileError, SupervisorError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
