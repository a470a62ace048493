"""How a soak is played: sessions follow each other while workers are killed; then what became of them.

The worker `elder` is never killed: whether memory grows can only be seen in a process that lives. The others are killed
in turn, and started again at once as a supervisor would. No worker may have more than three in five of the sessions.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from api_contracts import keys
from api_contracts.stt import SttFinal
from benchmarks.cpu import busy_s, rss_mb
from tests.acceptance.cluster import Cluster, Process
from tests.acceptance.journal import is_right, lives, of_type
from tests.servers import endless_keys
from tests.soak.speakers import Speakers, Talk
from tests.soak.watching import MOST_MB_A_MINUTE, Curve
from tests.waiting import eventually, rest

ELDER = "elder"
LATE_S = 0.5
"""A microphone that is later than this in one of a hundred pieces is no microphone."""
SAMPLE_S, TICK_S, TELL_EVERY_S = 2.0, 0.1, 15.0
_ENDS_WITHIN_S = 60.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is played. `mortal` are the workers that are killed; a session lasts `turn_s`; Redis keeps a finished
    one for `kept_s`, so that what it holds has an upper bound within the soak.
    """

    sessions: int
    seconds: float
    kill_every_s: float
    turn_s: float = 60.0
    kept_s: int = 60
    mortal: tuple[str, ...] = ("one", "two")
    timing: tuple[tuple[str, str], ...] = ()

    @property
    def warm_s(self) -> float:
        """After this long as many sessions have ended and been forgotten as begin."""
        return self.turn_s + self.kept_s + 30

    def settings(self) -> dict[str, str]:
        """Return the workers' environment; leases are the product's own unless there is no time for them."""
        return {"FW_RETENTION_S": str(self.kept_s), **dict(self.timing)}


QUICK = Plan(6, 9.0, 4.0, mortal=("one",), timing=(("FW_LEASE_S", "1.0"), ("FW_SWEEP_S", "0.5")))
"""The share of `make test`: too short to say anything of memory."""


@dataclass
class Report:
    """What a soak came to. Seconds unless a name says otherwise."""

    sessions_at_once: int
    seconds: float
    kills: list[float] = field(default_factory=list)
    ended: int = 0
    words: int = 0
    audio_s: float = 0.0
    lost_a_worker: int = 0
    lives: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    endless: list[str] = field(default_factory=list)
    grew: list[str] = field(default_factory=list)
    late_p99_s: float = 0.0
    late_most_s: float = 0.0
    final_p50_s: float = 0.0
    final_p99_s: float = 0.0
    elder_mb_a_minute: float | None = None
    redis_mb_a_minute: float | None = None
    cores_busy: float = 0.0
    curves: list[Curve] = field(default_factory=list)

    @property
    def load_was_late(self) -> str:
        """Say so if this machine did not carry the load: then speech was not live, and memory is not judged."""
        if self.late_p99_s <= LATE_S:
            return ""
        return (
            f"the load was late (p99 {self.late_p99_s:.1f} s, at most {self.late_most_s:.1f} s): this machine does not "
            f"carry {self.sessions_at_once} sessions with {self.cores_busy:.1f} cores busy"
        )

    def faults(self) -> str:
        """Say what is not good, or nothing."""
        named = {name: getattr(self, name) for name in ("wrong", "lost", "died", "endless", "grew")}
        return "; ".join(f"{name}: {len(found)} {found[:5]}" for name, found in named.items() if found)

    def told(self) -> str:
        """Return what a reader wants to know, in a few lines."""
        grown = [f"{mb:+.2f}" if mb is not None else "-" for mb in (self.elder_mb_a_minute, self.redis_mb_a_minute)]
        peaks = " ".join(f"{name} {'/'.join(sizes)}" for name, sizes in self.peaks().items())
        return (
            f"{self.sessions_at_once} sessions at once for {self.seconds:.0f} s, {len(self.kills)} workers killed: "
            f"{self.ended} sessions ended, {self.words} words, {self.audio_s / 3600:.2f} h of audio; "
            f"{self.lost_a_worker} lost their worker, {self.lives} lives\n"
            f"wrong {len(self.wrong)}, lost {len(self.lost)}; load late p99 {self.late_p99_s * 1e3:.0f} ms, at most "
            f"{self.late_most_s * 1e3:.0f} ms; final p50 {self.final_p50_s:.2f} s after the word, p99 "
            f"{self.final_p99_s:.2f} s; {self.cores_busy:.2f} cores busy\n"
            f"MB a minute: elder {grown[0]}, redis {grown[1]}; peaks in MB, life by life: {peaks}"
        )

    def peaks(self) -> dict[str, list[str]]:
        """Return the peaks of each name's lives, in MB."""
        found: dict[str, list[str]] = {}
        for curve in self.curves:
            found.setdefault(curve.name, []).append(f"{curve.peak_mb:.0f}")
        return found


