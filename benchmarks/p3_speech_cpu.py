"""P3, P3m, P4, and speech to final: what 200 live speech sessions cost in one worker process.

P3   CPU of the worker per 50 ms chunk, against `speech_floor`, the barest loop with the same traffic. Goal: 1.5.
P3m  growth of the worker's resident memory per live session. Goal: 1 MB.
P4   from just before the XADD that completes a frame to the frame's arrival at the provider (`speech_sink`), on one
     clock: it includes the writing client, Redis, the worker, loopback, and the waking up of the provider. The bare
     loop's figure beside it says how much of that is not the service. Goal: p99 of 50 ms.
final  from the write of a word's last sound to its final in the journal (`after_s`), less what the engine takes to make
     up its mind (`final_after`). Goal: p50 of 50 ms. Against the sink: it answers by number of frames.

P3 is measured against the emulator (engine `tones`), and again where P4 is, against the sink, which says the same and
leaves more of a small machine to the rest. Redis, provider and load have processes of their own and are not counted.
Each round has a worker of its own, and the floor's turn comes within it. 200 sessions need about two quiet cores: when
the load cannot keep real time it is said, and the figures of such a round mean little. A full run takes ten minutes;
`--quick` has 20 sessions and the sink alone, where what a read of Redis costs weighs more than with 200.
Run: .venv/bin/python -m benchmarks.p3_speech_cpu [--quick] [--sessions N]
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self, cast

from redis import Redis

from api_contracts import keys
from api_contracts.client import AsyncClient
from benchmarks.cpu import busy_s, cpu_s, rss_mb, spread
from benchmarks.speech_voices import CHUNK_S, CYCLE_S, answers, final_after, spoken, voice_of
from benchmarks.stand import stand
from workers.cli.stack import Stack, stack

SCENE = {"speech": {"engine": "tones"}}
_WITHIN_S = 60.0
_TAIL_S = 1.0
_LATE_S = 0.1

Written = list[tuple[float, float, int]]
"""Writes of the load: when it was done, when it was due, how many chunks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Each round speaks for `warm_s` before its window begins; `delay_rounds` have the sink."""

    sessions: int
    warm_s: float
    window_s: float
    rounds: int
    delay_rounds: int

    @property
    def seconds(self) -> float:
        """How long each session speaks."""
        return self.warm_s + self.window_s + _TAIL_S


@dataclass(frozen=True, slots=True)
class Seen:
    """What a window showed. `delays` and `finals` in seconds, where a sink stamps them."""

    cpu_s: float
    chunks: int
    events: int
    rss_mb: float
    busy: float
    delays: list[float] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)

    @property
    def per_chunk_s(self) -> float:
        """CPU seconds per chunk of 50 ms."""
        return self.cpu_s / self.chunks

    @property
    def events_per_s(self) -> float:
        """Events of one session in one second."""
        return self.events / self.chunks / CHUNK_S


class Helper:
    """A process of ours that takes orders on standard input and answers in lines."""

    def __init__(self, module: str, *args: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *args]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._in, self._out = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)

    def order(self, text: str, *, last: bool) -> None:
        """Write orders; `last` says that no more will come."""
        self._in.write(text)
        self._in.flush()
        if last:
            self._in.close()

    def line(self) -> str:
        """Return the next line; raise RuntimeError when there is none."""
        if not (line := self._out.readline()):
            raise RuntimeError(f"{self.process.args!r} ended without an answer")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        """Wait for its end; after a failure, end it."""
        self._in.close()
        try:
            ended_well = failed[0] is None and self.process.wait(_WITHIN_S) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self._out.close()
        if failed[0] is None and not ended_well:
            raise RuntimeError(f"{self.process.args!r} failed")


class Sink(Helper):
    """`speech_sink`."""

    def __init__(self, seconds: float) -> None:
        super().__init__("speech_sink", str(seconds))
        self.url = f"ws://127.0.0.1:{int(self.line())}/v1"

    def delays(self) -> list[float]:
        """Return the delays since the last time."""
        self.order("\n", last=False)
        return cast("list[float]", json.loads(self.line())["delays"])


def speak(
    redis_url: str, streams: Sequence[str], seconds: float, look: Callable[[], None], *, stamped: bool
) -> Written:
    """Have the load speak into the streams and hang up; `look` when it has begun."""
    with Helper("speech_load") as load:
        load.order(json.dumps({"redis": redis_url, "keys": streams, "seconds": seconds, "stamped": stamped}), last=True)
        load.line()
        look()
        return cast("Written", json.loads(load.line()))


def watched(
    pid: int, redis_url: str, audio: Sequence[str], journals: Sequence[str], plan: Plan, sink: Sink | None
) -> Seen:
    """Speak, and look at a process for a window once it is warm."""
    redis: Redis = Redis.from_url(redis_url)
    figures: list[tuple[float, float, float, int]] = []
    seen: list[float] = []

    def look() -> None:
        pipe = redis.pipeline(transaction=False)
        for journal in journals:
            pipe.xlen(journal)
        figures.append((time.time(), cpu_s(pid), busy_s(), sum(pipe.execute())))

    def window() -> None:
        time.sleep(plan.warm_s)
        if sink:
            sink.delays()
        look()
        time.sleep(plan.window_s)
        look()
        seen.extend([rss_mb(pid), *(sink.delays() if sink else [])])

    written = speak(redis_url, audio, plan.seconds, window, stamped=sink is not None)
    (began, *before), (ended, *after) = figures
    cpu, busy, events = (new - old for new, old in zip(after, before, strict=True))
    inside = [(done - due, count) for done, due, count in written if began <= done < ended]
    if (late := max(late for late, _ in inside)) > _LATE_S:
        print(f"    the load was up to {late * 1e3:.0f} ms late: the machine is too busy for {plan.sessions} sessions")
    return Seen(cpu, sum(count for _, count in inside), int(events), seen[0], busy / (ended - began), seen[1:])


# -- the service -------------------------------------------------------------------------------------------------------


class Service:
    """Sessions of the service, from the producer's side."""

    def __init__(self, redis_url: str) -> None:
        self.redis_url = redis_url
        self.redis: Redis = Redis.from_url(redis_url)

    def open(self, count: int) -> list[str]:
        """Open sessions; return their run ids once all are connected."""

        async def submit() -> list[str]:
            gate = asyncio.Semaphore(20)  # a client takes 100 calls at once at most
            async with AsyncClient(redis_url=self.redis_url) as client:

                async def one(voice: int) -> str:
                    async with gate:
                        return (await client.stt.open(prompt=f"voice-{voice}")).run_id

                return await asyncio.gather(*(one(voice_of(session)) for session in range(count)))

        run_ids, give_up = asyncio.run(submit()), time.monotonic() + _WITHIN_S
        while not all(self.is_connected(run_id) for run_id in run_ids):
            if time.monotonic() > give_up:
                raise RuntimeError("the sessions did not connect")
            time.sleep(0.2)
        return run_ids

    def is_connected(self, run_id: str) -> bool:
        """Return whether a session has connected to the provider."""
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", self.redis.xrange(keys.events(run_id), count=10))
        return any(fields[b"type"] == b"stt.connected" for _, fields in entries)

    def check(self, run_ids: Sequence[str]) -> None:
        """Wait for all results; raise RuntimeError unless each heard every word, on one connection."""

        async def results() -> None:
            async with AsyncClient(redis_url=self.redis_url) as client:
                for session, run_id in enumerate(run_ids):
                    found = await client.stt.session(run_id).result(timeout_s=_WITHIN_S)
                    heard = [word.word for word in found.words][:-4]  # the last second was not final yet, a word is cut
                    expected = spoken(voice_of(session), len(heard))
                    if found.status != "completed" or found.connections != 1 or not heard or heard != expected:
                        raise RuntimeError(f"a session went wrong: {found.model_dump_json(exclude_none=True)}")

        asyncio.run(results())

    def finals(self, run_ids: Sequence[str], seconds: float) -> list[float]:
        """Return how late finals were beyond the engine's own delay."""
        own = {voice: final_after(answers(voice, seconds)) for voice in {*map(voice_of, range(len(run_ids)))}}
        late = []
        for session, run_id in enumerate(run_ids):
            for _, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", self.redis.xrange(keys.events(run_id))):
                final = json.loads(fields[b"data"]) if fields[b"type"] == b"stt.final" else {}
                engine_s = own[voice_of(session)].get(round(final.get("end", -1.0), 3))
                if engine_s is not None and final.get("after_s") is not None:
                    late.append(final["after_s"] - engine_s)
        return late

    def event_bytes(self, run_id: str) -> int:
        """Return the mean size of a session's events as JSON, its first three and its end left out."""
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", self.redis.xrange(keys.events(run_id)))
        return round(statistics.mean(len(fields[b"data"]) for _, fields in entries[3:-3]))


