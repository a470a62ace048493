"""Erasing a tenant or a conversation: what lives is cancelled first, then Redis, then SQL, until nothing is found.

SQL goes last, and conversations behind the runs: a command that dies in the middle finds by it what is left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from workers.ports import Clock, Keeping, Remains, Trails, Whose

_PAGE: Final = 200
_ROWS: Final = 5000
_PASSES: Final = 8
"""Over what came in the meantime. Whoever goes on submitting for a tenant that is erased is not outrun."""
_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Erased:
    """What was taken away. `alive`: runs that did not end in time; nothing was taken away then.

    `keys` are Redis's; `runs` are results in SQL, `rows` those of batches; `letters` are dead letters.
    """

    keys: int = 0
    runs: int = 0
    rows: int = 0
    conversations: int = 0
    letters: int = 0
    alive: tuple[str, ...] = ()
    compact: bool = True
    """False: a SQLite file that others use still has what was taken away in its free pages; erase once more later."""


class Eraser:
    """`cancel` asks a run to end; it may be called for one that has ended."""

    def __init__(
        self, trails: Trails, remains: Remains, keeping: Keeping, clock: Clock, cancel: Callable[[str], None]
    ) -> None:
        self._trails = trails
        self._remains = remains
        self._keeping = keeping
        self._clock = clock
        self._cancel = cancel

    async def erase(self, whose: Whose, wait_s: float) -> Erased:
        """Erase; raise `StoreUnavailable`. Live runs are cancelled, and their ends waited for up to `wait_s`."""
        total = Erased()
        for _ in range(_PASSES):
            run_ids, alive = await self._found(whose, wait_s)
            if alive:
                return Erased(total.keys, total.runs, total.rows, total.conversations, total.letters, alive)
            one = await self._once(whose, run_ids)
            total = _sum(total, one)
            if one == Erased():
                break
        return replace(total, compact=await self._remains.compact())

    async def _found(self, whose: Whose, wait_s: float) -> tuple[list[str], tuple[str, ...]]:
        trails = {trail.run_id: trail async for page in self._trails.find(whose) for trail in page}
        alive = [run_id for run_id, trail in trails.items() if not trail.over]
        for run_id in alive:
            self._cancel(run_id)
        end = self._clock.now() + wait_s
        while alive and self._clock.now() < end:
            await self._clock.sleep_until(self._clock.now() + _LOOK_S)
            alive = [trail.run_id for trail in await self._trails.standing(alive) if not trail.over]
        return list(trails), tuple(alive)

    async def _once(self, whose: Whose, run_ids: Sequence[str]) -> Erased:
        keys = await self._trails.erase(run_ids)
        letters = await self._trails.erase_letters(whose, run_ids)
        runs = rows = 0
        while ended := await self._remains.ended(whose, _PAGE):
            keys += await self._trails.erase(ended)
            letters += await self._trails.erase_letters(whose, ended)
            gone = await self._keeping.forget(ended, float("inf"), _ROWS)
            runs, rows = runs + gone.runs, rows + gone.rows
        conversations = 0
        while found := await self._remains.erase(whose, _PAGE):
            conversations += found
        return Erased(keys, runs, rows, conversations, letters)


def _sum(one: Erased, other: Erased) -> Erased:
    return Erased(
        one.keys + other.keys, one.runs + other.runs, one.rows + other.rows,
        one.conversations + other.conversations, one.letters + other.letters,
    )  # fmt: skip
