"""The timeline of audio that is converted: every sample keeps its place, whoever goes on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts.audio import SttSource
from tests.unit.core.stt.playing import RATE, Life, check, request
from tests.unit.core.stt.recogniser import Ways
from tests.unit.core.stt.test_session_properties import CHUNKS, TROUBLES, WORDS, Words, check_exact, entries_of
from tests.unit.core.stt.test_sound import SOURCES, converted, noise
from tests.unit.core.stt.world import Entry, Trouble, World
from workers.core.stt import acts
from workers.core.stt.converted import ConvertedTimeline
from workers.core.stt.timeline import Anchor

SIZES = st.lists(st.integers(1, 6_000), min_size=1, max_size=20)


def played(timeline: ConvertedTimeline, sizes: list[int]) -> bytes:
    """Give it those of the entries that it does not know; return what it has sent."""
    raw, at, sent = noise(sum(sizes)), 0, b""
    for number, size in enumerate(sizes, 1):
        if timeline.is_new(f"{number}-0"):
            sent += b"".join(pcm for _, pcm in timeline.take(f"{number}-0", raw[at : at + size]))
        at += size
    return sent + b"".join(pcm for _, pcm in timeline.drain())


@pytest.mark.requirement("STT-03")
@settings(max_examples=60, deadline=None)
@given(SOURCES, SIZES, st.data())
def test_a_second_life_gives_every_sample_the_same_place(
    source: SttSource, sizes: list[int], data: st.DataObject
) -> None:
    """Entries end in the middle of frames and between samples, and so do anchors."""
    first = ConvertedTimeline(Anchor(), [], source)
    sent = played(first, sizes)
    assert first.end == len(sent) // 2 == source.samples_in(sum(sizes))
    settled = data.draw(st.integers(0, first.end))
    anchor = first.anchor_at(settled)
    assert anchor.at <= settled
    second = ConvertedTimeline(anchor, [], source)
    played(second, sizes)
    assert second.end == first.end
    assert second.anchor_at(second.end) == first.anchor_at(first.end)
    first.forget(anchor)
    assert sum(len(pcm) for _, pcm in second.since(settled)) == sum(len(pcm) for _, pcm in first.since(settled))


@pytest.mark.requirement("STT-03")
def test_seconds_behind_an_anchor_the_samples_themselves_are_the_same() -> None:
    """A filter that begins anew hears silence before; that is over long before anything that is not settled."""
    source, sizes = SttSource(sample_rate=8_000, encoding="mulaw"), [800] * 60
    first = ConvertedTimeline(Anchor(), [], source)
    played(first, sizes)
    second = ConvertedTimeline(first.anchor_at(first.end // 2), [], source)
    played(second, sizes)
    since = first.end // 2 + RATE // 2
    same, other = (b"".join(pcm for _, pcm in each.since(since)) for each in (first, second))
    off = np.frombuffer(same, "<i2").astype(int) - np.frombuffer(other, "<i2")
    assert len(off) > RATE
    assert np.abs(off).max() <= 1, "of 65 536: the filter rounds"


def as_floats(entries: list[Entry], cuts: list[int]) -> list[Entry]:
    """The same sound as 32-bit floats of two channels, cut in other places."""
    raw = b"".join(entry.pcm for entry in entries)
    mono = np.frombuffer(raw[: len(raw) // 2 * 2], "<i2").astype(np.float32) / 32_768
    data, at, found = np.repeat(mono, 2).tobytes(), 0, list[Entry]()
    while at < len(data):
        size = max(cuts[len(found) % len(cuts)], len(data) // 800)
        found.append(Entry(at / 8 / RATE, pcm=data[at : at + size]))
        at += size
    return [*found, entries[-1]]


@pytest.mark.requirement("STT-03", "STT-09", "STT-10", "STT-15")
@settings(max_examples=25, deadline=None)
@given(words=WORDS, cuts=CHUNKS, troubles=TROUBLES)
def test_every_word_of_converted_audio_is_in_exactly_one_final_whatever_goes_wrong(
    words: Words, cuts: list[int], troubles: list[Trouble]
) -> None:
    entries = as_floats(entries_of(words, [3_200]), cuts)
    life = World(entries, troubles, Ways(), request(encoding="f32", channels=2)).run()
    check_exact(life, words)
    total = sum(len(entry.pcm) for entry in entries) // 8
    assert round(life.result.coverage.audio_s * RATE) == total


@pytest.mark.requirement("STT-03")
def test_the_form_that_the_audio_came_in_is_recorded() -> None:
    telephone = {"sample_rate": 8_000, "encoding": "alaw", "channels": 1}
    life = Life(request(**telephone)).opened()
    life.speak(pcm=noise(8_000))
    life.control(type="end")
    life.says({"checkpoint_id": "final"})
    check(life)
    assert life.events[1].model_dump()["source"] == telephone
    assert life.result.source is not None
    assert life.result.source.model_dump() == telephone
    assert life.result.coverage.audio_s == 1.0
    assert life.sent() == b"".join(
        v.to_bytes(2, "little", signed=True) for v in converted(SttSource(**telephone), noise(8_000))
    )


def test_audio_that_comes_as_the_wire_wants_it_is_not_touched() -> None:
    life = Life().opened()
    life.speak(pcm=noise(32_000))
    assert life.sent() == noise(32_000)
    assert life.events[1].model_dump()["source"] is None


def test_a_hole_begins_the_filter_anew_where_the_audio_goes_on() -> None:
    asked = request(sample_rate=8_000)
    life = Life(asked).opened()
    life.feed(
        acts.AudioArrived("1-0", bytes(8_001)), acts.AudioMissing(RATE, 1_600), acts.AudioArrived("2-0", bytes(1_600))
    )
    life.entries = 2
    life.control(type="end")
    life.says({"checkpoint_id": "final"})
    (gap,) = life.result.coverage.gaps
    assert (gap.start, gap.end, gap.cause) == (0.5, 1.4, "lost")
    assert life.result.coverage.audio_s == 1.5
