"""Act two: a recorded voice, word by word, through a worker that dies; then the same by numbers."""

import difflib
import itertools
import random
import re
import wave
from collections.abc import Iterable
from importlib import resources

from rich.console import Console

from api_contracts.client import Client
from api_contracts.runs import Event, RunCompleted
from api_contracts.stt import SAMPLE_RATE, SttFinal, SttInterim, SttLost, SttReconnecting, SttResult, SttWord
from api_contracts.vocabulary import typed
from workers.cli.demo.checks import MOST_EXTRA_S, Checks, Seen, check_agreement, check_journal, check_lives
from workers.cli.demo.speaking import Speaker
from workers.cli.demo.stage import LEASE_S, SWEEP_S, Stage
from workers.cli.demo.telling import Teller
from workers.emulator.speech import VOCABULARY, encode, silence

SPOKEN = "had he married a more amiable woman he might have been made still more respectable than he was"
"""What the recording says (voice/LICENCE.md)."""

PROOF_WORDS, PROOF_SPEED = 200, 3.0
_KILL_AT_WORDS = (80, 140)
_PROOF_PROMPT = "the exact proof"
"""The scene drops the first connection that is opened with this prompt (scene.json)."""
_LEAST_RIGHT = 12
"""Words of the recording that a small offline recogniser must get right: it hears 15 or more, whatever is killed."""
_PATIENCE_S = 60.0


def speech_act(console: Console, on: Stage, client: Client, checks: Checks) -> str:
    """Play the voice, then the proof; return the summary."""
    checks.act = "speech"
    voice = _voice(console, on, client, checks)
    checks.act = "proof"
    return f"{voice}\n{_proof(console, on, client, checks)}"


# -- a voice -----------------------------------------------------------------------------------------------------------


def _voice(console: Console, on: Stage, client: Client, checks: Checks) -> str:
    pcm = _recording()
    session = client.stt.open(language="en")
    console.print(f"run {session.run_id}", style="dim")
    console.print(f"[bold]voice[/]   (Jane Austen, read aloud, {len(pcm) / 2 / SAMPLE_RATE:.1f} s, as it is spoken)")
    with Speaker(session, pcm) as speaker:
        telling = _Telling(console, on, speaker)
        for event in session.follow(timeout_s=_PATIENCE_S):
            telling.take(event)
    result, seen = session.result(timeout_s=60), telling.seen()
    check_journal(checks, client, session.run_id, seen)
    check_lives(checks, seen, LEASE_S + SWEEP_S + MOST_EXTRA_S)
    _check_finals(checks, seen, result)
    _check_coverage(checks, result, len(pcm) / 2 / SAMPLE_RATE)
    heard = len(_common(SPOKEN.split(), _plain(result.text)))
    checks.claim(
        "the words are those of the book", heard >= _LEAST_RIGHT, f"{heard} of {len(SPOKEN.split())}, pocketsphinx"
    )
    check_agreement(checks, seen, result, on.env["FW_REDIS_URL"])
    return (
        f"speech {session.run_id}: {result.coverage.audio_s:.1f} s of audio, {len(result.words)} words, "
        f"{result.connections} connections, first words after {result.timings.get('first_text_s', 0):.1f} s"
    )


class _Telling:
    """Says each word as it is heard, and kills the worker in mid-sentence, once there is a final to be kept."""

    def __init__(self, console: Console, on: Stage, speaker: Speaker) -> None:
        self._teller = Teller(console, on)
        self._speaker = speaker
        self._events: list[Event] = []
        self._killed = (0, 0)
        self._shown = ""
        self._has_final = False

    def take(self, event: Event) -> None:
        """Take the next event."""
        self._events.append(event)
        said = typed(event)
        if said is None or self._teller.life(said, event.epoch):
            return
        match said:
            case SttInterim(text=text) if text != self._shown:
                self._shown = text
                self._teller.line(f"[dim]        ... {text}[/]")
                if self._has_final and self._speaker.is_speaking and not self._killed[0]:
                    self._killed = self._teller.kill("in mid-sentence")
            case SttFinal(text=text, start=start, end=end):
                self._has_final, self._shown = True, ""
                self._teller.line(f"[bold]heard[/]   {text}  [dim]({start:.2f} to {end:.2f} s, final)[/]")
            case RunCompleted():
                self._teller.line("the session is completed", "green")
            case _:
                pass

    def seen(self) -> Seen:
        """Return what was seen."""
        return Seen(self._events, *self._killed)


