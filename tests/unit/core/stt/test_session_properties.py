"""Words are spoken through all kinds of trouble; every one of them is in exactly one final."""

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.stt.playing import RATE, Life, check, request, segment, update, word
from tests.unit.core.stt.recogniser import Ways, speech, text_of
from tests.unit.core.stt.test_messages import JSON
from tests.unit.core.stt.world import Entry, Trouble, World
from workers.core.runs.frame import Begin, Draining, SignalArrived, Woke
from workers.core.stt import acts

Words = list[tuple[int, int]]

WORDS = st.lists(
    st.tuples(st.integers(2_400, 12_000), st.sampled_from((0, 160, 1_600, 8_000, 40_000))), min_size=0, max_size=25
)
CHUNKS = st.lists(st.integers(1, 20_000), min_size=1, max_size=6)
WAYS = st.builds(
    Ways,
    final_delays=st.lists(st.sampled_from((0, 800, 8_000, 24_000)), min_size=1, max_size=3).map(tuple),
    words_a_segment=st.integers(1, 4),
    string_ids=st.booleans(),
    whole_lists=st.booleans(),
    tail_apart=st.booleans(),
    unordered=st.booleans(),
    twice=st.booleans(),
    every=st.integers(1, 4),
    echoes_traces=st.booleans(),
    clear_restarts_ids=st.booleans(),
)
WAYS = st.builds(
    lambda ways, off: replace(ways, jitter=off[0], drift=off[1]),
    WAYS,
    st.sampled_from(((0, 0), (160, 0), (480, 0), (0, 400), (0, 1_000))),
)
TROUBLES = st.lists(
    st.builds(
        Trouble,
        at=st.floats(0, 25, allow_nan=False).map(lambda at: round(at, 3)),
        kind=st.sampled_from(("kill", "drop", "drain", "refuse", "repeat", "hang")),
        detail=st.integers(0, 5),
    ),
    max_size=6,
)


def entries_of(words: Words, chunks: list[int], tail_s: float = 0.5) -> list[Entry]:
    """Say the words in real time, in entries of these sizes (bytes, over and over), then hang up."""
    pcm = speech(words) + bytes(round(tail_s * RATE) * 2)
    at, entries = 0, list[Entry]()
    while at < len(pcm):
        size = max(chunks[len(entries) % len(chunks)], len(pcm) // 800 * 2)  # a short test is a good test
        piece = pcm[at : at + size]
        at += len(piece)
        entries.append(Entry(at / 2 / RATE, pcm=piece))
    return [*entries, Entry(at / 2 / RATE, control={"type": "end"})]


def spans_of(words: Words) -> list[tuple[int, int]]:
    ends = list(accumulate(length + silence for length, silence in words))
    return [(end - length, end) for end, (length, _) in zip(ends, words, strict=True)]


def check_exact(life: Life, words: Words, tolerance_s: float = 0.1) -> None:
    """The finals are the words spoken, each once, in order, where they were said; nothing is missing."""
    check(life)
    result = life.result
    assert result.status == "completed"
    assert [each.word for each in result.words] == [text_of(code) for code in range(1, len(words) + 1)]
    for each, (start, end) in zip(result.words, spans_of(words), strict=True):
        assert abs(each.start - start / RATE) <= tolerance_s, (each, start / RATE)
        assert abs(each.end - end / RATE) <= tolerance_s, (each, end / RATE)
    assert result.text == " ".join(each.word for each in result.words)
    assert result.coverage.gaps == []
    assert result.coverage.share == 1.0


@pytest.mark.requirement("STT-04", "STT-05", "STT-06", "STT-07", "STT-09", "STT-10", "STT-15")
@settings(max_examples=50, deadline=None)
@given(words=WORDS, chunks=CHUNKS, ways=WAYS, troubles=TROUBLES, read_s=st.sampled_from((0.0, 0.1)))
def test_every_word_is_in_exactly_one_final_whatever_goes_wrong(
    words: Words, chunks: list[int], ways: Ways, troubles: list[Trouble], read_s: float
) -> None:
    entries = entries_of(words, chunks)
    world = World(entries, troubles, ways, read_s=read_s)
    life = world.run()
    check_exact(life, words)
    total = sum(len(entry.pcm) for entry in entries) // 2
    assert round(life.result.coverage.audio_s * RATE) == total


@pytest.mark.requirement("STT-15")
@settings(max_examples=20, deadline=None)
@given(
    words=WORDS, chunks=CHUNKS, ways=WAYS, troubles=TROUBLES, cuts=st.lists(st.floats(4, 25), min_size=1, max_size=3)
)
def test_audio_that_is_gone_costs_the_words_in_it_and_no_other(
    words: Words, chunks: list[int], ways: Ways, troubles: list[Trouble], cuts: list[float]
) -> None:
    entries = entries_of(words, [size + size % 2 for size in chunks])
    gone = [each for at in cuts for each in (Trouble(at, "cut", round(at) % 9), Trouble(at + 0.01, "kill"))]
    life = World(entries, troubles[:2] + gone, replace(ways, jitter=0, drift=0)).run()
    check(life)
    result = life.result
    assert round(result.coverage.audio_s * RATE) == sum(len(entry.pcm) for entry in entries) // 2
    spoken = [(text_of(code), start / RATE, end / RATE) for code, (start, end) in enumerate(spans_of(words), 1)]
    told = [(each.word, each.start, each.end) for each in result.words]
    for text, start, end in spoken:
        lost = any(gap.start < end + 0.05 and gap.end > start - 0.05 for gap in result.coverage.gaps)
        found = [each for each in told if each[0] == text and abs(each[1] - start) < 0.01 and abs(each[2] - end) < 0.01]
        assert lost or len(found) == 1, (text, start, end)
    assert len(told) <= len(spoken)


@settings(max_examples=20, deadline=None)
@given(
    words=WORDS,
    chunks=CHUNKS,
    ways=WAYS,
    where=st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from(("flush", "clear", "de", "fr", "nonsense"))), max_size=6
    ),
    troubles=TROUBLES,
)
def test_controls_in_the_stream_cost_no_word(
    words: Words, chunks: list[int], ways: Ways, where: list[tuple[int, str]], troubles: list[Trouble]
) -> None:
    entries = entries_of(words, chunks)
    for place, kind in where:
        at = min(place, len(entries) - 1)
        if kind == "flush" and not _is_silent(entries, at):
            continue  # silence that fills a frame would cut a word in two
        control = {"type": kind} if len(kind) > 2 else {"type": "options", "language": kind}
        entries.insert(at, Entry(entries[at].at, control=control))
    check_exact(World(entries, troubles[:3], ways).run(), words)


