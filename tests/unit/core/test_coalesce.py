"""When pieces of an answer are published (CHAT-02)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.chat.coalesce import Coalescer

pytestmark = pytest.mark.requirement("CHAT-02")


def test_the_first_piece_goes_out_at_once() -> None:
    coalescer = Coalescer()
    assert coalescer.add("a", "", 5.0) == ("a", "")
    assert coalescer.deadline is None


def test_later_pieces_wait_for_the_rest_of_the_interval() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 5.0)
    assert coalescer.add("b", "", 5.01) is None
    assert coalescer.add("c", "", 5.02) is None
    assert coalescer.deadline == pytest.approx(5.03)
    assert coalescer.flush() == ("bc", "")
    assert (coalescer.deadline, coalescer.flush()) == (None, None)
    assert coalescer.add("d", "", 5.04) is None
    assert coalescer.deadline == pytest.approx(5.06)


def test_a_piece_after_the_deadline_takes_what_is_held_with_it() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 5.0)
    coalescer.add("b", "", 5.01)
    assert coalescer.add("c", "", 5.03) == ("bc", "")


def test_a_piece_after_a_quiet_interval_goes_out_at_once() -> None:
    coalescer = Coalescer(interval_s=0.03)
    coalescer.add("a", "", 5.0)
    assert coalescer.add("b", "", 5.04) == ("b", "")


@pytest.mark.parametrize("piece", ["x" * 512, "é" * 256])
def test_a_kilobyte_does_not_wait(piece: str) -> None:
    coalescer = Coalescer(limit_bytes=1024)
    coalescer.add("a", "", 5.0)
    assert coalescer.add(piece, "", 5.001) is None
    assert coalescer.add(piece, "", 5.002) == (piece * 2, "")
    assert coalescer.add("b", "", 5.003) is None


def test_the_first_text_after_a_thought_takes_the_thought_along_and_does_not_wait() -> None:
    coalescer = Coalescer()
    assert coalescer.add("", "hm", 5.0) == ("", "hm")
    assert coalescer.add("", "m", 5.001) is None
    assert coalescer.add("Yes", "", 5.002) == ("Yes", "m")


def test_a_thought_after_text_lets_the_text_go_first() -> None:
    coalescer = Coalescer()
    coalescer.add("a", "", 5.0)
    assert coalescer.add("b", "", 5.001) is None
    assert coalescer.add("", "hm", 5.002) == ("b", "")
    assert coalescer.flush() == ("", "hm")


def test_nothing_publishes_nothing() -> None:
    coalescer = Coalescer()
    assert coalescer.add("", "", 5.0) is None
    assert (coalescer.deadline, coalescer.flush()) == (None, None)


PIECES = st.lists(
    st.tuples(st.sampled_from(["", "t"]), st.sampled_from(["", "r"]), st.sampled_from([0.0, 0.01, 0.05])), max_size=30
)


@given(PIECES, st.integers(1, 6))
def test_nothing_is_lost_doubled_or_moved(pieces: list[tuple[str, str, float]], limit: int) -> None:
    coalescer = Coalescer(interval_s=0.03, limit_bytes=limit)
    now, said, published = 0.0, "", []
    for number, (text, reasoning, pause) in enumerate(pieces):
        now += pause
        if coalescer.deadline is not None and coalescer.deadline <= now:
            published.append(coalescer.flush())
        text, reasoning = text and f"t{number};", reasoning and f"r{number};"
        said += reasoning + text
        published.append(coalescer.add(text, reasoning, now))
    published.append(coalescer.flush())
    assert "".join(reasoning + text for text, reasoning in filter(None, published)) == said