def _recording() -> bytes:
    with (
        (resources.files("workers.cli.demo") / "voice" / "sense-and-sensibility.wav").open("rb") as stored,
        wave.open(stored) as file,
    ):
        return bytes(file.readframes(file.getnframes()))


def _check_finals(checks: Checks, seen: Seen, result: SttResult) -> None:
    before = [word for event in _finals(seen.events) if event.at < seen.killed_at_ms for word in _words(event)]
    kept = bool(before) and result.words[: len(before)] == before
    checks.claim("finals from before the kill unchanged", kept, f"{len(before)} words")
    everything = [word for event in _finals(seen.events) for word in _words(event)]
    overlaps = [(one, two) for one, two in itertools.pairwise(everything) if two.start < one.end]
    apart = bool(everything) and not overlaps and everything == result.words
    checks.claim("no two words overlap in time", apart, f"{len(everything)} words in order")


def _check_coverage(checks: Checks, result: SttResult, spoken_s: float) -> None:
    share, audio_s = result.coverage.share, result.coverage.audio_s
    checks.claim(
        "every sample is accounted for", share == 1.0 and abs(audio_s - spoken_s) < 1e-3,
        f"coverage {share:.0%} of {audio_s:.2f} s, {len(result.coverage.gaps)} gaps",
    )  # fmt: skip


# -- the proof ---------------------------------------------------------------------------------------------------------


def _proof(console: Console, on: Stage, client: Client, checks: Checks) -> str:
    seed = random.SystemRandom().randrange(10**6)
    words = random.Random(seed).choices(VOCABULARY, k=PROOF_WORDS)
    pcm = encode(words) + silence(0.5)
    session = client.stt.open(prompt=_PROOF_PROMPT)
    console.print(
        f"\nthe exact proof: {len(words)} random words in tones (seed {seed}), {PROOF_SPEED:g} times as fast as speech"
    )
    counting = _Counting(console, on)
    with Speaker(session, pcm, speed=PROOF_SPEED):
        for event in session.follow(timeout_s=_PATIENCE_S):
            counting.take(event)
    result = session.result(timeout_s=60)
    exact = counting.heard == words == [word.word for word in result.words]
    checks.claim(
        f"{PROOF_WORDS} random words, each exactly once",
        exact and counting.kills == len(_KILL_AT_WORDS) and counting.lost >= 1,
        f"{len(counting.heard)} words, {counting.kills} kills, {counting.lost} disconnect, "
        f"{result.connections} connections, seed {seed}",
    )
    _check_coverage(checks, result, len(pcm) / 2 / SAMPLE_RATE)
    audio, total_s = result.coverage.audio_s, result.timings.get("total_s", 0)
    return f"proof {session.run_id}: {audio:.1f} s of audio in {total_s:.1f} s, {result.connections} connections"


class _Counting:
    """Counts the words that are final, and kills the worker twice in between."""

    def __init__(self, console: Console, on: Stage) -> None:
        self._teller = Teller(console, on)
        self._shown = 0
        self.heard: list[str] = []
        self.kills = 0
        self.lost = 0

    def take(self, event: Event) -> None:
        """Take the next event."""
        said = typed(event)
        if said is None or self._teller.life(said, event.epoch):
            return
        final = len(self.heard)
        match said:
            case SttFinal():
                self.heard += [word.word for word in said.words]
                self._progress()
            case SttInterim() if self.kills < len(_KILL_AT_WORDS) and final >= _KILL_AT_WORDS[self.kills]:
                self._teller.kill(f"in the middle of a word, {final} final")
                self.kills += 1
            case SttLost(code=code):
                self.lost += 1
                how = f"closes with {code}" if code else "drops the connection"
                self._teller.line(f"--- the provider {how}, {final} final ---", "red")
            case SttReconnecting():
                self._teller.line("connecting again; what is not final is sent again", "dim")
            case _:
                pass

    def _progress(self) -> None:
        if len(self.heard) - self._shown >= PROOF_WORDS // 10:
            self._shown = len(self.heard)
            self._teller.words("proof", f"{self._shown} ")


# -- words -------------------------------------------------------------------------------------------------------------


def _finals(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.type == SttFinal.TYPE]


def _words(event: Event) -> list[SttWord]:
    return SttFinal.model_validate(event.data).words


def _plain(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _common(one: list[str], two: list[str]) -> list[str]:
    blocks = difflib.SequenceMatcher(a=one, b=two, autojunk=False).get_matching_blocks()
    return [word for block in blocks for word in one[block.a : block.a + block.size]]
