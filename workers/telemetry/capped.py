"""A bound on the values of a metric's label. Pure."""

from typing import Final

OTHER: Final = "other"


class Capped:
    """Lets the first few values of a label through; all others are `other`, so that nobody can fill the memory."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value
