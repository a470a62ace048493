"""A file's transcription: its machine, its form, its answers, its subtitles."""

import json
from typing import Any

import pytest

from api_contracts import runs
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from api_contracts.stt_files import FileFormat, FileSegment, SttFileRequest, SttReplaced, SttTranscribed
from workers.core.runs.frame import HOLD_S, Action, Begin, Draining, Emit, Finish, Park, Release, SignalArrived, Woke
from workers.core.stt.files.acts import AskTranscript, StopAsking, TranscriptCame, TranscriptFailed
from workers.core.stt.files.answer import Transcript, read_answer
from workers.core.stt.files.captions import srt_of, text_of, vtt_of
from workers.core.stt.files.form import fields_of
from workers.core.stt.files.transcription import FileTranscription

pytestmark = pytest.mark.requirement("STT-19")

T0 = 1_000.0
URL = "https://example.org/talk.mp3"
BUSY = Failure(code="busy", category="overloaded", message="busy", retryable=True, at_fault="provider")
REFUSED = Failure(code="refused", category="bad_request", message="no", at_fault="caller")
HEARD = Transcript("good morning", "en", 2.5)


def request(**fields: Any) -> SttFileRequest:
    return SttFileRequest.model_validate({"url": URL} | fields)


class Life:
    """One life of a run, from a journal on."""

    def __init__(
        self, asked: SttFileRequest | None = None, journal: list[tuple[EventData, float]] | None = None
    ) -> None:
        self.machine = FileTranscription("run-1", asked or request(), T0)
        self.journal = list(journal or [])
        for event, at in self.journal:
            self.machine.fold(event, at)

    def feed(self, fact: object, now: float = T0) -> list[str]:
        actions = self.machine.receive(fact, now)
        self.actions: list[Action] = actions
        self.journal += [(action.event, now) for action in actions if isinstance(action, Emit)]
        return [each.event.TYPE if isinstance(each, Emit) else type(each).__name__ for each in actions]

    def begin(self, now: float = T0) -> "Life":
        self.feed(Begin("a"), now)
        return self

    @property
    def end(self) -> Finish:
        last = self.actions[-1]
        assert isinstance(last, Finish)
        return last


def test_it_asks_once_and_ends_with_what_was_heard() -> None:
    life = Life()
    assert life.feed(Begin("a")) == ["run.started", "stt.requested", "AskTranscript"]
    assert life.feed(TranscriptCame(1, HEARD), T0 + 4) == ["stt.transcribed", "Finish"]
    assert life.end.status == "completed"
    assert {
        "text": "good morning",
        "language": "en",
        "duration_s": 2.5,
        "attempts": 1,
    }.items() <= life.end.result.items()
    assert life.end.result["timings"] == {"queued_s": 0.0, "total_s": 4.0}


def test_what_was_used_counts_for_the_tenant() -> None:
    life = Life(request(tenant="acme", labels={"team": "a"})).begin()
    life.feed(TranscriptCame(1, HEARD))
    said = next(event for event, _ in life.journal if isinstance(event, SttTranscribed))
    assert (said.tenant, said.labels, said.duration_s) == ("acme", {"team": "a"}, 2.5)


def test_what_may_recover_is_asked_again_and_the_rest_is_not() -> None:
    life = Life().begin()
    assert life.feed(TranscriptFailed(1, BUSY, 0.5)) == ["stt.replaced"]
    again_at = life.machine.deadline
    assert again_at is not None
    assert life.feed(TranscriptCame(1, HEARD)) == [], "the attempt is over"
    assert life.feed(Woke(), again_at) == ["stt.requested", "AskTranscript"]
    assert life.feed(TranscriptFailed(2, REFUSED, 0.5), again_at) == ["stt.replaced", "Finish"]
    assert (life.end.status, life.end.failure) == ("failed", REFUSED)


