"""Cited answers: the request, the result and the events of a run that answers from sources and cites them.

Sources are cut into passages that fit a token budget, and the passages are numbered 1..N in the order of the sources.
A marker cites a passage: `[3]` is passage 3, and `references` says of which source, from where to where. While no
source is cut, the numbers are the places of the sources.

Every `start` and `end` of this file is an offset in code points, `end` not included: `text[start:end]` in Python,
`Array.from(text).slice(start, end).join("")` in JavaScript, whose own indices count UTF-16 units.

A run of this kind also writes the chat's `chat.requested`, `chat.delta`, `chat.reasoning`, `chat.replaced` and
`chat.usage`: the deltas since the last `chat.requested`, joined, are the text so far.
"""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from api_contracts.chat import FinishReason, Usage
from api_contracts.runs import EventData, Request, Result

Policy = Literal["required", "quotes_only", "auto"]
MarkerForm = Literal["brackets", "parens", "braces", "caret"]
Style = Literal["apa-7", "mla-9", "chicago-author-date", "ieee", "nature", "vancouver"]
Tier = Literal["existence", "verbatim", "overlap", "judge", "nli"]
Reason = Literal["truncated", "empty", "mismatch", "stalled", "filtered"]

MOST_SOURCES: Final = 500
MOST_CHARS: Final = 1_000_000
"""Of all contents together: about 250 000 tokens of English."""
MOST_METADATA_BYTES: Final = 16 * 1024

_NAMES_TEXT: Final = """
    author chair collection-editor compiler composer container-author contributor curator director editor
    editorial-director executive-producer guest host illustrator interviewer narrator organizer original-author
    performer producer recipient reviewed-author script-writer series-creator translator
"""
_NAME_PARTS_TEXT: Final = """
    family given literal suffix dropping-particle non-dropping-particle comma-suffix static-ordering parse-names
"""
_SET_BY_US_TEXT: Final = """
    messages response_format stream stream_options n stop tools tool_choice functions function_call parallel_tool_calls
    max_completion_tokens context_length_exceeded_behavior echo echo_last
"""
_NAMES: Final = frozenset(_NAMES_TEXT.split())
_NAME_PARTS: Final = frozenset(_NAME_PARTS_TEXT.split())
_SET_BY_US: Final = frozenset(_SET_BY_US_TEXT.split())
_DATES: Final = frozenset({"accessed", "available-date", "event-date", "issued", "original-date", "submitted"})
_DATE_PARTS: Final = frozenset({"date-parts", "season", "circa", "literal", "raw"})


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


# -- sources -----------------------------------------------------------------------------------------------------------


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _NAME_PARTS:
        return False
    told = {"family", "given", "literal"} & value.keys()
    return bool(told) and all(isinstance(value[part], str) for part in told)


def _is_date(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _DATE_PARTS:
        return False
    parts = value.get("date-parts", [[0]] if {"literal", "raw"} & value.keys() else None)
    if not isinstance(parts, list) or not 1 <= len(parts) <= 2:
        return False
    return all(isinstance(p, list) and 1 <= len(p) <= 3 and all(_is_year_or_part(x) for x in p) for p in parts)


def _is_year_or_part(value: object) -> bool:
    """CSL-JSON takes 2017 and "2017" alike."""
    text = str(value) if _is_scalar(value) else ""
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) <= 5


def _csl(item: dict[str, Any]) -> dict[str, Any]:
    """Say what is wrong with an item of CSL-JSON 1.0, or return it."""
    for variable, value in item.items():
        if variable in _NAMES:
            if not isinstance(value, list) or not all(map(_is_name, value)):
                raise ValueError(f"{variable!r} must be a list of names: {{'family', 'given'}} or {{'literal'}}")
        elif variable in _DATES:
            if not _is_date(value):
                raise ValueError(f"{variable!r} must be a date: {{'date-parts': [[2017, 6, 12]]}} or {{'literal'}}")
        elif not _is_scalar(value):
            raise ValueError(f"{variable[:64]!r} must be text or a number")
    if len(json.dumps(item, ensure_ascii=False).encode(errors="replace")) > MOST_METADATA_BYTES:
        raise ValueError(f"the metadata of one source may have {MOST_METADATA_BYTES} bytes as JSON")
    return item


