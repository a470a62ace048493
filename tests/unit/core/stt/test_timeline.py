"""The session's samples and the entries that they came from."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.stt.timeline import Anchor, Hole, Timeline


def filled(*sizes: int, holes: Sequence[Hole] = ()) -> Timeline:
    """Entries of so many bytes, `1-0` and on; every byte tells its place."""
    timeline, at = Timeline(Anchor(), holes), 0
    for number, size in enumerate(sizes, 1):
        assert timeline.is_new(f"{number}-0")
        timeline.add(f"{number}-0", bytes((at + place) % 251 for place in range(size)))
        at += size
    return timeline


def heard(timeline: Timeline, sample: int = 0) -> bytes:
    return b"".join(pcm for _, pcm in timeline.since(sample))


def test_entries_stand_one_behind_the_other() -> None:
    timeline = filled(100, 60)
    assert timeline.end == 80
    assert [start for start, _ in timeline.since(0)] == [0, 100]
    assert [(start, len(pcm)) for start, pcm in timeline.since(20)] == [(40, 60), (100, 60)]
    assert [start for start, _ in timeline.since(80)] == []


def test_an_entry_that_comes_again_is_not_new() -> None:
    timeline = Timeline(Anchor("5-2"))
    assert not timeline.is_new("5-2")
    assert not timeline.is_new("5-1")
    assert timeline.is_new("5-10")
    assert not timeline.is_new("5-10")
    assert timeline.is_new("40-0")


def test_the_anchor_is_the_last_entry_that_ends_before_a_sample() -> None:
    timeline = filled(100, 60, 40)
    assert timeline.anchor_at(49) == Anchor()
    assert timeline.anchor_at(50) == Anchor("1-0", 50)
    assert timeline.anchor_at(99) == Anchor("2-0", 80)
    assert timeline.anchor_at(-5) == Anchor()


def test_what_lies_before_the_anchor_is_let_go() -> None:
    timeline = filled(100, 60, 40)
    timeline.forget(timeline.anchor_at(80))
    assert [start for start, _ in timeline.since(0)] == [160]
    assert timeline.anchor_at(70) == Anchor("2-0", 80), "an anchor never goes back"
    assert timeline.anchor_at(100) == Anchor("3-0", 100)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.data())
def test_a_second_life_gives_every_sample_the_same_place(sizes: list[int], data: st.DataObject) -> None:
    """Entries may end in the middle of a sample, and so may anchors."""
    whole = filled(*sizes)
    settled = data.draw(st.integers(0, whole.end))
    said, anchor = heard(whole), whole.anchor_at(settled)
    assert anchor.at <= settled
    again = Timeline(anchor)
    at = 0
    for number, size in enumerate(sizes, 1):
        if again.is_new(f"{number}-0"):
            again.add(f"{number}-0", said[at : at + size])
        at += size
    assert again.end == whole.end
    assert heard(again, settled) == heard(whole, settled)
    whole.forget(anchor)
    assert heard(again, settled) == heard(whole, settled)
    assert whole.anchor_at(whole.end) == again.anchor_at(whole.end)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 40)), min_size=1, max_size=15), st.data())
def test_a_second_life_crosses_the_holes_where_the_first_one_did(
    pieces: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Each piece has a size, and so many samples are missing before it."""
    first, holes, places = Timeline(Anchor()), list[Hole](), list[int]()
    for number, (size, missing) in enumerate(pieces, 1):
        if missing and (hole := first.miss(missing)):
            holes.append(hole)
        assert first.is_new(f"{number}-0")
        places.append(first.add(f"{number}-0", bytes(size)))
    anchor = first.anchor_at(data.draw(st.integers(0, first.end)))
    told_again = data.draw(st.booleans())
    again = Timeline(anchor, holes)
    for number, (size, missing) in enumerate(pieces, 1):
        if number > int(anchor.entry.partition("-")[0]):
            if missing and told_again:
                assert again.miss(missing) is None
            assert again.is_new(f"{number}-0")
            assert again.add(f"{number}-0", bytes(size)) == places[number - 1]
    assert again.end == first.end


@pytest.mark.requirement("STT-15")
def test_missing_audio_keeps_its_place_on_the_timeline() -> None:
    timeline = filled(100)
    assert timeline.miss(30) == Hole(50, 80, "1-0")
    timeline.add("2-0", b"ab")
    assert timeline.end == 81
    assert [start for start, _ in timeline.since(0)] == [0, 160]


def test_half_a_sample_before_a_hole_counts_as_one() -> None:
    timeline = filled(101)
    assert timeline.miss(30) == Hole(51, 81, "1-0")
    timeline.add("2-0", b"ab")
    assert [start for start, _ in timeline.since(60)] == [162]


@pytest.mark.parametrize("told_again", [True, False])
def test_a_hole_that_the_journal_knows_is_not_a_new_one(told_again: bool) -> None:
    timeline = filled(100, holes=[Hole(50, 80, "1-0")])
    if told_again:
        assert timeline.miss(30) is None
    assert timeline.is_new("2-0")
    timeline.add("2-0", bytes(10))
    assert timeline.end == 85
    assert timeline.miss(3) == Hole(85, 88, "2-0")


def test_a_hole_that_has_grown_goes_on_behind_what_is_known_of_it() -> None:
    timeline = filled(100, holes=[Hole(50, 80, "1-0")])
    assert timeline.miss(50) == Hole(80, 100, "1-0")
    timeline.add("9-0", bytes(10))
    assert timeline.end == 105


def test_a_hole_ends_where_a_known_one_begins() -> None:
    timeline = Timeline(Anchor(), [Hole(50, 80, "3-0")])
    assert timeline.miss(60) == Hole(0, 50, "0")
    timeline.add("4-0", bytes(10))
    assert timeline.end == 85