def _is_silent(entries: list[Entry], at: int) -> bool:
    """Whether nothing is said around the beginning of an entry, and it is a whole sample's."""
    before = b"".join(entry.pcm for entry in entries[:at])
    after = b"".join(entry.pcm for entry in entries[at:])
    return len(before) % 2 == 0 and not any(before[-2:]) and not any(after[:2])


@pytest.mark.requirement("STT-07")
@settings(max_examples=20, deadline=None)
@given(
    words=WORDS,
    chunks=CHUNKS,
    told=st.sampled_from(({"words": False}, {"flags": False}, {"times": False}, {"times": False, "flags": False})),
    whole=st.booleans(),
)
def test_a_provider_that_tells_less_is_heard_as_well(
    words: Words, chunks: list[int], told: dict[str, bool], whole: bool
) -> None:
    """Text that stands for the timeout is final: here every word is finished within it."""
    ways = Ways(whole_lists=whole, tail_apart=False, final_delays=(0,), **told)
    life = World(entries_of(words, chunks), [], ways, request(text_timeout_s=3)).run()
    check(life)
    assert [each.word for each in life.result.words] == [text_of(code) for code in range(1, len(words) + 1)]
    assert life.result.coverage.gaps == []


class Silence(bytes):
    """Prints short."""

    def __repr__(self) -> str:
        return f"bytes({len(self)})"


TIMES = st.none() | st.sampled_from((0.0, 0.5, 1.0, 99.0, float("nan"))) | st.floats(0, 8)
SAID_WORDS = st.builds(word, st.sampled_from(("a", "b", "")), TIMES, TIMES, st.sampled_from((True, True, False, None)))
UPDATES = st.lists(
    st.builds(
        lambda number, words, more: segment(number, *words, **more),
        st.integers(0, 4) | st.sampled_from(("1", "2", "x")),
        st.lists(SAID_WORDS, max_size=5),
        st.sampled_from(({}, {"words": None}, {"start": 0.5, "end": 2.0, "words": []})),
    ),
    max_size=4,
).map(lambda segments: update(*segments))
FACTS: st.SearchStrategy[object] = st.one_of(
    st.builds(acts.AudioArrived, st.integers(1, 60).map(lambda n: f"{n}-0"), st.binary(max_size=200)),
    st.builds(acts.AudioArrived, st.integers(1, 60).map(lambda n: f"{n}-1"), st.just(Silence(20_000))),
    st.builds(
        acts.ControlArrived,
        st.integers(1, 60).map(lambda n: f"{n}-2"),
        st.sampled_from(({"type": "flush"}, {"type": "clear"}, {"type": "options", "prompt": "x"}, {"type": "end"}, {}))
        | st.dictionaries(st.text(max_size=6), JSON, max_size=3),
    ),
    st.builds(acts.AudioMissing, st.integers(-10, 40_000)),
    st.builds(acts.Connected, st.integers(1, 4)),
    st.builds(acts.Garbled, st.integers(1, 4), st.text(max_size=5)),
    st.builds(
        acts.Said,
        st.integers(1, 4),
        st.dictionaries(
            st.sampled_from(("segments", "words", "text", "error", "checkpoint_id", "object", "trace_id")),
            JSON,
            max_size=4,
        )
        | st.sampled_from(({"checkpoint_id": "final"}, {"object": "stt.state.cleared"})),
    ),
    st.builds(acts.Said, st.integers(1, 2), UPDATES),
    st.builds(
        acts.Disconnected,
        st.integers(1, 4), st.sampled_from((None, 403, 503, 1000, 1006)), st.text(max_size=5), st.booleans(),
        st.floats(0, 1), st.none() | st.floats(0, 1e9),
    ),
    st.builds(SignalArrived, st.integers(1, 60).map(lambda n: f"{n}-0"), st.sampled_from(("cancel", "conflict", "x")),
              st.dictionaries(st.sampled_from(("reason", "digest")), JSON, max_size=2)),
    st.just(Begin("w")), st.just(Woke()), st.just(Draining(0.0)),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.booleans(), st.booleans(), st.lists(st.tuples(FACTS, st.floats(0, 20)), max_size=40), st.integers(0, 60))
def test_no_fact_in_any_order_raises_and_what_is_over_stays_over(
    begun: bool, opened: bool, facts: list[tuple[object, float]], crash: int
) -> None:
    life = Life()
    if begun:
        life.begin()
    if opened and begun:
        life.opened().speak(4.0)
    for place, (fact, wait) in enumerate(facts):
        life.later(wait)
        if begun and isinstance(fact, Begin):
            continue  # it comes once
        begun = begun or isinstance(fact, Begin)
        over = life.end is not None
        done = life.feed(fact)
        assert not (over and done), "something was decided after the end"
        if place == crash:
            life = life.reborn().begin()
            begun = True
    check(life)
