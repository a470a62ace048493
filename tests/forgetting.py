"""A store in memory that loses what it had acknowledged, as Redis does when it fails over."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from workers.adapters.memory.runs import MemoryRuns


def remembered(store: MemoryRuns) -> Callable[[], None]:
    """Return what has the store forget all that it is told from now on. Who reads from it goes on reading."""
    runs = {run_id: replace(run, events=list(run.events)) for run_id, run in store._runs.items()}
    due, blobs = dict(store._due), dict(store._blobs)
    boxes = {run_id: (list(box.letters), set(box.seen)) for run_id, box in store._boxes.items()}

    def forget() -> None:
        _become(store._runs, {run_id: replace(run, events=list(run.events)) for run_id, run in runs.items()})
        _become(store._due, due)
        _become(store._blobs, blobs)
        for run_id, box in store._boxes.items():
            letters, seen = boxes.get(run_id, ([], set()))
            box.letters[:] = letters
            box.seen.clear()
            box.seen.update(seen)

    return forget


def _become(kept: dict[Any, Any], before: dict[Any, Any]) -> None:
    kept.clear()
    kept.update(before)