Metadata = Annotated[dict[str, Any], AfterValidator(_csl)]
"""One item of CSL-JSON (`title`, `author`, `issued`, `URL` ...); variables that a style does not use are kept."""


class Source(_Value):
    """One source. Claims are checked against `content`; `metadata` is what its reference is made of."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    content: str
    metadata: Metadata = Field(default_factory=dict)


# -- the request -------------------------------------------------------------------------------------------------------


class CiteRequest(Request):
    """A question to be answered from sources, with citations. Sampling ranges: WIRE 1.2; unset is the model's own."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    question: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S")]
    sources: list[Source] = Field(max_length=MOST_SOURCES)
    policy: Policy = "required"
    """`required`: every sentence ends with a citation. `auto`: citations where the model sees fit."""
    marker: MarkerForm = "brackets"
    style: Style = "ieee"
    verify: list[Tier] = Field(default=["existence", "verbatim"], max_length=5)
    """What is checked of each citation: its number exists; its quotes stand in the cited source, word for word."""

    instructions: Annotated[str, StringConstraints(max_length=8000)] = ""
    """Told to the model after ours: language, tone, audience."""
    max_sentences: int = Field(default=12, ge=1, le=60)
    passage_tokens: int = Field(default=400, ge=50, le=4000)
    """Longest passage, by our own estimate, which is rather too high."""
    prompt_tokens: int = Field(default=16_000, ge=200, le=1_000_000)
    """All passages together, by the same estimate. If they do not fit, those nearest to the question are taken."""

    max_tokens: int | None = Field(default=None, ge=16)
    """None: enough for `max_sentences`. An answer that reaches the limit is a failure."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=100)
    seed: int | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    reasoning_effort: str | int | bool | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    """Body fields that are not typed here, sent as they are."""

    @field_validator("sources")
    @classmethod
    def _can_be_cited(cls, sources: list[Source]) -> list[Source]:
        if not sources:
            raise ValueError("no sources: nothing could be cited, so the model is not asked")
        if len({source.id for source in sources}) != len(sources):
            raise ValueError("two sources have the same id")
        if empty := [source.id for source in sources if not source.content.strip()]:
            raise ValueError(f"source {empty[0]!r} has no content: it could support no claim")
        if (size := sum(len(source.content) for source in sources)) > MOST_CHARS:
            raise ValueError(f"the contents have {size} characters together, {MOST_CHARS} are taken")
        return sources

    @model_validator(mode="after")
    def _is_built_and_closed(self) -> "CiteRequest":
        """What cannot be proven to cite existing numbers only is refused, and what is not built yet."""
        if self.marker == "caret" and self.policy == "auto":
            raise ValueError("marker 'caret' with policy 'auto' is refused: digits of the text after ^1 would join it")
        not_yet = {
            "policy": (self.policy, ("required", "auto")),
            "marker": (self.marker, ("brackets",)),
            "style": (self.style, ("ieee",)),
            **{f"verify[{n}]": (tier, ("existence", "verbatim")) for n, tier in enumerate(self.verify)},
        }
        for name, (given, built) in not_yet.items():
            if given not in built:
                raise ValueError(f"{name} {given!r} is not taken yet: use {' or '.join(map(repr, built))}")
        if self.passage_tokens > self.prompt_tokens:
            raise ValueError("'passage_tokens' may not be above 'prompt_tokens': no passage would fit")
        if taken := (_SET_BY_US | set(type(self).model_fields)) & set(self.extra):
            raise ValueError(f"'extra' may not carry {sorted(taken)}: fields of the request, or set by the service")
        return self


# -- the result --------------------------------------------------------------------------------------------------------


class Span(_Told):
    """A piece of the answer's text."""

    start: int
    end: int


class Mark(Span):
    """One marker, such as `[3]`."""

    number: int
    source_id: str


