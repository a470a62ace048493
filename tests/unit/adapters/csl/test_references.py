"""References by the CSL processor: one line each, without a number, whatever the metadata."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api_contracts.citations import Source, Style

pytest.importorskip("citeproc", reason="citeproc-py is not installed (extra worker)")

from workers.adapters.csl import CslReferences

STYLES: tuple[Style, ...] = get_args(Style)
PAPER: dict[str, Any] = {
    "type": "article-journal", "title": "Attention & <i>all</i> of it", "container-title": "Journal of Tests",
    "author": [{"family": "Austen", "given": "Jane M."}, {"family": "Müller", "given": "Zoë"}], "volume": 30,
    "page": "5998-6008", "issued": {"date-parts": [[2017, "6"]]}, "DOI": "10.1/x", "language": "en", "note": "mine",
}  # fmt: skip
JOURNAL = "Journal of Tests, vol. 30, pp. 5998\u20136008"
BOOK: dict[str, Any] = {
    "type": "book", "title": "Sense and Sensibility", "author": [{"family": "Austen", "given": "Jane"}],
    "publisher": "Egerton", "publisher-place": "London", "issued": {"date-parts": [[1811]]},
}  # fmt: skip
PAGE: dict[str, Any] = {
    "type": "webpage", "title": "Streams", "author": [{"literal": "Redis Ltd."}], "URL": "https://redis.io/streams",
    "accessed": {"date-parts": [[2024, 3, 1]]},
}  # fmt: skip


def line(item: dict[str, Any], style: Style = "ieee") -> str:
    (made,) = CslReferences()([item], style)
    return made


@pytest.mark.requirement("CITE-07")
@pytest.mark.parametrize(
    ("item", "reference"),
    [
        (PAPER, f"J. M. Austen and Z. Müller, “Attention & all of it,” {JOURNAL}, Jun. 2017, doi: 10.1/x."),
        (BOOK, "J. Austen, Sense and Sensibility. London: Egerton, 1811."),
        (PAGE, "Redis Ltd., “Streams.” Accessed: Mar. 01, 2024. [Online]. Available: https://redis.io/streams"),
        ({"title": "Only a title"}, "“Only a title.”"),
    ],
)
def test_ieee_references_are_those_of_the_style_without_their_number(item: dict[str, Any], reference: str) -> None:
    assert line(item) == reference


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_the_contract_has_its_file(style: Style) -> None:
    made = line(BOOK, style)
    assert "Sense and Sensibility" in made
    assert "Austen" in made
    assert made.startswith("J. Austen" if style == "ieee" else "Austen"), "no number before it"


def test_references_come_in_the_order_that_was_asked_for() -> None:
    items = [PAGE, BOOK, PAPER, BOOK]
    assert CslReferences()(items, "apa-7") == [line(item, "apa-7") for item in items]
    assert CslReferences()([], "ieee") == []


@pytest.mark.parametrize(
    "item",
    [
        {"title": "T", "issued": {"raw": "in spring"}},
        {"title": "T", "issued": {"date-parts": [[2017, 13, 40]]}},
        {"title": "T", "issued": {"date-parts": [[2017], ["2018", 2]]}},
        {"title": "T", "issued": {"date-parts": [[-44, 3, 15]]}},
        {"title": "T", "author": [{"given": "Only"}], "editor": []},
        {"title": "T", "type": "no-such-type", "no-such-variable": "x", "page": "-", "volume": 0},
        {"title": "T \ue000 <b>b</b> <span class='nocase'>x"},
        {"title": "T", "author": [{"family": "Berg", "non-dropping-particle": "van den", "comma-suffix": True}]},
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_what_is_odd_is_formatted_all_the_same(style: Style, item: dict[str, Any]) -> None:
    made = line(item, style)
    assert "T" in made.upper()
    assert not set(made) & set("\ue000<>\n")


def test_what_the_processor_stumbles_over_gets_a_plain_line() -> None:
    item = {"title": "T", "author": [{"family": "Austen", "given": "Jane"}], "URL": "u", "issued": {"date-parts": "no"}}
    assert line(item) == "Jane Austen. T. u"


names = st.lists(
    st.dictionaries(st.sampled_from(("family", "given", "literal")), st.text(max_size=8), min_size=1), max_size=3
)
numbers = st.integers(-9999, 99999) | st.integers(1, 31)
dates = st.fixed_dictionaries(
    {"date-parts": st.lists(st.lists(numbers, min_size=1, max_size=3), min_size=1, max_size=2)}
)
scalars = st.text(max_size=12) | st.integers(-5, 5) | st.floats(allow_nan=False)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(("book", "article-journal", "webpage", "chapter", "legal_case", "x", "")),
        "author": names, "editor": names, "issued": dates, "accessed": dates, "title": scalars, "page": scalars,
        "volume": scalars, "container-title": scalars, "URL": scalars, "edition": scalars, "publisher": scalars,
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(metadata, st.sampled_from(STYLES))
@pytest.mark.long
def test_whatever_the_contract_lets_through_is_one_line(item: dict[str, Any], style: Style) -> None:
    try:
        source = Source(id="s", content="x", metadata=item)
    except ValidationError:
        return
    made = line({"title": "Fallback", **source.metadata}, style)
    assert made == " ".join(made.split())
    assert "\ue000" not in made