class Soak:
    """One soak on a cluster whose workers are ready."""

    def __init__(self, cluster: Cluster, plan: Plan, seed: int, tell: Tell) -> None:
        self.cluster, self.plan, self._tell = cluster, plan, tell
        self._speakers = Speakers(cluster.client, cluster.valkey.url, plan.sessions, plan.turn_s, seed)
        self._unjudged: deque[Talk] = deque()
        self._after_s: list[float] = []
        self._killed: set[int] = set()
        self._curves = {each.pid: Curve(each.name, 0.0) for each in cluster.processes}
        self._redis, self._elder = Curve("redis", 0.0), cluster.named(ELDER).pid
        self.report = Report(plan.sessions, plan.seconds)
        self._began = 0.0

    def play(self) -> Report:
        """Play it, and return what it came to."""
        self._began, busy = time.monotonic(), busy_s()
        self._speakers.start()
        try:
            self._while_they_speak()
            self.report.cores_busy = (busy_s() - busy) / self._now
        finally:
            self._speakers.hush()
        eventually(lambda: self._speakers.silent, within=30)
        self._look_until_all_ended()
        return self._summed_up()

    @property
    def _now(self) -> float:
        return time.monotonic() - self._began

    def _while_they_speak(self) -> None:
        strikes = itertools.count(1)
        turns = itertools.cycle(self.plan.mortal)
        next_kill, next_sample, next_tell = next(strikes) * self.plan.kill_every_s, 0.0, TELL_EVERY_S
        while (now := self._now) < self.plan.seconds and not self._speakers.silent:
            if now >= next_kill:
                next_kill = next(strikes) * self.plan.kill_every_s
                self._kill(self.cluster.named(next(turns)))
            if now >= next_sample:
                next_sample = now + SAMPLE_S
                self._sample()
            if now >= next_tell:
                next_tell = now + TELL_EVERY_S
                self._tell(f"{now:.0f} of {self.plan.seconds:.0f} s: {self._state()}")
            self._look()
            rest(TICK_S)

    def _kill(self, worker: Process) -> None:
        """SIGKILL, and a new one as the supervisor starts it."""
        self._killed.add(worker.kill().pid)
        self.report.kills.append(round(self._now, 1))
        fresh = start(self.cluster, self.plan, worker.name)
        self._curves[fresh.pid] = Curve(worker.name, round(self._now, 1))

    def _sample(self) -> None:
        for process in self.cluster.processes:
            if process.lives:
                self._curves[process.pid].add(self._now, rss_mb(process.pid))
        used = self.cluster.redis.info("memory")["used_memory"]
        self._redis.add(self._now, used / 1e6)

    def _state(self) -> str:
        late = max(self._speakers.late_s[-1000:], default=0.0)
        elder, redis = (f"{curve.points[-1][1]:.0f} MB" for curve in (self._curves[self._elder], self._redis))
        return (
            f"{self._speakers.live} live, {self.report.ended} ended, {len(self._unjudged)} about to, "
            f"{len(self.report.wrong)} wrong, {len(self.report.kills)} workers killed, elder {elder}, redis {redis}, "
            f"the load {late * 1e3:.0f} ms late at most in these seconds"
        )

    # -- what became of them ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Judge who has ended."""
        while self._speakers.ended:
            self._unjudged.append(self._speakers.ended.popleft())
        waiting = list(self._unjudged)
        pipe = self.cluster.redis.pipeline(transaction=False)
        for talk in waiting:
            pipe.hget(keys.lease(talk.run_id), "announced")
        for talk, announced in zip(waiting, pipe.execute() if waiting else (), strict=True):
            if announced == "1":
                self._unjudged.remove(talk)
                self._judge(talk)

    def _look_until_all_ended(self) -> None:
        def all_ended() -> bool:
            self._look()
            return not self._unjudged

        try:
            eventually(all_ended, within=_ENDS_WITHIN_S)
        except AssertionError:
            pass  # the report names who has not ended
        self.report.lost = [talk.run_id for talk in self._unjudged]

    def _judge(self, talk: Talk) -> None:
        self.report.ended += 1
        self.report.words += len(talk.words)
        self.report.audio_s += talk.samples / 16_000
        try:
            self._is_exact(talk)
        except AssertionError as exc:
            self.report.wrong.append(f"{talk.run_id}: {exc!s:.300}")

    def _is_exact(self, talk: Talk) -> None:
        """Each word in one final, in order, one after the other; every sample accounted for."""
        events = self.cluster.client.events(talk.run_id)
        result = self.cluster.client.stt.session(talk.run_id).result(timeout_s=10)
        finals = [SttFinal.model_validate(event.data) for event in of_type(events, "stt.final")]
        self._after_s += [final.after_s for final in finals if final.after_s is not None]
        had = len(lives(events))
        self.report.lives += had
        self.report.lost_a_worker += had > 1
        assert result.status == "completed", result.failure
        assert is_right(events)
        assert [word.word for final in finals for word in final.words] == talk.words
        assert [word.word for word in result.words] == talk.words
        assert all(one.end <= two.start for one, two in itertools.pairwise(result.words))
        assert round(result.coverage.audio_s * 16_000) == talk.samples
        assert (result.coverage.share, result.coverage.gaps) == (1.0, [])

    def _summed_up(self) -> Report:
        report, late = self.report, sorted(self._speakers.late_s)
        report.late_p99_s, report.late_most_s = late[int(0.99 * (len(late) - 1))], late[-1]
        after = sorted(self._after_s) or [0.0]
        report.final_p50_s, report.final_p99_s = after[len(after) // 2], after[int(0.99 * (len(after) - 1))]
        report.curves = [*self._curves.values(), self._redis]
        report.died = [
            f"{each.name} {each.popen.returncode}"
            for each in self.cluster.processes
            if not each.lives and each.pid not in self._killed
        ]
        report.endless = endless_keys(self.cluster.valkey.url)
        report.elder_mb_a_minute = self._curves[self._elder].slope(self.plan.warm_s, self.plan.seconds)
        report.redis_mb_a_minute = self._redis.slope(self.plan.warm_s, self.plan.seconds)
        for name, slope in ((ELDER, report.elder_mb_a_minute), ("redis", report.redis_mb_a_minute)):
            if slope is not None and slope > MOST_MB_A_MINUTE and not report.load_was_late:
                report.grew.append(f"{name} by {slope:.2f} MB a minute")
        return report


def start(cluster: Cluster, plan: Plan, name: str) -> Process:
    """Start a worker that may have three in five of the sessions, and those on their way out."""
    return cluster.speech_worker(name, c=plan.sessions * 3 // 5 + 5)