class Verdict(_Told):
    """What one check found.

    tier        verdict
    existence   `exists`: every number of the citation is that of a passage (the grammar allows no other)
    verbatim    `verbatim`: the quote stands in the source, apart from white space; `not_found`: in none of those cited
    """

    tier: Tier
    verdict: Literal["exists", "verbatim", "not_found"]
    quote: Span | None = None
    """Where the quoted words are in the text, without the quotation marks."""
    source_id: str | None = None
    source_start: int | None = None
    source_end: int | None = None
    """Where they are in the source's content."""


class Citation(Span):
    """One occurrence of a citation. The span is the sentence that it supports, its markers included.

    Markers that stand together are one citation, of all their sources jointly. A marker after the full stop belongs
    to the sentence before it.
    """

    numbers: list[int]
    source_ids: list[str]
    marks: list[Mark]
    quote: str | None = None
    """The first words in quotation marks that this citation stands for."""
    verdicts: list[Verdict] = Field(default_factory=list)


class Passage(_Told):
    """A passage that is cited: its number, and where it is in the source's content."""

    number: int
    start: int
    end: int


class Reference(_Told):
    """A source that is cited, once however often. `text` begins with its numbers as they stand in the answer."""

    source_id: str
    numbers: list[int]
    text: str
    passages: list[Passage]


class Revision(_Told):
    """An answer that did not hold, and why."""

    attempt: int
    reason: Reason
    text: str = ""


class SentenceCoverage(_Told):
    """How many sentences carry a citation. `share` is from 0 to 1, and 0 where nothing is cited."""

    sentences: int = 0
    cited: int = 0
    share: float = 0.0


class CiteResult(Result):
    """What a question came to. Without a completed answer there is no text; what was said is in `revisions`."""

    kind: str = "cite"
    text: str = ""
    citations: list[Citation] = Field(default_factory=list)
    references: list[Reference] = Field(default_factory=list)
    """The sources that are cited, by their first number."""
    uncited: list[Span] = Field(default_factory=list)
    """Sentences without a citation."""
    coverage: SentenceCoverage = SentenceCoverage()
    revisions: list[Revision] = Field(default_factory=list)
    passages: int = 0
    """How many the model was shown: numbers go from 1 to here."""
    unread: list[str] = Field(default_factory=list)
    """Sources of which at least one passage did not fit into `prompt_tokens`."""
    reasoning: str | None = None
    usage: Usage = Usage()
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds from the submit: `queued_s` to the first lease, `first_delta_s`, `total_s`."""


# -- events ------------------------------------------------------------------------------------------------------------


class CiteResolved(EventData):
    """The sources are cut and numbered; written before the model is asked, and again if a newer worker cuts anew."""

    TYPE = "cite.resolved"
    passages: list[tuple[int, int, int]]
    """By number: place of the source from 1, start and end in its content."""
    left_out: int
    """Passages that did not fit."""
    prompt_tokens: int
    """Estimate of the whole prompt."""
    grammar: str
    """First half of the SHA-256 of the grammar, in hex."""
    grammar_bytes: int


class CiteGenerated(EventData):
    """The whole answer of an attempt, not checked yet."""

    TYPE = "cite.generated"
    attempt: int
    text: str
    reasoning: str | None = None
    finish_reason: FinishReason
    provider_request_id: str | None = None


class CiteChecked(EventData):
    """The answer matches its grammar, and was checked. The verdicts are in the result."""

    TYPE = "cite.checked"
    attempt: int
    tiers: list[Tier]
    sentences: int
    cited: int
    citations: int
    quotes: int
    verbatim: int


class CiteRepaired(EventData):
    """The answer of `attempt` did not hold; the model is asked once more, under a tighter grammar."""

    TYPE = "cite.repaired"
    attempt: int
    reason: Reason
    detail: str = ""
    grammar: str


CITE_EVENTS: tuple[type[EventData], ...] = (CiteResolved, CiteGenerated, CiteChecked, CiteRepaired)
