"""The list of references: the sources that are cited, numbered as in the text.

A numeric style would count anew from 1 in its own order, and the text says `[3]` where the list says `[1]`. So the
processor formats each item without its number, and the number is ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from api_contracts.citations import Citation, Passage, Reference, Source, Style
from workers.core.citations import writing
from workers.core.citations.passages import Piece


class ReferenceStyles(Protocol):
    """A CSL processor, as the core needs it. A pure function of its arguments."""

    def __call__(self, items: Sequence[Mapping[str, Any]], style: Style) -> list[str]:
        """Return one line of plain text for each item of CSL-JSON, in order, without number. Never raises."""
        ...


def references_of(
    citations: Sequence[Citation], pieces: Sequence[Piece], style: Style, styles: ReferenceStyles
) -> list[Reference]:
    """Return the cited sources by their first number."""
    numbers: dict[str, list[int]] = {}
    for number in sorted({number for citation in citations for number in citation.numbers}):
        numbers.setdefault(pieces[number - 1].source.id, []).append(number)
    sources = [pieces[cited[0] - 1].source for cited in numbers.values()]
    lines = styles([_item(source) for source in sources], style)
    return [
        Reference(
            source_id=source.id,
            numbers=cited,
            text=f"{', '.join(map(_marker, cited))} {line}",
            passages=[Passage(number=n, start=pieces[n - 1].start, end=pieces[n - 1].end) for n in cited],
        )
        for (source, cited, line) in zip(sources, numbers.values(), lines, strict=True)
    ]


def _item(source: Source) -> dict[str, Any]:
    """Return the source's metadata, with its id for a title if it has none: no reference is empty."""
    title = str(source.metadata.get("title", "")).strip() or source.id
    return {"type": "document", **source.metadata, "title": title}


def _marker(number: int) -> str:
    return f"{writing.OPENING}{number}{writing.CLOSING}"