def served(parts: Stack, plan: Plan, sink: Sink | None) -> tuple[Seen, float, int]:
    """Return what a fresh worker showed, its memory growth per session in MB, and the size of an event."""
    if sink:
        parts = Stack(parts.env | {"FIREWORKS_AUDIO_STREAMING_URL": sink.url}, parts.own)
    redis_url, service = parts.env["FW_REDIS_URL"], Service(parts.env["FW_REDIS_URL"])
    with stand(parts) as on:
        pid = on.start_worker("stt", concurrency=plan.sessions + 10)
        first = service.open(5)
        speak(redis_url, [keys.audio(each) for each in first], plan.warm_s, lambda: None, stamped=sink is not None)
        service.check(first)
        empty_mb = rss_mb(pid)
        run_ids = service.open(plan.sessions)
        audio, journals = [keys.audio(each) for each in run_ids], [keys.events(each) for each in run_ids]
        seen = watched(pid, redis_url, audio, journals, plan, sink)
        service.check(run_ids)
        if sink:
            seen = replace(seen, finals=service.finals(run_ids, plan.seconds))
    return seen, (seen.rss_mb - empty_mb) / plan.sessions, service.event_bytes(run_ids[0])


# -- the floor ---------------------------------------------------------------------------------------------------------


def bare(parts: Stack, plan: Plan, sink: Sink | None, events_per_s: float, event_bytes: int) -> Seen:
    """Return what the bare loop showed with the same number of events."""
    redis_url = parts.env["FW_REDIS_URL"]
    redis: Redis = Redis.from_url(redis_url)
    audio = [f"bench:p3:{each}:audio" for each in range(plan.sessions)]
    journals = [f"{key}:events" for key in audio]
    said = sum(map(len, answers(0, 55.0))) / 55.0
    orders: dict[str, Any] = {
        "redis": redis_url, "url": sink.url if sink else parts.env["FIREWORKS_AUDIO_STREAMING_URL"], "keys": audio,
        "prompts": [f"voice-{voice_of(each)}" for each in range(plan.sessions)],
        "events": events_per_s / said, "event": "x" * event_bytes,
    }  # fmt: skip
    try:
        with Helper("speech_floor") as floor:
            floor.order(json.dumps(orders), last=True)
            floor.line()
            return watched(floor.process.pid, redis_url, audio, journals, plan, sink)
    finally:
        redis.delete(*audio, *journals)


