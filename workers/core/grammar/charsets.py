"""Sets of characters as sorted ranges of code points, and the alphabet that a grammar's sets divide Unicode into.

A character is a Unicode scalar value: surrogates belong to no set, so no text that holds one ever matches.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""First and last code point, both included."""
CharSet: TypeAlias = tuple[Span, ...]
"""Spans in order, none touching the next."""
Ranges: TypeAlias = tuple[tuple[str, str], ...]
"""The same in characters: first and last, both included."""

LAST = 0x10FFFF
_BEFORE_SURROGATES, _AFTER_SURROGATES = 0xD7FF, 0xE000
ANY: CharSet = ((0, _BEFORE_SURROGATES), (_AFTER_SURROGATES, LAST))


def charset(spans: Iterable[Span]) -> CharSet:
    """The set of all characters in the spans, which may overlap and come in any order."""
    merged: list[Span] = []
    for low, high in sorted(piece for span in spans for piece in _scalars(span)):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def _scalars(span: Span) -> Iterator[Span]:
    for low, high in ANY:
        if span[0] <= high and low <= span[1]:
            yield max(span[0], low), min(span[1], high)


def complement(given: CharSet) -> CharSet:
    """Every character that is not in the set."""
    edges = [-1, *(edge for span in given for edge in span), LAST + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return charset((below + 1, above - 1) for below, above in gaps if below + 1 < above)


class Alphabet:
    """The fewest symbols that tell a grammar's sets apart: characters of one symbol are in the same sets.

    A set of symbols is a bit mask, so that the union of sets is one operation.
    """

    def __init__(self, sets: Sequence[CharSet]) -> None:
        self._starts = sorted({0, *(edge for each in sets for low, high in each for edge in (low, high + 1))})
        self.masks = tuple(self._mask(each) for each in sets)
        self._known: dict[str, int] = {}

    def symbol(self, character: str) -> int:
        """The number of the character's symbol."""
        known = self._known.get(character)
        if known is None:
            known = self._known[character] = bisect_right(self._starts, ord(character)) - 1
        return known

    def ranges(self, mask: int) -> Ranges:
        """The characters of the symbols in the mask."""
        spans = []
        first = 0
        while mask:
            zeros = (mask & -mask).bit_length() - 1
            mask >>= zeros
            first += zeros
            ones = (~mask & (mask + 1)).bit_length() - 1
            mask >>= ones
            spans.append((self._starts[first], self._start_of(first + ones) - 1))
            first += ones
        return tuple((chr(low), chr(high)) for low, high in spans)

    def _start_of(self, symbol: int) -> int:
        return self._starts[symbol] if symbol < len(self._starts) else LAST + 1

    def _mask(self, given: CharSet) -> int:
        mask = 0
        for low, high in given:
            first = bisect_left(self._starts, low)
            mask |= ((1 << (bisect_left(self._starts, high + 1) - first)) - 1) << first
        return mask
