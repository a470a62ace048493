"""Whether quoted words stand in a source: word for word, white space apart."""

import re
from typing import Final

from workers.core.citations import writing

_MARKER: Final = re.compile(rf"\s*{re.escape(writing.OPENING)}[0-9]+{re.escape(writing.CLOSING)}")
_FIRST_WITHOUT_SPACES: Final = "\u0e00"
"""Thai. What comes before in Unicode is written with spaces; of what comes after (Chinese, Japanese) much is not."""
_LAST_SIGN: Final = re.compile(r"[,.;:!?]$")


def find_quote(quote: str, content: str, start: int, end: int) -> tuple[int, int] | None:
    """Return where the quote stands in `content`, within `[start, end)` if it does there, or None.

    Words are whole words, and runs of white space are alike. Punctuation at the very end may be the sentence's (`He
    called it "odd."`), so it is left out when the quote is not found with it. A marker inside the quote is ours.
    Nothing else is forgiven.
    """
    words = _MARKER.sub("", quote).strip()
    for wanted in dict.fromkeys((words, _LAST_SIGN.sub("", words))):
        if not wanted:
            continue
        words_in_order = r"\s+".join(map(re.escape, wanted.split()))
        pattern = re.compile(_edge(wanted[0], r"(?<!\w)") + words_in_order + _edge(wanted[-1], r"(?!\w)"))
        if found := pattern.search(content, start, end) or pattern.search(content):
            return found.span()
    return None


def _edge(sign: str, boundary: str) -> str:
    """Return what must stand at this end of a quote: half a word is no quote, in scripts that have spaces."""
    return boundary if sign.isalnum() and sign < _FIRST_WITHOUT_SPACES else ""
