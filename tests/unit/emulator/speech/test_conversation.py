"""One connection without its socket: what is said for the frames and messages that come."""

import json
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.emulator.speech.speaking import View, frames, say, sent, some_words
from workers.emulator.speech import DAMAGED, SpeechConfig, encode, silence
from workers.emulator.speech.conversation import Act, Close, Conversation, Hang, Send
from workers.emulator.speech.engines import Engines
from workers.emulator.speech.faults import parse_speech_faults
from workers.emulator.speech.parameters import read_parameters
from workers.emulator.speech.state import SpeechStats

pytestmark = pytest.mark.requirement("EMU-01")

FINAL = '{"checkpoint_id": "final"}'
TIMES = "timestamp_granularities"


def conversation(query: dict[str, str] | None = None, faults: str = "", **config: Any) -> Conversation:
    """A conversation under these settings, faults and parameters."""
    settings = SpeechConfig(engine="tones", **config)
    parameters = read_parameters(list((query or {}).items()))
    asked = parse_speech_faults(faults.split(",") if faults else ())
    return Conversation(settings, parameters, asked, Engines(settings).make, SpeechStats())


def end(talk: Conversation, view: View | None = None) -> list[Act]:
    """The final checkpoint; its updates go to the view."""
    acts = talk.text(FINAL)
    for message in sent(acts):
        if view is not None and "segments" in message:
            view.take(message)
    return acts


@pytest.mark.requirement("EMU-02")
@pytest.mark.parametrize("lists", ["changed", "all"])
def test_what_was_spoken_is_what_a_client_shows_in_the_end(lists: str) -> None:
    spoken = some_words(60)
    talk = conversation({TIMES: "word"}, lists=lists)
    view = say(talk, encode(spoken))
    end(talk, view)
    assert view.text.split() == spoken
    assert all(word["is_final"] for word in view.words)
    assert all(one["end"] <= other["start"] for one, other in pairwise(view.words))


def test_text_comes_early_and_is_rewritten_shortened_and_withdrawn() -> None:
    talk = conversation(update_every_s=0)
    view = View()
    shown: list[list[str]] = []
    ids: list[list[int]] = []
    for piece in frames(encode(some_words(60)), 640):
        for message in sent(talk.audio(piece)):
            view.take(message)
            shown.append([word["word"] for word in view.words])
            ids.append(sorted(view.segments))
    pairs = list(pairwise(shown))
    assert any(len(now) == len(before) and now[-1] != before[-1] for before, now in pairs)
    assert any(len(now) < len(before) for before, now in pairs)
    assert any(now[-1] < before[-1] for before, now in pairwise(ids))


def test_final_words_never_change() -> None:
    talk = conversation(update_every_s=0)
    view = View()
    final: list[str] = []
    for piece in frames(encode(some_words(60)), 640):
        for message in sent(talk.audio(piece)):
            view.take(message)
            now = [word["word"] for word in view.words if word["is_final"]]
            assert now[: len(final)] == final
            final = now
    assert len(final) > 40


def test_times_come_only_where_they_were_asked_for() -> None:
    for given, in_words, in_segments in (("", False, False), ("word", True, False), ("word,segment", True, True)):
        talk = conversation({TIMES: given})
        [segment] = say(talk, encode(["river"])).updates[-1]["segments"]
        assert ("start" in segment["words"][0], "start" in segment) == (in_words, in_segments)


def test_an_update_has_the_fields_of_the_wire() -> None:
    talk = conversation({TIMES: "word", "language": "EN"}, update_every_s=0)
    view = say(talk, encode(["river"]))
    word = {"word": "river", "language": "en", "probability": 1.0, "hallucination_score": 0.0}
    word |= {"is_final": False, "start": 0.0, "end": 0.185}
    segment = {"id": 0, "text": "river", "language": "en", "words": [word]}
    whole = {"task": "transcribe", "language": "en", "text": "river", "words": [word], "segments": [segment]}
    assert view.updates[-1] == whole


@pytest.mark.parametrize(
    ("words", "inside", "above"),
    [("both", True, True), ("segments", True, False), ("top", False, True), ("none", 0, 0)],
)
def test_words_stand_where_the_switch_says(words: str, inside: bool, above: bool) -> None:
    update = say(conversation(words=words), encode(["river"])).updates[-1]
    assert ("words" in update["segments"][0], "words" in update) == (inside, above)


def test_ids_can_be_strings() -> None:
    for talk in (conversation(ids="string"), conversation(faults="string_ids")):
        assert say(talk, encode(["river"])).updates[-1]["segments"][0]["id"] == "0"


def test_updates_keep_their_distance() -> None:
    spoken = encode(some_words(20))
    updates = say(conversation(update_every_s=1), spoken).updates
    assert len(updates) == len(spoken) // 32_000


