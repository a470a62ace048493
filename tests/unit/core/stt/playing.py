"""A session played by hand: its lives, what it told and did, what must hold of every journal."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from api_contracts import stt
from api_contracts.runs import RUN_EVENTS, EventData
from api_contracts.stt import STT_EVENTS, SttRequest
from workers.core.runs.frame import Action, Begin, Emit, Finish, Release, Woke
from workers.core.stt import acts
from workers.core.stt.session import SttSession
from workers.core.stt.state import OVERLAP, SttState

RUN = "run-1"
T0 = 1_000.0
RATE = 16_000
OVERLAP_S = OVERLAP / RATE
"""So much before the end of what is final is heard again by a new connection."""
TYPES = {event.TYPE: event for event in (*RUN_EVENTS, *STT_EVENTS)}


def request(**fields: Any) -> SttRequest:
    return SttRequest.model_validate(fields)


def sound(seconds: float) -> bytes:
    return bytes(round(seconds * RATE) * 2)


def word(
    text: str, start: float | None = None, end: float | None = None, final: bool | None = False, **more: Any
) -> dict[str, Any]:
    """A word as the provider tells it."""
    told = {"word": text, "language": "en", "probability": 0.9, "hallucination_score": 0.1, "is_final": final}
    if start is not None:
        told |= {"start": start, "end": end}
    if final is None:
        del told["is_final"]
    return told | more


def segment(number: int | str, *words: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A segment as the provider tells it."""
    text = " ".join(each["word"] for each in words)
    return {"id": number, "text": text, "language": "en", "words": list(words)} | more


def update(*segments: dict[str, Any]) -> dict[str, Any]:
    """A transcription update."""
    text = " ".join(each["text"] for each in segments)
    return {"task": "transcribe", "language": "en", "text": text, "segments": list(segments)}


ECHO = {"checkpoint_id": "final"}


@dataclass
class Life:
    """One life of a session, from its journal on. `trace` is what it did, in order: events and effects."""

    request: SttRequest = field(default_factory=request)
    journal: list[tuple[EventData, float]] = field(default_factory=list)
    now: float = T0
    trace: list[Action] = field(default_factory=list)
    entries: int = 0
    end: Finish | Release | None = None  # the first of the trace; kept, for it is asked for at every alarm

    def __post_init__(self) -> None:
        self.machine = SttSession(RUN, self.request, T0)
        for event, at in self.journal:
            self.machine.fold(event, at)

    def feed(self, *facts: object) -> list[Action]:
        actions = [action for fact in facts for action in self.machine.receive(fact, self.now)]
        for action in actions:
            self.note(action)
        return actions

    def note(self, action: Action) -> None:
        """Take an action as done: events as they come back from the store."""
        self.trace.append(action)
        if isinstance(action, Finish | Release) and not self.end:
            self.end = action
        if isinstance(action, Emit):
            again = TYPES[action.event.TYPE].model_validate_json(action.event.to_json())
            assert again == action.event, "the event changes on its way through the store"
            self.journal.append((again, self.now))

    def begin(self) -> "Life":
        self.feed(Begin("w"))
        return self

    def opened(self) -> "Life":
        """Begin, and open the connection."""
        if not self.trace:
            self.begin()
        self.feed(acts.Connected(self.conn))
        return self

    def speak(self, seconds: float = 1.0, *, pcm: bytes | None = None) -> list[Action]:
        """Let an entry of audio arrive."""
        self.entries += 1
        return self.feed(acts.AudioArrived(f"{self.entries}-0", sound(seconds) if pcm is None else pcm))

    def control(self, **data: Any) -> list[Action]:
        self.entries += 1
        return self.feed(acts.ControlArrived(f"{self.entries}-0", data))

    def says(self, *messages: dict[str, Any]) -> list[Action]:
        return self.feed(*(acts.Said(self.conn, message) for message in messages))

    def loses(self, code: int | None = 1006, *, retryable: bool = True, jitter: float = 1.0) -> list[Action]:
        return self.feed(acts.Disconnected(self.conn, code, "gone", retryable, jitter))

    def at(self, now: float) -> list[Action]:
        """Let time come to `now`; the alarm goes off as often as it is due."""
        done: list[Action] = []
        while (due := self.machine.deadline) is not None and due <= now and not self.end:
            self.now = max(self.now, due)
            done += self.feed(Woke())
            assert self.machine.deadline != due or self.end, "the alarm was for nothing"
        self.now = now
        return done

    def later(self, seconds: float) -> list[Action]:
        return self.at(self.now + seconds)

    def retries(self) -> list[Action]:
        """Let the pause before the next try pass."""
        return self.later(self.told(stt.SttReconnecting)[-1].wait_s)

    def reborn(self) -> "Life":
        """The next worker's life: it knows the journal and nothing else."""
        return Life(self.request, list(self.journal), self.now + 1, entries=self.entries)

    # -- what it did -----------------------------------------------------------------------------------------------

    @property
    def conn(self) -> int:
        return int(self.done(acts.Connect)[-1].conn)

    @property
    def events(self) -> list[EventData]:
        return [event for event, _ in self.journal]

    @property
    def types(self) -> list[str]:
        return [event.TYPE for event in self.events]

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def done(self, kind: type[Any]) -> list[Any]:
        return [action for action in self.trace if isinstance(action, kind)]

    @property
    def finals(self) -> list[str]:
        return [final.text for final in self.told(stt.SttFinal)]

    @property
    def interims(self) -> list[str]:
        return [interim.text for interim in self.told(stt.SttInterim)]

    @property
    def words(self) -> list[str]:
        return [each.word for final in self.told(stt.SttFinal) for each in final.words]

    @property
    def result(self) -> stt.SttResult:
        assert isinstance(self.end, Finish), "the session goes on"
        return stt.SttResult.model_validate(self.end.result)

    def sent(self, conn: int | None = None) -> bytes:
        """Everything that was sent to a connection, or to all."""
        return b"".join(act.frame for act in self.done(acts.SendAudio) if conn in (None, act.conn))