def test_it_gives_up_in_the_end() -> None:
    life, now, tries = Life().begin(), T0, 1
    while "Finish" not in life.feed(TranscriptFailed(tries, BUSY, 1.0), now):
        assert tries < 9
        now = life.machine.deadline or 0.0
        life.feed(Woke(), now)
        tries += 1
    assert (tries, life.end.failure) == (5, BUSY)


@pytest.mark.requirement("RUN-07")
def test_a_long_wait_parks_and_the_next_life_asks_when_it_is_over() -> None:
    life = Life().begin()
    later = BUSY.model_copy(update={"retry_after_s": 60.0})
    assert life.feed(TranscriptFailed(1, later, 0.0)) == ["stt.replaced", "Park"]
    park = life.actions[-1]
    assert isinstance(park, Park)
    assert park.until == T0 + 60
    early = Life(journal=life.journal)
    assert early.feed(Begin("b"), T0 + 60 - 2 * HOLD_S) == ["run.resumed", "Park"]
    due = Life(journal=life.journal)
    assert due.feed(Begin("b"), T0 + 60) == ["run.resumed", "stt.requested", "AskTranscript"]


@pytest.mark.requirement("RUN-04")
def test_a_lost_workers_attempt_is_made_anew_and_costs_no_try() -> None:
    life = Life().begin()
    again = Life(journal=life.journal)
    assert again.feed(Begin("b"), T0 + 9) == ["run.resumed", "stt.replaced", "stt.requested", "AskTranscript"]
    assert again.actions[-1] == AskTranscript(2)
    assert again.machine.state.failures == 0
    assert [event.failure for event, _ in again.journal if isinstance(event, SttReplaced)] == [None]


def test_a_drain_waits_for_the_answer_and_then_hands_over() -> None:
    life = Life().begin()
    assert life.feed(Draining(T0 + 5)) == []
    assert life.feed(Woke(), T0 + 5) == ["StopAsking", "Release"]
    waiting = Life().begin()
    waiting.feed(TranscriptFailed(1, BUSY, 0.5))
    assert waiting.feed(Draining(T0 + 5)) == ["StopAsking", "Release"]
    answered = Life().begin()
    answered.feed(Draining(T0 + 5))
    assert answered.feed(TranscriptCame(1, HEARD), T0 + 1)[-1] == "Finish"


def test_a_cancel_and_the_deadline_end_it() -> None:
    life = Life().begin()
    assert life.feed(SignalArrived("1-0", "cancel", {"reason": "enough"})) == ["run.cancelling", "StopAsking", "Finish"]
    assert (life.end.status, life.end.reason) == ("cancelled", "enough")
    late = Life(request(deadline_s=3)).begin()
    assert late.machine.deadline == T0 + 3
    assert late.feed(Woke(), T0 + 3) == ["StopAsking", "Finish"]
    assert late.end.failure is not None
    assert late.end.failure.code == "deadline_exceeded"


@pytest.mark.requirement("RUN-18")
def test_a_retried_run_has_its_tries_again() -> None:
    life = Life().begin()
    life.feed(TranscriptFailed(1, REFUSED, 0.0))
    ended = [*life.journal, (runs.RunFailedEvent(failure=REFUSED, result={}), T0)]
    again = Life(journal=ended)
    assert again.feed(Begin("b"), T0 + 50) == ["run.resumed", "stt.requested", "AskTranscript"]
    assert again.machine.state.failures == 0
    assert isinstance(again.actions[-1], AskTranscript)
    assert not any(isinstance(each, StopAsking | Release) for each in again.actions)


# -- the wire ----------------------------------------------------------------------------------------------------------


