"""Which engine hears a stream, and a real voice heard by pocketsphinx."""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import pytest

import workers.cli.demo
from tests.unit.emulator.speech.speaking import frames, heard, some_words, texts
from workers.emulator.speech import DAMAGED, SpeechConfig, encode, read_wav, silence
from workers.emulator.speech.conversation import Close, Conversation, Send
from workers.emulator.speech.engine import Engine, EngineMissing, Heard, Hypothesis
from workers.emulator.speech.engines import Engines
from workers.emulator.speech.faults import SpeechFaults
from workers.emulator.speech.listening import AutoEngine
from workers.emulator.speech.parameters import Parameters
from workers.emulator.speech.sphinx import SphinxShelf
from workers.emulator.speech.state import SpeechStats
from workers.emulator.speech.tones import WORD
from workers.emulator.speech.whisper import WhisperShelf

pytestmark = pytest.mark.requirement("EMU-02")

VOICE = Path(workers.cli.demo.__file__).parent / "voice" / "sense-and-sensibility.wav"
END = '{"checkpoint_id": "final"}'
SAID = "had he married a more amiable woman he might have been made still more respectable than he was"
has_whisper = pytest.mark.skipif(
    not importlib.util.find_spec("faster_whisper"), reason="the extra `whisper` is not installed"
)
has_sphinx = pytest.mark.skipif(not importlib.util.find_spec("pocketsphinx"), reason="pocketsphinx is not installed")


class Counting:
    """An engine for speech that only counts what it is given."""

    slow = True

    def __init__(self) -> None:
        self.samples = 0

    def feed(self, pcm: bytes) -> Hypothesis:
        """Count."""
        self.samples += len(pcm) // 2
        return Hypothesis()

    def finish(self) -> Hypothesis:
        """One word, as long as everything."""
        return Hypothesis((Heard("all", 0, self.samples),))

    def close(self) -> None:
        """Nothing to give back."""


def _no_speech() -> Engine:
    raise AssertionError("these are tones")


def test_tones_are_recognised_wherever_the_stream_begins() -> None:
    spoken = some_words(6)
    pcm = encode(spoken)
    assert texts(heard(frames(silence(3) + pcm), AutoEngine(_no_speech))) == spoken
    for start in range(0, WORD, 97):
        words = texts(heard(frames(pcm[2 * start :]), AutoEngine(_no_speech)))
        assert words[-4:] == spoken[2:]


def test_words_keep_their_time_after_a_long_silence() -> None:
    [word] = heard(frames(silence(3) + encode(["river"])), AutoEngine(_no_speech))
    assert word.start == 48_000


def test_a_short_sound_is_judged_at_the_end() -> None:
    assert texts(heard([encode(["river"])[:2000]], AutoEngine(_no_speech))) == [DAMAGED]
    assert heard([silence(2)], AutoEngine(_no_speech)) == []


def test_a_voice_is_handed_over_whole_and_becomes_slow_before_it_does() -> None:
    engine = Counting()
    auto = AutoEngine(lambda: engine)
    slow = []
    for piece in frames(read_wav(VOICE.read_bytes())):
        slow.append(auto.slow)
        auto.feed(piece)
        if not auto.slow:
            assert engine.samples == 0
    assert slow == sorted(slow)
    [word] = auto.finish().settled
    assert (word.start, word.end) == (0, (VOICE.stat().st_size - 44) // 2)


def _missing() -> Engine:
    return SphinxShelf("no_such_package").engine()


def test_a_missing_engine_says_which_extra_has_it() -> None:
    with pytest.raises(EngineMissing, match=r"fireworks-workers\[emulator\]"):
        SphinxShelf("no_such_package")


def test_whisper_missing_says_which_extra_has_it() -> None:
    with pytest.raises(EngineMissing, match=r"fireworks-workers\[whisper\]"):
        WhisperShelf("no_such_package")


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_connection_whose_voice_nobody_can_hear_ends_with_an_error(at_the_end: bool) -> None:
    talk = Conversation(SpeechConfig(), Parameters(), SpeechFaults(), lambda: AutoEngine(_missing), SpeechStats())
    voice = read_wav(VOICE.read_bytes())
    assert talk.audio(voice) == []
    error, close = talk.text(END) if at_the_end else talk.audio(voice)
    assert isinstance(error, Send)
    assert json.loads(error.text)["error"]["code"] == "engine_missing"
    assert close == Close(1011)


@has_sphinx
@pytest.mark.long
def test_a_real_voice_is_recognised_as_it_speaks_and_the_same_each_time() -> None:
    engines = Engines(SpeechConfig(engine="pocketsphinx"))
    runs = []
    for _ in range(2):
        engine = engines.make()
        settled: list[Heard] = []
        guessed = []
        for piece in frames(read_wav(VOICE.read_bytes())):
            hypothesis = engine.feed(piece)
            settled += hypothesis.settled
            guessed += [word.text for word in hypothesis.pending]
        early = len(settled)
        settled += engine.finish().settled
        engine.close()
        runs.append(settled)
        assert early >= 5
        assert set(guessed) - set(texts(settled))
    assert runs[0] == runs[1]
    assert all(one.end <= other.start for one, other in pairwise(settled))
    assert texts(settled)[:15] == SAID.split()[:15]


@has_sphinx
def test_a_closed_engine_hears_nothing_more() -> None:
    engine = Engines(SpeechConfig(engine="pocketsphinx")).make()
    engine.close()
    engine.close()
    assert engine.feed(silence(1)) == engine.finish() == Hypothesis()


@has_whisper
@pytest.mark.long
def test_whisper_settles_words_as_it_hears_them_and_never_twice() -> None:
    engine = Engines(SpeechConfig(engine="whisper")).make()
    settled = [word for piece in frames(read_wav(VOICE.read_bytes())) for word in engine.feed(piece).settled]
    early = len(settled)
    settled += engine.finish().settled
    engine.close()
    assert early >= 5
    assert all(one.end <= other.start for one, other in pairwise(settled))
    assert [word.text.lower().strip(".,") for word in settled] == SAID.split()
    assert engine.feed(silence(1)) == engine.finish() == Hypothesis()