# -- the table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Round:
    """The service, then the floor, against one provider."""

    seen: Seen
    floor: Seen
    growth_mb: float

    @property
    def ratio(self) -> float:
        """The service's cost in costs of the floor."""
        return self.seen.per_chunk_s / self.floor.per_chunk_s


def main() -> None:
    """Measure, and print the table."""
    reader = argparse.ArgumentParser(prog="p3_speech_cpu")
    reader.add_argument("--quick", action="store_true")
    reader.add_argument("--sessions", type=int)
    given = reader.parse_args()
    sessions = given.sessions or (20 if given.quick else 200)
    plan = Plan(sessions, 2.5, CYCLE_S, 0, 1) if given.quick else Plan(sessions, 6.0, 4 * CYCLE_S, 5, 3)
    with tempfile.TemporaryDirectory() as name, stack(Path(name), emulate=True) as parts:
        heard = []
        if plan.rounds:
            with stand(parts) as on:
                on.start_emulator(Path(name), SCENE)
                heard = [_round(parts, plan, None) for _ in range(plan.rounds)]
        with Sink(plan.seconds) as sink:
            sunk = [_round(parts, plan, sink) for _ in range(plan.delay_rounds)]
    print(f"{plan.sessions} sessions, windows of {plan.window_s:.1f} s; median (least to most)")
    if heard:
        _print_cost(heard, "the emulator")
    _print_cost(sunk, "the sink")
    print(f"P3m = {spread([each.growth_mb for each in heard + sunk], ' MB')} a session (goal <= 1)")
    _print_delay(sunk)


def _round(parts: Stack, plan: Plan, sink: Sink | None) -> Round:
    seen, growth_mb, event_bytes = served(parts, plan, sink)
    floor = bare(parts, plan, sink, seen.events_per_s, event_bytes)
    print(f"  service {_told(seen)}; bare {_told(floor)}", flush=True)
    return Round(seen, floor, growth_mb)


def _told(seen: Seen) -> str:
    told = f"{seen.per_chunk_s * 1e6:.0f} us a chunk"
    if seen.delays:
        told += f", p99 {_percentile(seen.delays, 99) * 1e3:.1f} ms"
    return f"{told} (machine: {seen.busy:.1f} cores busy)"


def _percentile(delays: Sequence[float], percent: int) -> float:
    return statistics.quantiles(delays, n=100)[percent - 1]


def _print_cost(rounds: Sequence[Round], provider: str) -> None:
    print(f"against {provider}:")
    for name, each in (("service", [one.seen for one in rounds]), ("bare", [one.floor for one in rounds])):
        chunk = spread([seen.per_chunk_s for seen in each], " us", 1e6)
        second = spread([seen.per_chunk_s / CHUNK_S for seen in each], " ms", 1e3)
        events = spread([seen.events_per_s for seen in each])
        print(f"  {name:7} {chunk} a chunk; a second and session: {second}, {events} events")
    print(f"  P3  = {spread([one.ratio for one in rounds])} (goal with 200 sessions <= 1.5)")


def _print_delay(rounds: Sequence[Round]) -> None:
    for name, each in (("P4  =", [one.seen for one in rounds]), ("  bare", [one.floor for one in rounds])):
        p50, p99 = (spread([_percentile(seen.delays, percent) for seen in each], " ms", 1e3) for percent in (50, 99))
        print(f"{name} p50 {p50}, p99 {p99}" + ("" if each[0] is rounds[0].floor else " (goal <= 50 ms)"))
    p50, p99 = (spread([_percentile(one.seen.finals, percent) for one in rounds], " ms", 1e3) for percent in (50, 99))
    print(f"speech to final beyond the engine: p50 {p50} (goal <= 50 ms), p99 {p99}")


if __name__ == "__main__":
    main()
