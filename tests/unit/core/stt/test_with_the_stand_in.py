"""The session talks with the emulator's provider: its own code, its own sounds, its own second thoughts (WIRE 8).

A word of which a sample was lost or doubled sounds `<damaged>` there. Each seed is another producer, another provider
and other troubles; `python -m tests.unit.core.stt.test_with_the_stand_in 0 200` plays many.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from tests.unit.core.stt.playing import RATE, check
from tests.unit.core.stt.world import Entry, Trouble, World
from workers.core.stt import acts
from workers.emulator.speech import VOCABULARY, SpeechConfig, SpeechStats, encode, silence
from workers.emulator.speech.conversation import Act, Close, Conversation, Send
from workers.emulator.speech.engines import Engines
from workers.emulator.speech.faults import parse_speech_faults
from workers.emulator.speech.parameters import read_parameters

FLAGS = ("duplicate", "unordered", "string_ids", "string_error", "all_segments", "no_close", "no_echo")
BLOWS = ("drop_after", "close_after", "error_after", "malformed_after", "unknown_after", "id_jump_after")
KINDS = ("kill", "drop", "drain", "refuse", "repeat", "hang")


@dataclass
class StandIn(World):
    """A world whose provider is the emulator's. `faults` are those of its connections, one after another."""

    config: SpeechConfig = field(default_factory=SpeechConfig)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tries = 0
        self._talks: dict[int, Conversation] = {}
        self._calls: dict[int, int] = {}

    def _connect(self, action: acts.Connect) -> None:
        super()._connect(action)
        if action.conn in self._servers:
            faults = self.faults[self.tries] if self.tries < len(self.faults) else ""
            self.tries += 1
            self._talks[action.conn] = Conversation(
                self.config,
                read_parameters(action.query),
                parse_speech_faults(faults.split(",") if faults else ()),
                Engines(self.config).make,
                SpeechStats(),
            )
            self._later(action.conn, self.latency_s, self._talks[action.conn].open)

    def _perform_wire(self, action: object) -> None:
        match action:
            case acts.SendAudio(conn, frame):
                self._later(conn, self.latency_s, lambda: self._talks[conn].audio(frame))
            case acts.SendText(conn, message):
                self._later(conn, self.latency_s, lambda: self._talks[conn].text(json.dumps(dict(message))))
            case acts.Connect() | acts.Disconnect():
                super()._perform_wire(action)

    def _later(self, conn: int, after_s: float, what: Callable[[], list[Act]], unless: int | None = None) -> None:
        server = self._servers.get(conn)

        def call() -> None:
            if self._servers.get(conn) is not server or server is None or unless not in (None, self._calls.get(conn)):
                return
            for act in what():
                self._plan(self.now + getattr(act, "after_s", 0.0) + self.latency_s, self._says(conn, act))
            count = self._calls[conn] = self._calls.get(conn, 0) + 1
            if (patience_s := self._talks[conn].patience_s) is not None:
                self._later(conn, patience_s, self._talks[conn].idle, count)

        self._plan(self.now + after_s, call)

    def _says(self, conn: int, act: Act) -> Callable[[], None]:
        life, server = self._life, self._servers.get(conn)

        def say() -> None:
            if self._life is not life or self._servers.get(conn) is not server:
                return
            if isinstance(act, Send):
                self._decide(_fact(conn, act.text))
            else:
                del self._servers[conn]
                code = act.code if isinstance(act, Close) else 1006
                self._decide(acts.Disconnected(conn, code, "gone", retryable=True, jitter=0.5))

        return say


def _fact(conn: int, text: str) -> acts.Said | acts.Garbled:
    try:
        return acts.Said(conn, json.loads(text))
    except ValueError:
        return acts.Garbled(conn, "no JSON")


