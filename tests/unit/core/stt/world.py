"""What outlives a session's workers: the producer, the audio stream, the provider; and what goes wrong between them.

Time is a number. Everything that happens stands in one queue; whoever dies, dies between two actions.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from api_contracts.runs import EventData
from api_contracts.stt import SttRequest
from tests.unit.core.stt.playing import RATE, T0, Life, check, check_journal, request
from tests.unit.core.stt.recogniser import Recogniser, Ways
from workers.core.runs.frame import Action, Begin, Draining, Emit, Finish, Release, Woke
from workers.core.stt import acts

_MOST_REFUSALS = 2
"""With as many drops as a test has, it stays below the budget of failures in a row."""


@dataclass(frozen=True)
class Entry:
    """An entry of the audio stream, written `at` (seconds from the start)."""

    at: float
    pcm: bytes = b""
    control: dict[str, Any] | None = None


@dataclass(frozen=True)
class Trouble:
    """What goes wrong `at`: `kill` after so many more actions, `drop` the connection, `drain`, `repeat` entries; the
    next connections are refused (`refuse`), or never answered (`hang`); the stream is cut to so many entries, and what
    a worker that begins after that does not find is gone (`cut`)."""

    at: float
    kind: str
    detail: int = 0


@dataclass
class World:
    """Plays entries to a session, through all troubles, until the run ends."""

    entries: list[Entry]
    troubles: list[Trouble] = field(default_factory=list)
    ways: Ways = field(default_factory=Ways)
    request: SttRequest = field(default_factory=request)
    latency_s: float = 0.05
    read_s: float = 0.0
    """How long it takes to read again what is in the stream: before or after the connection opens."""
    now: float = T0
    journal: list[tuple[EventData, float]] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    stream: dict[int, Entry] = field(default_factory=dict)
    trimmed: int = 0
    kills: int = 0

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._servers: dict[int, Recogniser] = {}
        self._life: Life | None = None
        self._reading = False
        self._delivered = 0
        self._dies_in: int | None = None
        self._gone_after: int | None = None
        self._refuses = self._refused = self._hangs = 0
        self._told: list[object] = []
        for number, entry in enumerate(self.entries, 1):
            self._plan(T0 + entry.at, lambda n=number, e=entry: self._write(n, e))  # type: ignore[misc]
        for trouble in self.troubles:
            self._plan(T0 + trouble.at, lambda t=trouble: self._go_wrong(t))  # type: ignore[misc]
        self._plan(T0, self._begin)

    def run(self, most_s: float = 3_600.0) -> Life:
        """Return the last life, ended."""
        while not self.over:
            self._step()
            assert self.now < T0 + most_s, "the session does not end"
        assert self._life is not None
        check_journal([event for event, _ in self.journal])
        return self._life

    @property
    def over(self) -> bool:
        return self._life is not None and isinstance(self._life.end, Finish)

    # -- time ------------------------------------------------------------------------------------------------------

    def _plan(self, at: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (at, next(self._order), what))

    def _step(self) -> None:
        due = self._life.machine.deadline if self._life and not self._life.end else None
        if self._queue and (due is None or self._queue[0][0] <= due):
            self.now, _, what = heapq.heappop(self._queue)
            if self._life:
                self._life.now = max(self._life.now, self.now)
            what()
        else:
            assert due is not None, "the session waits for nothing"
            assert self._life is not None
            self.now = self._life.now = max(self.now, due)
            self._decide(Woke())

    # -- the producer and the stream -------------------------------------------------------------------------------

    def _write(self, number: int, entry: Entry) -> None:
        self.stream[number] = entry
        if self._reading:
            self._deliver(number)

    def _deliver(self, number: int) -> None:
        entry = self.stream[number]
        self._delivered = max(self._delivered, number)
        if (after := self._gone_after) is not None:  # told by time, as the runner does
            self._gone_after, before = None, self.entries[after - 1]
            passed = round((entry.at - before.at) * RATE) - len(entry.pcm) // 2
            self._decide(acts.AudioMissing(passed))
        entry_id = f"{number}-0"
        if entry.control is not None:
            self._decide(acts.ControlArrived(entry_id, entry.control))
        else:
            self._decide(acts.AudioArrived(entry_id, entry.pcm))

    # -- the worker ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._life = Life(self.request, list(self.journal), self.now)
        self.lives.append(self._life)
        self._reading, self._dies_in, self._delivered = False, None, 0
        self._decide(Begin("w"))

    def _decide(self, fact: object) -> None:
        life = self._life
        if life is None or life.end:
            return
        for action in life.machine.receive(fact, life.now):
            if self._dies_in == 0:
                self._die()
                return
            self._dies_in = None if self._dies_in is None else self._dies_in - 1
            life.note(action)
            self._perform(action)
            if self._life is not life:
                return

    def _die(self) -> None:
        """kill -9: what was not committed never was."""
        self.kills += 1
        self._life = None
        self._plan(self.now + 2.0, self._begin)

    def _perform(self, action: Action) -> None:
        match action:
            case Emit():
                assert self._life is not None
                self.journal.append(self._life.journal[-1])
            case Release():
                check(self._life)  # type: ignore[arg-type]
                self._plan(self.now + 0.2, self._begin)
            case acts.ReadAudio(after):
                number = int(after.partition("-")[0])
                self._plan(self.now + self.read_s, lambda life=self._life: self._read(number, life))  # type: ignore[misc]
            case acts.TrimAudio(before):
                self.trimmed = int(before.partition("-")[0])
                for number in [n for n in self.stream if n < self.trimmed]:
                    del self.stream[number]
            case _:
                self._perform_wire(action)

    def _perform_wire(self, action: Action) -> None:
        match action:
            case acts.Connect():
                self._connect(action)
            case acts.SendAudio(conn, frame):
                self._answer(conn, self._servers[conn].audio(frame))
            case acts.SendText(conn, message):
                self._answer(conn, self._servers[conn].text(dict(message)))
            case acts.Disconnect(conn):
                self._servers.pop(conn, None)

    def _read(self, after: int, life: Life) -> None:
        if self._life is life:
            self._gone_after = after if after and after not in self.stream else None
        for number in sorted(self.stream):
            if number > after and self._life is life and number in self.stream:
                self._deliver(number)
        self._reading = self._reading or self._life is life

    # -- the provider ----------------------------------------------------------------------------------------------

    def _connect(self, action: acts.Connect) -> None:
        life, server = self._life, Recogniser(self.ways, action.conn)
        if self._refuses:
            self._refuses, self._refused = self._refuses - 1, self._refused + 1
            lost = acts.Disconnected(action.conn, 503, "busy", retryable=True, jitter=0.5)
            self._plan(self.now + self.latency_s, lambda: self._decide(lost) if self._life is life else None)
            return
        if self._hangs:
            self._hangs -= 1
            return
        self._servers[action.conn] = server

        def opened() -> None:
            if self._life is life and self._servers.get(action.conn) is server:
                self._decide(acts.Connected(action.conn))

        self._plan(self.now + self.latency_s, opened)

    def _answer(self, conn: int, messages: list[dict[str, Any]]) -> None:
        life, server = self._life, self._servers[conn]

        def say(message: dict[str, Any]) -> None:
            if self._life is life and self._servers.get(conn) is server:
                self._decide(acts.Said(conn, message))

        for message in messages:
            self._plan(self.now + self.latency_s, lambda m=message: say(m))  # type: ignore[misc]

    # -- troubles --------------------------------------------------------------------------------------------------

    def _go_wrong(self, trouble: Trouble) -> None:
        match trouble.kind:
            case "kill":
                self._dies_in = trouble.detail
            case "drop":
                for conn in list(self._servers):
                    del self._servers[conn]
                    code = (1006, 1001, 1011, None)[trouble.detail % 4]
                    self._decide(acts.Disconnected(conn, code, "gone", retryable=True, jitter=0.5))
            case "refuse":
                self._refuses = max(0, min(trouble.detail, _MOST_REFUSALS - self._refused))
            case "cut":
                self._cut(trouble.detail + 1)
            case "hang":
                self._hangs = 1
            case "drain":
                self._decide(Draining(self.now + 30))
            case "repeat":
                for number in [n for n in sorted(self.stream)[-trouble.detail :] if n <= self._delivered]:
                    self._deliver(number)

    def _cut(self, kept: int) -> None:
        """A producer bounds its stream. Before the first anchor nobody could know that something is gone."""
        if self._life and self._life.machine.state.anchor.entry != "0":
            for number in sorted(self.stream)[:-kept]:
                del self.stream[number]
