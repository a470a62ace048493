"""How often Python looks for garbage in a worker.

What a worker has before its first run is nearly all for good: modules, contracts, the app. As Python comes, a full
collection looks at each of these objects and stops the loop for 0.2 s (measured, with 50 chats), and a young one comes
after 700 objects, which the runs in flight soon make.
"""

import gc
from typing import Final

_YOUNG: Final = 10_000
"""Objects more than there were before the young are looked through."""
_OLDER: Final = 3
"""Of four such looks one goes over the older too, and of four of those one over all. In a quiet worker that is a
matter of a quarter of an hour, so nothing of a run may wait for it (docs/decisions/0044)."""


def spare_what_stays() -> None:
    """Have the collector pass over everything there is. Called once, when the process has all it needs to serve."""
    gc.collect()
    gc.freeze()
    gc.collect()  # Python looks at all only when there is a quarter more than it saw last: it shall have seen nothing
    gc.set_threshold(_YOUNG, _OLDER, _OLDER)
