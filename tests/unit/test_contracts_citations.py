"""The contract of cited answers: what a request may say, how results and events are read."""

from typing import Any

import pytest
from pydantic import ValidationError

from api_contracts import citations
from api_contracts.citations import CITE_EVENTS, CiteRequest, CiteResolved, CiteResult, Verdict

SOURCE: dict[str, Any] = {"id": "a", "content": "Water boils at 100 °C."}
QUESTION: dict[str, Any] = {"model": "m", "question": "When does water boil?", "sources": [SOURCE]}


def request(**fields: Any) -> CiteRequest:
    return CiteRequest.model_validate(QUESTION | fields)


def fault(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        request(**fields)
    return str(caught.value)


def about(**metadata: Any) -> list[dict[str, Any]]:
    return [SOURCE | {"metadata": metadata}]


# -- the request -------------------------------------------------------------------------------------------------------


def test_what_is_not_said_has_the_defaults_of_the_design() -> None:
    made = request()
    assert (made.policy, made.marker, made.style, made.verify) == (
        "required", "brackets", "ieee", ["existence", "verbatim"],
    )  # fmt: skip
    assert (made.max_sentences, made.max_tokens, made.temperature) == (12, None, None)
    assert made.sources[0].metadata == {}


@pytest.mark.requirement("RUN-14", "RUN-15")
@pytest.mark.parametrize("where", [{"stile": "ieee"}, {"sources": [SOURCE | {"url": "x"}]}])
def test_a_field_that_is_not_known_is_refused(where: dict[str, Any]) -> None:
    assert "Extra inputs are not permitted" in fault(**where)


@pytest.mark.requirement("CITE-11")
def test_without_sources_the_request_is_refused_before_anything_is_sent() -> None:
    assert "no sources: nothing could be cited, so the model is not asked" in fault(sources=[])


@pytest.mark.requirement("CITE-11")
@pytest.mark.parametrize("content", ["", " \n\t "])
def test_a_source_without_content_is_refused(content: str) -> None:
    """Metadata alone supports no claim."""
    assert "source 'b' has no content" in fault(sources=[SOURCE, {"id": "b", "content": content}])


def test_two_sources_of_one_id_are_refused() -> None:
    assert "two sources have the same id" in fault(sources=[SOURCE, SOURCE])


def test_sizes_are_bounded() -> None:
    many = [{"id": str(n), "content": "x"} for n in range(citations.MOST_SOURCES)]
    assert len(request(sources=many).sources) == citations.MOST_SOURCES
    assert "at most 500 items" in fault(sources=[*many, SOURCE])
    assert request(sources=[SOURCE | {"content": "x" * citations.MOST_CHARS}])
    half = "x" * (citations.MOST_CHARS // 2 + 1)
    assert "1000002 characters together" in fault(sources=[{"id": "1", "content": half}, {"id": "2", "content": half}])
    assert "may have 16384 bytes" in fault(sources=about(note="x" * 16_384))
    assert "question" in fault(question="x" * 20_001)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_a_question_asks_something(question: str) -> None:
    assert "question" in fault(question=question)


@pytest.mark.requirement("CITE-02")
def test_what_cannot_be_closed_is_refused_for_that_reason() -> None:
    told = fault(policy="auto", marker="caret")
    assert "marker 'caret' with policy 'auto' is refused: digits of the text after ^1 would join it" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"policy": "quotes_only"}, "policy 'quotes_only' is not taken yet: use 'required' or 'auto'"),
        ({"marker": "parens"}, "marker 'parens' is not taken yet: use 'brackets'"),
        ({"marker": "braces", "policy": "auto"}, "marker 'braces' is not taken yet: use 'brackets'"),
        ({"marker": "caret"}, "marker 'caret' is not taken yet: use 'brackets'"),
        ({"style": "apa-7"}, "style 'apa-7' is not taken yet: use 'ieee'"),
        ({"verify": ["existence", "nli"]}, "verify[1] 'nli' is not taken yet: use 'existence' or 'verbatim'"),
    ],
)
def test_what_is_not_built_yet_is_refused_with_what_is(given: dict[str, Any], told: str) -> None:
    assert told in fault(**given)


@pytest.mark.parametrize("unknown", [{"policy": "none"}, {"marker": "stars"}, {"style": "apa"}, {"verify": ["taste"]}])
def test_what_is_unknown_is_refused(unknown: dict[str, Any]) -> None:
    assert "Input should be" in fault(**unknown)


