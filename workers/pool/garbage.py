"""How often Python looks for garbage in a worker.

A worker has half a million objects before its first run, nearly all of them for good: modules, contracts, the app. As
it comes, a full collection looks at each of them and stops the loop for 0.2 s, and a young one comes after 700 objects,
which the runs in flight make every few milliseconds.
"""

import gc
from typing import Final

_YOUNG: Final = 10_000
"""Objects more than there were before the young are looked through: half a millisecond's work."""
_OLDER: Final = 3
"""Of four such looks one goes over the older too, and of four of those one over all. That is cheap without what stays,
and a run's buffers wait no longer for it than they did."""


def spare_what_stays() -> None:
    """Have the collector pass over everything there is. Called once, when the process has all it needs to serve."""
    gc.collect()
    gc.freeze()
    gc.collect()  # Python looks at all only when there is a quarter more than it saw last: it shall have seen nothing
    gc.set_threshold(_YOUNG, _OLDER, _OLDER)
