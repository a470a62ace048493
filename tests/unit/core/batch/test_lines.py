"""Lines from chunks of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.batch.lines import Line, LineReader, lines_of


def read(data: bytes, *cuts: int, longest: int = 1000) -> list[Line]:
    reader, ends = LineReader(longest), [*sorted(cuts), len(data)]
    starts = [0, *ends[:-1]]
    lines = [line for start, end in zip(starts, ends, strict=True) for line in reader.feed(data[start:end])]
    return lines + reader.close()


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert read(b"a\n\n  \nb\nc") == [Line(1, b"a"), Line(4, b"b"), Line(5, b"c")]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", []),
        (b"a", [Line(1, b"a")]),
        (b"a\n", [Line(1, b"a")]),
        (b"a\r\nb\r\n", [Line(1, b"a"), Line(2, b"b")]),
        (b"\xef\xbb\xbfa\nb", [Line(1, b"a"), Line(2, b"b")]),
        (b"\xef\xbb\xbf\nb", [Line(2, b"b")]),
        (b"a\n\xef\xbb\xbfb", [Line(1, b"a"), Line(2, b"\xef\xbb\xbfb")]),
        (b"a\rb", [Line(1, b"a\rb")]),
        (b"\xff\n\xc3\xbc", [Line(1, b"\xff"), Line(2, b"\xc3\xbc")]),
    ],
)
def test_ends_of_lines_and_the_byte_order_mark(data: bytes, lines: list[Line]) -> None:
    assert read(data) == lines


def test_a_line_that_is_too_long_spoils_only_itself() -> None:
    data = b"12345\n123456\n1234\r\n12345\r\n123456\r\n12345"
    kept = [b"12345", None, b"1234", b"12345", None, b"12345"]
    for step in (1, 2, 100):
        lines = read(data, *range(step, len(data), step), longest=5)
        assert lines == [Line(number, each) for number, each in enumerate(kept, 1)]


def test_what_is_too_long_is_not_kept() -> None:
    reader = LineReader(longest=100)
    for _ in range(1000):
        assert reader.feed(b"x" * 50) == []
        assert sum(map(len, reader._held)) <= 101
    assert reader.feed(b"\nok\n") == [Line(1, None), Line(2, b"ok")]


@given(st.lists(st.binary(max_size=8) | st.sampled_from((b"\n", b"\r\n", b"ab", b"\xef\xbb\xbf"))), st.data())
def test_where_chunks_are_cut_changes_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=6))
    assert read(whole, *cuts, longest=6) == read(whole, longest=6)


def test_rows_of_a_request_are_lines_too() -> None:
    assert list(lines_of([{"a": "é"}, 1])) == [Line(1, b'{"a":"\\u00e9"}'), Line(2, b"1")]