def test_silence_of_the_asked_length_ends_the_text() -> None:
    talk = conversation({"text_timeout_seconds": "0.5"}, final_lag_s=20)
    view = say(talk, encode(["river"]))
    assert not view.words[0]["is_final"]
    say(talk, silence(0.7), view)
    assert view.words[0]["is_final"]


def test_a_client_that_falls_silent_gets_what_is_left_and_then_its_end() -> None:
    talk = conversation(update_every_s=5)
    assert sent(talk.audio(encode(["river"]))) == []
    assert talk.patience_s == 5
    [update] = sent(talk.idle())
    assert not update["words"][0]["is_final"]
    assert talk.patience_s == 1
    [update] = sent(talk.idle())
    assert update["words"][0]["is_final"]
    assert talk.patience_s is None


def test_the_final_checkpoint_settles_echoes_and_closes() -> None:
    talk = conversation()
    talk.audio(encode(["river"]))
    update, echo, close = end(talk)
    assert isinstance(update, Send)
    assert json.loads(update.text)["words"][0]["is_final"]
    assert echo == Send('{"checkpoint_id": "final"}')
    assert close == Close(1000, after_s=0.5)
    assert talk.audio(encode(["maple"])) == []


def test_a_word_cut_by_the_final_checkpoint_is_damaged() -> None:
    talk = conversation()
    view = say(talk, encode(["river", "maple"])[:12_000])
    end(talk, view)
    assert view.text == f"river {DAMAGED}"


def test_another_checkpoint_flushes_and_the_stream_goes_on() -> None:
    talk = conversation()
    pcm = encode(["river", "maple"])
    view = say(talk, pcm[:12_000])
    update, echo = sent(talk.text('{"checkpoint_id": "here"}'))
    assert [word["word"] for word in update["words"] if word["is_final"]] == ["river"]
    assert echo == {"checkpoint_id": "here"}
    say(talk, pcm[12_000:], view)
    end(talk, view)
    assert view.text == "river maple"


def test_the_echo_of_a_checkpoint_can_have_the_fields_of_an_update() -> None:
    [echo] = sent(conversation(checkpoint="full").text(FINAL))
    assert echo == {"checkpoint_id": "final", "task": "transcribe", "language": "en", "text": "", "segments": []}


def test_a_trace_is_echoed_at_once_and_flushes_nothing() -> None:
    talk = conversation()
    talk.audio(encode(["river"]))
    [echo] = sent(talk.text('{"event_id": "e1", "object": "stt.input.trace", "trace_id": "17.25"}'))
    assert echo == {"event_id": "e1", "object": "stt.output.trace", "trace_id": "17.25"}


def test_the_final_trace_is_echoed_before_the_text_that_it_settles() -> None:
    talk = conversation()
    talk.audio(encode(["river"]))
    message = '{"event_id": 1, "object": "stt.input.trace", "trace_id": "final"}'
    echo, update = sent(talk.text(message))
    assert (echo["trace_id"], echo["event_id"]) == ("final", 1)
    assert update["words"][0]["is_final"]
    assert sent(conversation().text(message)) == [echo]


def test_clearing_drops_what_is_not_final_and_keeps_the_time() -> None:
    talk = conversation({TIMES: "word"})
    say(talk, encode(["river"]))
    [cleared] = sent(talk.text('{"event_id": "e1", "object": "stt.state.clear", "reset_id": "r1"}'))
    assert cleared == {"event_id": "e1", "object": "stt.state.cleared", "reset_id": "r1"}
    view = say(talk, encode(["maple"]))
    end(talk, view)
    assert (view.text, view.words[0]["start"], list(view.segments)) == ("maple", 0.235, [0])


def test_ids_can_go_on_after_clearing() -> None:
    talk = conversation(clear_restarts_ids=False)
    say(talk, encode(["river"]))
    talk.text('{"event_id": "e1", "object": "stt.state.clear", "reset_id": "r1"}')
    assert list(say(talk, encode(["maple"])).segments) == [1]


@pytest.mark.parametrize(
    "message", ["{", "[]", "{}", '{"checkpoint_id": 5}', '{"object": "stt.input.trace"}', '{"object": "other"}']
)
def test_a_message_that_nobody_knows_is_an_error(message: str) -> None:
    error, close = conversation().text(message)
    assert isinstance(error, Send)
    assert json.loads(error.text)["error"]["code"] == "invalid_message"
    assert close == Close(1011)


def test_half_a_sample_is_an_error() -> None:
    error, close = conversation(errors="string").audio(b"abc")
    assert isinstance(error, Send)
    assert json.loads(error.text) == {"error": "audio must be whole 16-bit samples, not 3 bytes"}
    assert close == Close(1011)


