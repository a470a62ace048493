"""How the files of one job add up: each row of the shard is settled once, and no line is unaccounted for.

    lines = outcomes + duplicates + strangers + corrupt

The answers are read before the errors, so an id that is in both files succeeded. Reading the same files again, after a
crash, says the same of every row.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from api_contracts.chat import Usage
from workers.core.batch.lines import Line
from workers.core.batch.outputs import Corrupt, RowOutcome, Tokens, outcome_of, read_output

_MOST_REASONS: Final = 20


class Harvest:
    """Takes the lines of a job's files. `ids` are the shard's custom ids with their row numbers."""

    def __init__(self, ids: Mapping[str, int], fail_on: Collection[str], *, last: bool) -> None:
        self._ids = ids
        self._fail_on = tuple(fail_on)
        self._last = last
        self._seen: set[int] = set()
        self._sums = [0, 0, 0, 0]
        self._uncounted = False
        self.lines = 0
        self.duplicates = 0
        self.strangers = 0
        self.corrupt = 0

    def take(self, lines: Iterable[Line]) -> list[RowOutcome]:
        """Return what the lines say of rows that none before spoke of."""
        found = [self._one(line) for line in lines]
        return [outcome for outcome in found if outcome is not None]

    @property
    def missing(self) -> int:
        """Rows of the shard that no line spoke of."""
        return len(self._ids) - len(self._seen)

    @property
    def usage(self) -> Usage:
        """What the answers cost, those that count as failures included."""
        return Usage(
            prompt_tokens=self._sums[0], completion_tokens=self._sums[1], cached_tokens=self._sums[2],
            reasoning_tokens=self._sums[3], estimated=self._uncounted,
        )  # fmt: skip

    def _one(self, line: Line) -> RowOutcome | None:
        self.lines += 1
        said = Corrupt("too long") if line.data is None else read_output(line.data)
        if isinstance(said, Corrupt):
            self.corrupt += 1
            return None
        number = self._ids.get(said.custom_id)
        if number is None:
            self.strangers += 1
            return None
        if number in self._seen:
            self.duplicates += 1
            return None
        self._seen.add(number)
        outcome = outcome_of(said, number, self._fail_on, last=self._last)
        if outcome.response is not None:
            self._count(outcome.tokens)
        return outcome

    def _count(self, tokens: Tokens | None) -> None:
        if tokens is None:
            self._uncounted = True
            return
        for place, count in enumerate(tokens):
            self._sums[place] += count


def most_frequent(reasons: Mapping[str, int]) -> dict[str, int]:
    """Return the most frequent reasons, for an event; ties in the order of the alphabet."""
    ranked = sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:_MOST_REASONS])
