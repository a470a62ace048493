"""What a sentence is made of: one page for the grammar that forces it and for the reader that finds it again.

A stop ends a sentence where white space or markers follow, unless it belongs to an abbreviation, to the initials of a
name or to the number of a list item. So decimals, addresses and versions need no rule of their own.
"""

from typing import Final

OPENING, CLOSING = "[", "]"
"""Of a marker. The opening character stands nowhere else in an answer: the grammar keeps it out of the prose."""

STOPS: Final = ".!?"
HARD_STOPS: Final = "\u3002\uff01\uff1f\uff61\u0964\u061f\u06d4"
"""Stops of other scripts (Chinese, Japanese, Hindi, Arabic, Urdu). They end a sentence without a space, too."""
CLOSERS: Final = "\"')]}\u201d\u2019\u00bb\u300d\u300f\uff09\u300b"
"""What may stand between a stop and the space after it: closing quotation marks and brackets."""
OPENERS: Final = "\"'(\u201c\u2018\u201e\u00ab\u300c\u300e\uff08\u300a"
JOINERS: Final = ',;:)"\u201d\u2019\u00bb'
"""What may stand between markers in the middle of a sentence and the space after them."""
LOOKALIKES: Final = "\u3010\uff3b\u3014"
"""Brackets that some models write citations in: kept out, so that nothing looks like a citation and is none."""

_NEVER_LAST: Final = """
    Dr Mr Mrs Ms Mx Prof St Mt Ft Gen Gov Sen Rep Lt Col Sgt Capt Rev Hon Messrs e.g i.e cf vs v viz
"""
_SELDOM_LAST: Final = """
    etc al a.m p.m Inc Ltd Co Corp Jr Sr Bros est ca approx dept fig figs eq eqs sec ch vol no nos p pp ed eds art par
    resp incl max min avg Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec
"""
BEFORE_ANYTHING: Final = tuple(_NEVER_LAST.split())
"""Abbreviations whose stop never ends a sentence, without that stop; also with the first letter in the other case."""
BEFORE_SMALL: Final = tuple(_SELDOM_LAST.split())
"""Abbreviations whose stop ends a sentence unless a small letter, a digit or `(` follows."""


def escaped(characters: str) -> str:
    """Return characters for the inside of a GBNF class: what has a meaning there as its code."""
    return "".join(f"\\x{ord(each):02X}" if each in "[]^-\\\"'" else each for each in characters)
