"""How many entries of a stream are gone before they were read. Pure."""


def gone_between(read: int | None, before: int | None) -> int | None:
    """Return how many entries are gone between the last that was read and the stream's first; None: nobody knows.

    `read` is how many were ever added up to the one, `before` how many before the other; None where nobody counts.
    """
    if before is None:
        return 0 if read == 0 else None
    if read is None:
        return None
    return before - read if before >= read else before  # the stream was deleted, and began anew
