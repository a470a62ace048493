"""Whether a process lives, and whether it is ready: checks that end, whatever they ask.

A check is a function that is called in a thread of its own. It must not know HTTP.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, Final

from workers.telemetry.logs import told

LIVE_BOUND_S: Final = 3.0
CHECK_BOUND_S: Final = 2.0
FRESH_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found. `says` is for people and has no secrets."""

    ok: bool
    says: str
    ms: float = 0.0
    """How long it took, in milliseconds."""


Check = Callable[[], Verdict]


class Readiness:
    """Runs its checks side by side, each bounded; an answer is good for `fresh_s`, so that probes load nothing.

    A check that does not end is not begun again: there is never more than one thread for each.
    """

    def __init__(
        self, checks: Mapping[str, Check], *, bound_s: float = CHECK_BOUND_S, fresh_s: float = FRESH_S
    ) -> None:
        self._runners = {name: _Runner(name, check) for name, check in checks.items()}
        self._bound_s = bound_s
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._found: dict[str, Verdict] = {}
        self._until = 0.0

    def add(self, name: str, check: Check) -> None:
        """Check this too, from the next answer on."""
        with self._lock:
            self._runners[name] = _Runner(name, check)
            self._until = 0.0

    def look(self) -> Mapping[str, Verdict]:
        """Return what each check found. From any thread; takes `bound_s` at the most, twice that in a crowd."""
        with self._lock:
            if time.monotonic() >= self._until:
                end = time.monotonic() + self._bound_s
                asked = [(name, runner, runner.begin()) for name, runner in self._runners.items()]
                self._found = {name: runner.verdict(begun, end) for name, runner, begun in asked}
                self._until = time.monotonic() + self._fresh_s
            return self._found


class Heart:
    """For a process whose main loop only ticks, such as beat: it lives while `beat` is called often enough."""

    def __init__(self, bound_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bound_s = bound_s
        self._clock = clock
        self._beaten_at = clock()

    def beat(self) -> None:
        """Note a tick."""
        self._beaten_at = self._clock()

    def __call__(self) -> Verdict:
        """Return whether the last tick, or the start, is recent."""
        ago = self._clock() - self._beaten_at
        return Verdict(ago <= self._bound_s, f"the last tick was {ago:.1f} s ago, {self._bound_s:g} s are allowed")


class LoopAnswers:
    """A check that the loop turns: it is asked to run a function, and must within `bound_s`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bound_s: float = LIVE_BOUND_S) -> None:
        self._loop = loop
        self._bound_s = bound_s
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None
        self._asked_at = 0.0

    def __call__(self) -> Verdict:
        """Ask, or wait for the answer that is under way: a loop that hangs is not buried in questions."""
        try:
            with self._lock:
                asked = self._asked
                if asked is None or asked.done():
                    self._asked_at = time.monotonic()
                    asked = self._asked = Future()
                    self._loop.call_soon_threadsafe(asked.set_result, None)
        except RuntimeError:
            return Verdict(False, "the event loop is closed")
        try:
            asked.result(max(0.0, self._asked_at + self._bound_s - time.monotonic()))
        except (TimeoutError, FutureTimeout):
            silent = time.monotonic() - self._asked_at
            return Verdict(False, f"the event loop has not answered for {silent:.1f} s")
        return Verdict(True, "the event loop answers")


def on_loop(loop: asyncio.AbstractEventLoop, ask: Callable[[], Coroutine[Any, Any, str]]) -> Check:
    """Return a check that awaits `ask` on the loop: what it returns is said, what it raises is the fault.

    For `Readiness`, which bounds it: to stop waiting here would let the next one ask again, and each that hangs may
    hold a thread or a connection that the service needs.
    """

    def check() -> Verdict:
        coroutine = ask()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:
            coroutine.close()
            return Verdict(False, "the event loop is closed")
        return Verdict(True, future.result())

    return check


class _Runner:
    """One check, at most once at a time."""

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._running: Future[Verdict] | None = None
        self._begun_at = 0.0

    def begin(self) -> Future[Verdict]:
        """Begin to check, unless that is under way."""
        running = self._running
        if running is None or running.done():
            self._begun_at = time.monotonic()
            running = self._running = Future()
            threading.Thread(target=self._run, args=(running,), name=f"fw-check-{self._name}", daemon=True).start()
        return running

    def verdict(self, begun: Future[Verdict], end: float) -> Verdict:
        """Return what was found by `end`."""
        try:
            return begun.result(max(0.0, end - time.monotonic()))
        except (TimeoutError, FutureTimeout):
            took = time.monotonic() - self._begun_at
            return Verdict(False, f"no answer for {took:.1f} s", round(took * 1000, 1))

    def _run(self, running: Future[Verdict]) -> None:
        begun = time.monotonic()
        try:
            found = self._check()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the answer
            found = Verdict(False, told(exc))
        running.set_result(Verdict(found.ok, found.says, round((time.monotonic() - begun) * 1000, 1)))
