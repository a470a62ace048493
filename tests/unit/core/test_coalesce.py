"""When pieces of an answer are published (CHAT-02)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.chat import coalesce

pytestmark = pytest.mark.requirement("CHAT-02")


class Coalescer(coalesce.Coalescer):
    """One piece at a time: what is published now, or None."""

    def add(self, text: str, reasoning: str, now: float) -> coalesce.Said | None:
        published = self.take([(text, reasoning)], now)
        assert len(published) <= 1
        return published[0] if published else None


def test_the_first_piece_goes_out_at_once() -> None:
    coalescer = Coalescer()
    assert coalescer.add("a", "", 3.0) == ("a", "")
    assert coalescer.deadline is None


def test_later_pieces_wait_for_the_rest_of_the_interval() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 3.0)
    assert coalescer.add("b", "", 3.01) is None
    assert coalescer.add("c", "", 3.02) is None
    assert coalescer.deadline == pytest.approx(3.03)
    assert coalescer.flush(3.03) == [("bc", "")]
    assert (coalescer.deadline, coalescer.flush(3.03)) == (None, [])
    assert coalescer.add("d", "", 3.04) is None
    assert coalescer.deadline == pytest.approx(3.06)


@given(st.floats(0, 2e9), st.floats(0, 0.03))
def test_all_of_one_phase_wait_for_the_same_moment_and_none_longer_than_the_interval(now: float, phase: float) -> None:
    late, early = Coalescer(interval_s=0.03, phase_s=phase), Coalescer(interval_s=0.03, phase_s=phase)
    late.add("a", "", now + 0.01)
    early.add("a", "", now)
    late.add("b", "", now + 0.01)
    early.add("b", "", now)
    assert late.deadline is not None
    assert early.deadline is not None
    assert now < early.deadline <= now + 0.0301
    assert late.deadline == early.deadline or late.deadline == pytest.approx(early.deadline + 0.03, abs=1e-6)


def test_the_moment_itself_opens_the_next_interval() -> None:
    coalescer, moment = Coalescer(interval_s=0.03), 1_700_000_000.0
    for _ in range(1000):
        coalescer.add("a", "", moment)
        coalescer.add("b", "", moment)
        assert coalescer.deadline is not None
        assert coalescer.deadline == pytest.approx(moment + 0.03, abs=0.0201)
        assert coalescer.deadline - moment > 1e-5, "or the same moment would be rung for again"
        moment = coalescer.deadline
        coalescer.flush(moment)


def test_a_piece_after_the_deadline_takes_what_is_held_with_it() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 3.0)
    coalescer.add("b", "", 3.01)
    assert coalescer.add("c", "", 3.03) == ("bc", "")


def test_a_piece_after_a_quiet_interval_goes_out_at_once() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 3.0)
    assert coalescer.add("b", "", 3.04) == ("b", "")


@pytest.mark.parametrize("piece", ["x" * 512, "é" * 256])
def test_a_kilobyte_does_not_wait(piece: str) -> None:
    coalescer = Coalescer(limit_bytes=1024)
    coalescer.add("a", "", 3.0)
    assert coalescer.add(piece, "", 3.001) is None
    assert coalescer.add(piece, "", 3.002) == (piece * 2, "")
    assert coalescer.add("b", "", 3.003) is None


def test_the_first_text_after_a_thought_takes_the_thought_along_and_does_not_wait() -> None:
    coalescer = Coalescer()
    assert coalescer.add("", "hm", 3.0) == ("", "hm")
    assert coalescer.add("", "m", 3.001) is None
    assert coalescer.add("Yes", "", 3.002) == ("Yes", "m")


def test_a_thought_after_text_lets_the_text_go_first() -> None:
    coalescer = Coalescer()
    coalescer.add("a", "", 3.0)
    assert coalescer.add("b", "", 3.001) is None
    assert coalescer.add("", "hm", 3.002) == ("b", "")
    assert coalescer.flush(3.002) == [("", "hm")]


def test_nothing_publishes_nothing() -> None:
    coalescer = Coalescer()
    assert coalescer.add("", "", 3.0) is None
    assert (coalescer.deadline, coalescer.flush(3.0)) == (None, [])


def test_what_came_together_after_a_moment_goes_out_together() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 3.0)
    assert coalescer.take([("b", ""), ("c", ""), ("d", "")], 3.03) == [("bcd", "")]
    assert coalescer.take([("e", ""), ("f", "")], 3.04) == []


def test_of_what_came_together_a_kilobyte_is_a_piece_of_its_own() -> None:
    coalescer = Coalescer(limit_bytes=1024)
    assert coalescer.take([("x" * 512, "")] * 5, 3.0) == [("x" * 1024, ""), ("x" * 1024, ""), ("x" * 512, "")]


def test_of_what_came_together_thought_and_text_keep_their_places() -> None:
    coalescer = Coalescer()
    assert coalescer.take([("", "h"), ("", "m"), ("Yes", ""), ("", "so")], 3.0) == [("Yes", "hm"), ("", "so")]


def test_after_text_all_that_comes_may_wait_for_the_next_moment() -> None:
    coalescer = Coalescer(interval_s=0.03)
    assert coalescer.quiet_until(3.0) is None
    coalescer.add("a", "", 3.0)
    assert coalescer.quiet_until(3.01) == pytest.approx(3.03)
    assert coalescer.quiet_until(3.031) is None


def test_while_text_is_held_more_is_looked_for_because_a_kilobyte_does_not_wait() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 3.0)
    coalescer.add("b", "", 3.01)
    assert coalescer.quiet_until(3.011) is None


def test_after_a_thought_nothing_may_wait_because_text_would_go_out_at_once() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("", "hm", 3.0)
    assert coalescer.quiet_until(3.01) is None
    coalescer.add("Yes", "", 3.03)
    assert coalescer.quiet_until(3.04) == pytest.approx(3.06)


PIECES = st.lists(st.lists(st.tuples(st.sampled_from(["", "t"]), st.sampled_from(["", "r"])), max_size=4), max_size=20)


@given(PIECES, st.lists(st.sampled_from([0.0, 0.01, 0.05]), min_size=20, max_size=20), st.integers(1, 6))
def test_nothing_is_lost_doubled_or_moved(reads: list[list[coalesce.Said]], pauses: list[float], limit: int) -> None:
    coalescer = Coalescer(interval_s=0.03, limit_bytes=limit)
    now, said, published = 0.0, "", list[coalesce.Said]()
    for number, (read, pause) in enumerate(zip(reads, pauses, strict=False)):
        now += pause
        if coalescer.deadline is not None and coalescer.deadline <= now:
            published += coalescer.flush(now)
        pieces = [(text and f"t{number}.{n};", thought and f"r{number}.{n};") for n, (text, thought) in enumerate(read)]
        said += "".join(thought + text for text, thought in pieces)
        published += coalescer.take(pieces, now)
    published += coalescer.flush(now)
    assert "".join(reasoning + text for text, reasoning in published) == said
