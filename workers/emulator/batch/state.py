"""Counts of the stand-in's batch part. Resettable."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class BatchStats:
    """Counts since the start or the last reset.

    `calls` counts by operation whatever arrived, refused calls among it. Bytes are those of files. `rows` have been
    answered, which runs ahead of what jobs say: they tell as many as their virtual time allows. `struck` calls got an
    error, a hang-up or silence from a fault. `keys_leaked` counts signed URLs called with an Authorization header.
    """

    calls: Counter[str] = field(default_factory=Counter)
    datasets_created: int = 0
    jobs_created: int = 0
    bytes_uploaded: int = 0
    bytes_downloaded: int = 0
    rows: int = 0
    struck: int = 0
    keys_leaked: int = 0

    def reset(self) -> None:
        """Start again."""
        vars(self).update(vars(BatchStats()))

    def as_json(self) -> dict[str, Any]:
        """The counts as served."""
        return vars(self) | {"calls": dict(sorted(self.calls.items()))}