def spoken(chance: Random) -> tuple[list[tuple[str, float]], bytes]:
    """Return words with their times, and their sound."""
    words, pcm = list[tuple[str, float]](), b""
    for _ in range(chance.randint(3, 40)):
        word = chance.choice(sorted(VOCABULARY))
        words.append((word, len(pcm) / 2 / RATE))
        pcm += encode([word], pause_s=chance.choice((0, 0, 0, 0.3, 1.5, 4.0)))
    return words, pcm + silence(chance.choice((0, 0.7, 3)))


def entries_of(pcm: bytes, chance: Random) -> list[Entry]:
    sizes, entries, at = [chance.choice((640, 1_600, 1_601, 3_200, 333, 9_000)) for _ in range(5)], list[Entry](), 0
    while at < len(pcm):
        piece = pcm[at : at + sizes[len(entries) % 5]]
        at += len(piece)
        entries.append(Entry(at / 2 / RATE, pcm=piece))
    for _ in range(chance.choice((0, 1, 3))):
        place = chance.randrange(len(entries))
        control = chance.choice(({"type": "clear"}, {"type": "options", "language": "de"}, {"type": "shout"}))
        entries.insert(place, Entry(entries[place].at, control=control))
    return [*entries, Entry(at / 2 / RATE, control={"type": "end"})]


def faults_of(length_s: float, chance: Random) -> str:
    faults = [flag for flag in FLAGS if chance.random() < 0.2]
    if chance.random() < 0.4:
        faults.append(f"{chance.choice(BLOWS)}={chance.randint(0, round(length_s * 900))}")
    return ",".join([*faults, f"slow_echo={chance.choice((50, 400, 2_000))}"] if chance.random() < 0.2 else faults)


def world_of(chance: Random) -> tuple[StandIn, list[tuple[str, float]]]:
    words, pcm = spoken(chance)
    entries, length_s = entries_of(pcm, chance), len(pcm) / 2 / RATE
    config: dict[str, Any] = {
        "checkpoint": ("bare", "full"), "words": ("both", "segments", "top"), "segment_words": (1, 3, 12),
        "final_lag_s": (0, 0.5, 2.0), "update_every_s": (0, 0.2, 0.5), "clear_restarts_ids": (True, False),
        "close_after_final_s": (0.5, 0.0, None),
    }  # fmt: skip
    troubles = [
        Trouble(round(chance.uniform(0, length_s), 3), chance.choice(KINDS), chance.randint(0, 5))
        for _ in range(chance.choice((0, 1, 2, 5)))
    ]
    world = StandIn(
        entries,
        troubles,
        latency_s=chance.choice((0.01, 0.1)),
        read_s=chance.choice((0.0, 0.1)),
        config=SpeechConfig(engine="tones", **{name: chance.choice(values) for name, values in config.items()}),
        faults=[faults_of(length_s, chance) for _ in range(4)],
    )
    return world, words


@pytest.mark.requirement("STT-05", "STT-06", "STT-09", "STT-10")
@pytest.mark.parametrize("seed", [6, 14, 20, 30, 66])
def test_what_was_spoken_is_what_is_final_in_the_end(seed: int) -> None:
    world, words = world_of(Random(seed))
    life = world.run()
    check(life)
    result = life.result
    assert result.status == "completed"
    assert [each.word for each in result.words] == [word for word, _ in words]
    assert all(abs(each.start - at) < 0.02 for each, (_, at) in zip(result.words, words, strict=True))
    total = sum(len(entry.pcm) for entry in world.entries) // 2
    assert round(result.coverage.audio_s * RATE) == total
    is_echoed = world.tries > len(world.faults) or "no_echo" not in world.faults[world.tries - 1]
    assert result.coverage.gaps == [] or not is_echoed, "what is not echoed is not confirmed"


if __name__ == "__main__":
    for number in range(*map(int, sys.argv[1:3])):
        try:
            test_what_was_spoken_is_what_is_final_in_the_end(number)
        except AssertionError as error:
            print("seed", number, str(error)[:400])  # noqa: T201 - this is run by hand
