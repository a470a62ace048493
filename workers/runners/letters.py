"""What the letters say that a parked run was sent, before any of them is decided."""

from collections.abc import Sequence

from api_contracts.client.scripts import RETRY_LETTER
from workers.core.runs.frame import Retry
from workers.core.text import filterable
from workers.ports import Letter

_MOST_WORDS = 200


def retry_in(letters: Sequence[Letter]) -> Retry | None:
    """Return the newest word of an operator.

    What comes before it is decided after the begin. Until then the journal must not say that the word was heard: a life
    that dies in between would have passed the others over, a cancel among them.
    """
    for place, letter in reversed([*enumerate(letters)]):
        if letter.type == RETRY_LETTER:
            by, reason = (filterable(str(letter.data.get(name) or ""))[:_MOST_WORDS] for name in ("by", "reason"))
            undecided = any(each.type != RETRY_LETTER for each in letters[:place])
            return Retry(None if undecided else letter.id, by, reason)
    return None