@pytest.mark.requirement("EMU-04")
class TestFaults:
    """What can be made to go wrong, and when."""

    def test_a_blow_falls_after_the_audio_it_names_was_answered(self) -> None:
        talk = conversation(faults="drop_after=500", update_every_s=0)
        assert talk.open() == []
        acts = [talk.audio(piece) for piece in frames(encode(some_words(4)))]
        assert [act for act in acts[3] if not isinstance(act, Send)] == []
        assert acts[4][-1] == Hang("up")
        assert any(isinstance(act, Send) for act in acts[4])
        assert acts[5] == []

    def test_a_blow_at_nought_falls_at_once(self) -> None:
        assert conversation(faults="close_after=0,code=1012").open() == [Close(1012)]

    def test_a_stalled_server_says_nothing_more_and_stays(self) -> None:
        talk = conversation(faults="stall_after=300")
        assert len(say(talk, encode(some_words(20))).updates) <= 1
        assert end(talk) == []

    def test_a_deaf_server_stops_reading(self) -> None:
        assert conversation(faults="deaf_after=0").open() == [Hang("on")]

    def test_an_error_comes_in_band_as_object_or_string(self) -> None:
        error, close = conversation(faults="error_after=0").open()
        assert isinstance(error, Send)
        assert set(json.loads(error.text)["error"]) == {"message", "code"}
        assert close == Close(1011)
        [message] = sent(conversation(faults="error_after=0,string_error").open())
        assert message == {"error": "A fault was asked for"}

    def test_one_message_can_be_broken_or_unknown(self) -> None:
        [broken] = conversation(faults="malformed_after=0").open()
        assert isinstance(broken, Send)
        with pytest.raises(json.JSONDecodeError):
            json.loads(broken.text)
        [unknown] = sent(conversation(faults="unknown_after=0").open())
        assert "segments" not in unknown

    def test_ids_can_jump(self) -> None:
        talk = conversation(faults="id_jump_after=3000", segment_words=4, withdraw_every=0)
        view = say(talk, encode(some_words(30)))
        assert sorted(view.segments) == [0, 1, 2, 3, 11, 12, 13, 14]

    def test_segments_can_come_out_of_order(self) -> None:
        talk = conversation(faults="unordered", segment_words=4, update_every_s=5)
        update = sent(talk.audio(encode(some_words(24))))[-1]
        assert [segment["id"] for segment in update["segments"]] == [5, 4, 3, 2, 1, 0]
        assert update["text"].split() == [word["word"] for word in update["words"]]

    def test_updates_can_come_twice(self) -> None:
        updates = say(conversation(faults="duplicate"), encode(some_words(4))).updates
        assert updates[0::2] == updates[1::2]

    def test_every_update_can_list_everything(self) -> None:
        talk = conversation(faults="all_segments", segment_words=4, withdraw_every=0)
        update = say(talk, encode(some_words(30))).updates[-1]
        assert [segment["id"] for segment in update["segments"]] == list(range(8))

    def test_a_final_word_can_be_rewritten(self) -> None:
        talk = conversation(faults="rewrite_final_after=3000", mishear_every=0)
        spoken = some_words(20)
        view = say(talk, encode(spoken))
        end(talk, view)
        [changed] = [pair for pair in zip(spoken, view.text.split(), strict=True) if pair[0] != pair[1]]
        assert changed[1] == f"{changed[0]}s"

    def test_echoes_can_be_slow_or_absent(self) -> None:
        assert conversation(faults="slow_echo=250").text(FINAL) == [
            Send('{"checkpoint_id": "final"}', after_s=0.25),
            Close(1000, after_s=0.75),
        ]
        assert conversation(faults="no_echo").text(FINAL) == [Close(1000, after_s=0.5)]

    def test_the_server_can_leave_closing_to_the_client(self) -> None:
        for talk in (conversation(faults="no_close"), conversation(close_after_final_s=None)):
            assert talk.text(FINAL) == [Send('{"checkpoint_id": "final"}')]


@pytest.mark.requirement("EMU-04")
def test_words_can_be_revised_shorter_be_missing_and_a_newest_segment_be_empty() -> None:
    def told(talk: Conversation) -> list[Any]:
        return [message for piece in frames(encode(spoken), 640) for message in sent(talk.audio(piece))]

    spoken = some_words(20)
    texts = [message["text"].split() for message in told(conversation(faults="shorter_after=0", split_every=0))]
    assert sum(later == earlier[:-1] for earlier, later in pairwise(texts)) >= 1
    wordless = [segment for message in told(conversation(faults="no_words")) for segment in message["segments"]]
    assert wordless
    assert not any("words" in segment for segment in wordless)
    empty = told(conversation({TIMES: "segment"}, faults="empty_after=0"))
    assert [message["segments"][-1]["text"] for message in empty].count("") == 1
