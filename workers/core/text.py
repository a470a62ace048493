"""Text that others gave us, made fit to be kept. What JSON lets in, UTF-8 and databases do not all take. Pure."""

import re
from typing import Final

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """Return `text` for a journal: halves of surrogate pairs become question marks."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def filterable(text: str) -> str:
    """Return `text` that every database can store and search: NUL and halves of surrogate pairs become U+FFFD.

    For what rows are selected by, such as tenant and labels, and for what stands beside rows. On PostgreSQL one NUL in
    a label fails a query over all rows, and refusing the record would leave a run that can never end. A result needs
    none of this: it is kept exactly.
    """
    return _UNSTORABLE.sub("\ufffd", text)
