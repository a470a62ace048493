"""Which tick is meant: its slot, in whole seconds since 1970. Pure.

Two beats that look at the same entry at the same moment find the same slot, and so make the same id.
"""

import math
from datetime import UTC, datetime
from typing import Any, NamedTuple

from celery.schedules import crontab, schedule


class Tick(NamedTuple):
    """One tick of an entry: its slot, and what the entry remembers as its last run."""

    slot: int
    ran_at: datetime


def tick_of(timing: Any, last: datetime | None, now: datetime) -> Tick:
    """Return the tick that is due.

    Every so many seconds: slots lie on a grid from 1970, so a late tick does not delay the next ones, and ticks that
    were missed are one. By crontab: the slot is the first time after `last`, and ticks that were missed are one, too.
    """
    if isinstance(timing, schedule):
        grid = max(1.0, timing.run_every.total_seconds())
        begun = math.floor(now.timestamp() / grid) * grid
        return Tick(int(begun), datetime.fromtimestamp(begun, UTC))
    if isinstance(timing, crontab) and last is not None:
        since, step, _ = timing.remaining_delta(last)
        return Tick(int((since + step).timestamp()), now)
    return Tick(int(now.timestamp()), now)