def kinds(actions: Iterable[Action]) -> list[str]:
    """What was decided, in short: types of events, names of effects."""
    return [action.event.TYPE if isinstance(action, Emit) else type(action).__name__ for action in actions]


def check(life: Life) -> None:
    """Fail if the life broke what holds of every session."""
    check_journal(life.events)
    for frame in life.done(acts.SendAudio):
        assert 1_600 <= len(frame.frame) <= 12_800, "a frame that the provider does not document"
    ends = [place for place, action in enumerate(life.trace) if isinstance(action, Finish | Release)]
    assert len(ends) <= 1, "ended twice"
    assert not ends or ends[0] == len(life.trace) - 1, "something was decided after the end"
    state = SttState(T0)
    for event, at in life.journal:
        if not isinstance(event, stt.SttInterim):
            state.fold(event, at)
    if isinstance(life.end, Finish):
        check_coverage(life.result)
    assert state == life.machine.state, "the state is not the fold of the journal, which interims add nothing to"


def check_coverage(result: stt.SttResult) -> None:
    """Final, silence and gaps are the audio, to the sample; gaps lie apart from each other, within it."""
    coverage = result.coverage
    audio, words, silence, gaps, repeated = (
        round(seconds * RATE, 3)
        for seconds in (
            coverage.audio_s, coverage.words_s, coverage.silence_s, coverage.gaps_s, result.repeated_s,
        )
    )  # fmt: skip
    assert all(count == int(count) >= 0 for count in (audio, words, silence, gaps, repeated))
    assert words + silence + gaps == audio
    ends = [0.0, *(round(place * RATE, 3) for gap in coverage.gaps for place in (gap.start, gap.end)), audio]
    assert ends == sorted(ends)
    assert gaps == sum(ends[2:-1:2]) - sum(ends[1:-1:2])


def check_journal(events: list[EventData]) -> None:
    """Finals are in order of time and do not overlap; anchors only move on; no interim is told twice."""
    upto, anchor, settled, shown = 0.0, 0, 0, None
    for event in events:
        if isinstance(event, stt.SttFinal):
            for each in event.words:
                assert upto <= each.start <= each.end, f"{each} overlaps the word before, which ends at {upto}"
                upto = each.end
            assert event.end == upto
        if isinstance(event, stt.SttFinal | stt.SttUsage):
            assert event.anchor_at >= anchor, "an anchor went back"
            anchor = event.anchor_at
        if isinstance(event, stt.SttUsage):
            assert event.settled_at >= settled
            assert event.anchor_at <= event.settled_at
            settled = event.settled_at
        if isinstance(event, stt.SttInterim):
            assert (event.text, event.segments) != shown, "an interim is told twice"
            shown = event.text, event.segments
        elif event.TYPE in ("stt.final", "stt.retracted", "stt.reconnecting", "run.resumed"):
            shown = None
        if isinstance(event, stt.SttClosed):
            _check_coverage(event.coverage)


def _check_coverage(told: stt.Coverage) -> None:
    audio, words, silence, gaps = (
        round(s * RATE) for s in (told.audio_s, told.words_s, told.silence_s, told.gaps_s)
    )  # fmt: skip
    assert audio == words + silence + gaps, "the audio does not add up"
    assert min(words, silence, gaps) >= 0
    assert gaps == sum(round((gap.end - gap.start) * RATE) for gap in told.gaps)
