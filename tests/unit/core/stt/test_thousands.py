"""Thousands of words, and something goes wrong every few seconds: what is final is what was spoken, to the word.

The provider is the emulator's, with the engine `tones`: a word of which a sample was cut, doubled or left out sounds
otherwise. `python -m tests.unit.core.stt.test_thousands 20 500` speaks in twenty sessions of 500 words each, and tells.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from random import Random

import pytest

from tests.unit.core.stt.playing import RATE, check
from tests.unit.core.stt.test_with_the_stand_in import StandIn
from tests.unit.core.stt.world import Entry, Trouble
from workers.emulator.speech import VOCABULARY, SpeechConfig, encode, silence

EVERY_S = 3.0
"""On average, between two troubles."""
KINDS = ("kill", "kill", "drop", "drop", "drain", "repeat", "hang")


def spoken(words: int, chance: Random) -> tuple[list[str], bytes]:
    said = chance.choices(sorted(VOCABULARY), k=words)
    return said, b"".join(encode([word], pause_s=chance.choice((0, 0, 0, 0.4, 1.2))) for word in said) + silence(0.3)


def pieces_of(pcm: bytes, chance: Random) -> list[Entry]:
    """Cut anywhere, in the middle of a sample too; the stream gets each piece when its last sound is out."""
    entries, at = list[Entry](), 0
    while at < len(pcm):
        piece = pcm[at : at + chance.choice((1, 333, 1_600, 3_200, 3_201, 9_000, 64_000))]
        at += len(piece)
        entries.append(Entry(at / 2 / RATE, pcm=piece))
    return [*entries, Entry(at / 2 / RATE, control={"type": "end"})]


def played(words: int, seed: int) -> tuple[list[str], StandIn]:
    """Hold a session of so many words; return what was said, and the world that it ended in."""
    chance = Random(seed)
    said, pcm = spoken(words, chance)
    length_s = len(pcm) / 2 / RATE
    troubles = [
        Trouble(round(chance.uniform(0, length_s), 3), chance.choice(KINDS), chance.randint(0, 5))
        for _ in range(round(length_s / EVERY_S))
    ]
    config = SpeechConfig(engine="tones", final_lag_s=chance.choice((0, 0.5, 2.0)), segment_words=chance.choice((1, 5)))
    world = StandIn(
        pieces_of(pcm, chance), troubles, latency_s=chance.choice((0.01, 0.1)), read_s=chance.choice((0.0, 0.1)),
        config=config,
    )  # fmt: skip
    check(world.run())
    return said, world


def differences(said: Sequence[str], heard: Sequence[str]) -> tuple[int, int]:
    """Return how many words were lost, and how many are there that nobody said at that place."""
    lost = more = 0
    for _, one, two, three, four in SequenceMatcher(None, said, heard, autojunk=False).get_opcodes():
        if said[one:two] != heard[three:four]:
            lost, more = lost + two - one, more + four - three
    return lost, more


def happened(world: StandIn) -> Counter[str]:
    """Return what went wrong: workers killed, sessions handed over, connections lost."""
    told = Counter(event.TYPE for event, _ in world.journal)
    return Counter(
        killed=world.kills, handed_over=told["run.resumed"] - world.kills, connections_lost=told["stt.lost"],
        connections=told["stt.connected"],
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.requirement("STT-04", "STT-09", "STT-10", "STT-11")
@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_words_through_dozens_of_troubles_are_each_in_one_final(seed: int) -> None:
    said, world = played(300, seed)
    result = world.lives[-1].result
    assert differences(said, [word.word for word in result.words]) == (0, 0)
    assert result.status == "completed"
    assert (result.coverage.share, result.coverage.gaps) == (1.0, [])
    assert round(result.coverage.audio_s * RATE) == sum(len(entry.pcm) for entry in world.entries) // 2
    assert min(happened(world)["killed"], happened(world)["connections_lost"]) >= 5


@pytest.mark.parametrize(
    ("heard", "told"),
    [("a b c d", (0, 0)), ("a c d", (1, 0)), ("a b b c d", (0, 1)), ("a x c d", (1, 1)), ("", (4, 0))],
)
def test_differences_are_counted(heard: str, told: tuple[int, int]) -> None:
    assert differences(["a", "b", "c", "d"], heard.split()) == told


if __name__ == "__main__":
    sessions, length = (int(each) for each in sys.argv[1:3])
    total: Counter[str] = Counter()
    for number in range(sessions):
        words, end = played(length, 1_000 + number)
        missed, added = differences(words, [word.word for word in end.lives[-1].result.words])
        total += happened(end) + Counter(words=len(words), lost=missed, doubled=added)
        if missed or added:
            print("seed", 1_000 + number, "lost", missed, "doubled", added)  # noqa: T201 - this is run by hand
    print({name: total[name] for name in ("words", "killed", "handed_over", "connections_lost", "lost", "doubled")})  # noqa: T201