def test_the_form_is_spelled_as_documented_and_the_unset_is_absent() -> None:
    assert fields_of(request()) == [
        ("model", "whisper-v3"), ("response_format", "verbose_json"), ("timestamp_granularities", "word,segment"),
    ]  # fmt: skip
    full = request(
        model="whisper-v3-turbo", vad_model="silero", alignment_model="gentle", language="de", prompt="names",
        temperature=[0, 0.5], response_format="verbose_json", timestamp_granularities=["word"], diarize=True,
        min_speakers=1, max_speakers=3, preprocessing="dynamic",
    )  # fmt: skip
    assert sorted(fields_of(full)) == [
        ("alignment_model", "gentle"), ("diarize", "true"), ("language", "de"), ("max_speakers", "3"),
        ("min_speakers", "1"), ("model", "whisper-v3-turbo"), ("preprocessing", "dynamic"), ("prompt", "names"),
        ("response_format", "verbose_json"), ("temperature", "0"), ("temperature", "0.5"),
        ("timestamp_granularities", "word"), ("vad_model", "silero"),
    ]  # fmt: skip
    assert ("timestamp_granularities", "word,segment") not in fields_of(request(response_format="srt"))


def verbose(**more: Any) -> bytes:
    segments = [{"id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": "good morning", "mood": "good"}]
    said = {"task": "transcribe", "language": "en", "duration": "1.5", "text": "good morning", "segments": segments}
    return json.dumps(said | more).encode()


def test_the_long_answer_has_all_that_there_is() -> None:
    words = [{"word": "good", "start": 0, "end": 0.5, "probability": 0.9, "speaker_id": 1}]
    heard = read_answer("verbose_json", verbose(words=words))
    assert isinstance(heard, Transcript)
    assert (heard.text, heard.language, heard.duration_s) == ("good morning", "en", 1.5)
    assert [(word.word, word.speaker_id) for word in heard.words] == [("good", "1")]
    assert heard.srt == "1\n00:00:00,000 --> 00:00:01,500\ngood morning\n"
    assert heard.vtt == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\ngood morning\n"


def test_words_may_stand_in_the_segments_alone() -> None:
    inner = {"id": 0, "start": 0, "end": 1, "text": "good", "words": [{"word": "good", "start": 0, "end": 1}]}
    heard = read_answer("verbose_json", verbose(segments=[inner]))
    assert isinstance(heard, Transcript)
    assert [word.word for word in heard.words] == ["good"]


@pytest.mark.parametrize(
    ("form", "body", "text"),
    [
        ("json", b'{"text": "good morning"}', "good morning"),
        ("text", b"good morning\n", "good morning"),
        ("srt", b"1\r\n00:00:00,000 --> 00:00:01,500\r\ngood\r\nmorning\r\n\r\n2\r\n00:00:02,000 --> 00:00:03,0\r\nsir",
         "good morning sir"),
        ("vtt", b"WEBVTT\n\nNOTE nothing\n\nid\n00:00.000 --> 00:01.500 align:left\nyou &amp; me\n", "you & me"),
    ],
)  # fmt: skip
def test_each_format_has_a_text(form: FileFormat, body: bytes, text: str) -> None:
    heard = read_answer(form, body)
    assert isinstance(heard, Transcript)
    assert heard.text == text
    assert (heard.srt is not None, heard.vtt is not None) == (form == "srt", form == "vtt")


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b'{"text": 1}', b"<html>", verbose(segments={}), verbose(words=[{"word": 1}])]
)
def test_what_is_no_transcript_is_a_failure_that_may_pass(body: bytes) -> None:
    failure = read_answer("verbose_json", body)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.retryable) == ("provider_unexpected_answer", True)


def test_subtitles_stay_subtitles_whatever_is_said() -> None:
    said = [
        FileSegment(id=0, start=3599.9996, end=1, text=" a --> b\n\n<c> & "),
        FileSegment(id=1, start=0, end=1, text="  "),
        FileSegment(id=2, start=7200.25, end=7201, text="d"),
    ]
    assert srt_of(said) == ("1\n01:00:00,000 --> 01:00:00,000\na -> b <c> &\n\n2\n02:00:00,250 --> 02:00:01,000\nd\n")
    assert vtt_of(said) == (
        "WEBVTT\n\n01:00:00.000 --> 01:00:00.000\na --&gt; b &lt;c&gt; &amp;\n\n02:00:00.250 --> 02:00:01.000\nd\n"
    )
    assert text_of(vtt_of(said)) == "a --> b <c> & d"