@pytest.mark.parametrize(
    ("field", "low", "high", "below", "above"),
    [
        ("temperature", 0, 2, -0.01, 2.01),
        ("top_p", 0, 1, -0.01, 1.01),
        ("top_k", 0, 100, -1, 101),
        ("max_tokens", 16, 10**6, 15, "many"),
        ("max_sentences", 1, 60, 0, 61),
        ("passage_tokens", 50, 4000, 49, 4001),
        ("prompt_tokens", 400, 1_000_000, 199, 1_000_001),
    ],
)
def test_ranges_are_kept(field: str, low: Any, high: Any, below: Any, above: Any) -> None:
    for fits in (low, high):
        assert request(**{field: fits}).model_dump()[field] == fits
    for wrong in (below, above):
        assert field in fault(**{field: wrong})


def test_a_passage_fits_into_the_prompt() -> None:
    assert "'passage_tokens' may not be above 'prompt_tokens'" in fault(passage_tokens=500, prompt_tokens=499)


@pytest.mark.parametrize(
    "own", ["model", "sources", "messages", "tools", "response_format", "stop", "stream", "n", "max_completion_tokens"]
)
def test_the_rest_goes_through_extra_but_not_what_would_break_the_form(own: str) -> None:
    assert request(extra={"safe_tokenization": False, "min_p": 0.1}).extra == {"safe_tokenization": False, "min_p": 0.1}
    assert f"'extra' may not carry ['{own}']" in fault(extra={own: 1})


# -- metadata ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("CITE-01")
def test_metadata_is_an_item_of_csl_json() -> None:
    item = {
        "type": "article-journal", "title": "On Water", "author": [{"family": "Celsius", "given": "Anders"}],
        "editor": [{"literal": "The Academy"}], "issued": {"date-parts": [[1742, "4", 1]]}, "volume": 3,
        "accessed": {"literal": "yesterday"}, "DOI": "10.1/x", "event-date": {"date-parts": [[1741], [1742]]},
    }  # fmt: skip
    assert request(sources=about(**item)).sources[0].metadata == item


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("author", "Celsius", "'author' must be a list of names"),
        ("author", [{"name": "Celsius"}], "'author' must be a list of names"),
        ("author", [{"family": 7}], "'author' must be a list of names"),
        ("translator", [{"suffix": "Jr."}], "'translator' must be a list of names"),
        ("issued", 1742, "'issued' must be a date"),
        ("issued", {"date-parts": [1742]}, "'issued' must be a date"),
        ("issued", {"date-parts": [["long ago"]]}, "'issued' must be a date"),
        ("issued", {"date-parts": []}, "'issued' must be a date"),
        ("issued", {}, "'issued' must be a date"),
        ("issued", {"year": 1742}, "'issued' must be a date"),
        ("title", ["On Water"], "'title' must be text or a number"),
        ("title", None, "'title' must be text or a number"),
        ("custom", {"a": 1}, "'custom' must be text or a number"),
    ],
)
def test_metadata_that_no_processor_could_read_is_refused(variable: str, value: Any, told: str) -> None:
    assert told in fault(sources=about(**{variable: value}))


# -- results and events ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("RUN-15", "RUN-24")
def test_readers_pass_over_what_a_newer_writer_added() -> None:
    verdict = {"tier": "verbatim", "verdict": "not_found", "score": 0.5}
    citation = {"start": 0, "end": 3, "numbers": [1], "source_ids": ["a"], "marks": [], "verdicts": [verdict]}
    result = CiteResult.model_validate(
        {"run_id": "run-1", "kind": "cite", "status": "completed", "citations": [citation], "mood": "good"}
    )
    assert result.citations[0].verdicts == [Verdict(tier="verbatim", verdict="not_found")]


def test_a_result_without_an_answer_covers_nothing() -> None:
    result = CiteResult(run_id="run-1", status="failed")
    assert (result.kind, result.text, result.coverage.share) == ("cite", "", 0.0)


@pytest.mark.requirement("RUN-02")
def test_the_events_have_the_names_of_the_design() -> None:
    names = ["cite.resolved", "cite.generated", "cite.checked", "cite.repaired"]
    assert [event.TYPE for event in CITE_EVENTS] == names


def test_the_passages_of_a_resolved_request_are_small_in_the_journal() -> None:
    event = CiteResolved(passages=[(1, 0, 9), (2, 0, 12)], left_out=0, prompt_tokens=9, grammar="ab", grammar_bytes=2)
    assert '"passages":[[1,0,9],[2,0,12]]' in event.to_json()
    assert CiteResolved.model_validate_json(event.to_json()) == event
