"""What an answer came to: its citations with a verdict for each occurrence, its uncited sentences, its coverage.

Pure and repeatable: the same text, passages and tiers give the same result, whoever computes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from api_contracts.citations import Citation, Mark, Reason, SentenceCoverage, Span, Tier, Verdict
from api_contracts.failure import Category, Failure
from workers.core.citations.passages import Piece
from workers.core.citations.quotes import find_quote
from workers.core.citations.sentences import Group, Sentence, quoted, says_something, sentences
from workers.core.grammar import Grammar, TooAmbiguous


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an answer does not hold. `detail` has no content in it."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """See the module."""

    citations: list[Citation]
    uncited: list[Span]
    coverage: SentenceCoverage


def fault_of(text: str, finish_reason: str, grammar: Grammar) -> Fault | None:
    """Judge an answer before anything is made of it; None if it holds. The provider's grammar is not trusted."""
    if finish_reason == "length":
        return Fault("truncated", "the answer reached max_tokens")
    if finish_reason == "content_filter":
        return Fault("filtered", "the provider filtered the answer")
    if not says_something(text):
        return Fault("empty", "the answer has no words")
    try:
        place = grammar.mismatch(text)
    except TooAmbiguous:
        return Fault("mismatch", "the answer could not be matched within bounds")
    if place is None:
        return None
    if place == len(text):
        return Fault("mismatch", f"the answer breaks off at character {place}: the grammar wants more")
    return Fault("mismatch", f"the grammar does not allow character {place} of {len(text)}")


_KINDS: Final[dict[Reason, tuple[str, Category, str]]] = {
    "truncated": ("answer_truncated", "limit", "the answer does not fit into max_tokens"),
    "empty": ("answer_empty", "protocol", "the model gave no answer"),
    "mismatch": ("answer_outside_grammar", "protocol", "the answer is not of the form that was forced"),
    "filtered": ("answer_filtered", "content", "the provider filtered the answer"),
    "stalled": ("answer_stalled", "timeout", "the answer stalled"),
}


def failure_of(fault: Fault, provider_request_id: str | None) -> Failure:
    """Return the failure of a run whose answer did not hold, tighter grammar or not."""
    code, category, message = _KINDS[fault.reason]
    return Failure(
        code=code,
        category=category,
        message=f"{message}; {fault.detail}" if fault.detail else message,
        retryable=fault.reason != "truncated",
        at_fault="caller" if fault.reason == "truncated" else "provider",
        provider_request_id=provider_request_id and provider_request_id[:200],
    )


def checked(text: str, pieces: Sequence[Piece], tiers: Sequence[Tier]) -> Checked:
    """Return what a text that holds came to. Passage N is `pieces[N - 1]`."""
    found = sentences(text)
    quotes = quoted(text)
    citations = [citation for sentence in found for citation in _citations(text, sentence, quotes, pieces, tiers)]
    uncited = [Span(start=sentence.start, end=sentence.end) for sentence in found if not sentence.groups]
    cited = len(found) - len(uncited)
    share = cited / len(found) if found else 0.0
    return Checked(citations, uncited, SentenceCoverage(sentences=len(found), cited=cited, share=round(share, 4)))


def _citations(
    text: str, sentence: Sentence, quotes: Sequence[tuple[int, int]], pieces: Sequence[Piece], tiers: Sequence[Tier]
) -> Iterator[Citation]:
    own = [span for span in quotes if sentence.start <= span[0] and span[1] <= sentence.end]
    for group in sentence.groups:
        said = [span for span in own if _group_of(span, sentence.groups) is group]
        marks = [
            Mark(start=m.start, end=m.end, number=m.number, source_id=pieces[m.number - 1].source.id)
            for m in group.markers
        ]
        yield Citation(
            start=sentence.start,
            end=sentence.end,
            numbers=list(dict.fromkeys(mark.number for mark in marks)),
            source_ids=list(dict.fromkeys(mark.source_id for mark in marks)),
            marks=marks,
            quote=text[slice(*said[0])] if said else None,
            verdicts=list(_verdicts(text, group, said, pieces, tiers)),
        )


def _group_of(span: tuple[int, int], groups: Sequence[Group]) -> Group:
    """Return the markers that a quote is cited by: the next ones, or the last before it."""
    return next((group for group in groups if group.start >= span[1]), groups[-1])


def _verdicts(
    text: str, group: Group, said: Sequence[tuple[int, int]], pieces: Sequence[Piece], tiers: Sequence[Tier]
) -> Iterator[Verdict]:
    if "existence" in tiers:
        yield Verdict(tier="existence", verdict="exists")
    if "verbatim" in tiers:
        yield from (_verbatim(text, span, [pieces[m.number - 1] for m in group.markers]) for span in said)


def _verbatim(text: str, span: tuple[int, int], cited: Sequence[Piece]) -> Verdict:
    quote = Span(start=span[0], end=span[1])
    for piece in cited:
        if found := find_quote(text[slice(*span)], piece.source.content, piece.start, piece.end):
            return Verdict(
                tier="verbatim", verdict="verbatim", quote=quote, source_id=piece.source.id,
                source_start=found[0], source_end=found[1],
            )  # fmt: skip
    return Verdict(tier="verbatim", verdict="not_found", quote=quote)
