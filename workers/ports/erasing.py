"""Erasing: what there is of a tenant or a conversation, and taking it away."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Whose:
    """What is to be erased: all that a tenant has, or one conversation of it."""

    tenant: str
    conversation: str | None = None


@dataclass(frozen=True, slots=True)
class Trail:
    """A run of which there is a journal. `over`: it has ended and Celery was told, so nothing more is written of it."""

    run_id: str
    over: bool


class Trails(Protocol):
    """What Redis keeps of runs. Every call raises `StoreUnavailable`."""

    def find(self, whose: Whose) -> AsyncIterator[list[Trail]]:
        """Yield the runs, page by page; it looks at every journal that there is. One may come twice."""
        ...

    async def standing(self, run_ids: Sequence[str]) -> list[Trail]:
        """Return those of which there is a lease."""
        ...

    async def erase(self, run_ids: Sequence[str]) -> int:
        """Take away every key of these runs, and what Celery and the tools' guards keep of them; return how many."""
        ...

    async def erase_letters(self, whose: Whose, run_ids: Sequence[str]) -> int:
        """Take away the dead letters that name the tenant, the conversation or one of the runs; return how many."""
        ...


class Remains(Protocol):
    """What SQL keeps beside the finished runs' own records (`Keeping`). Every call raises `StoreUnavailable`."""

    async def ended(self, whose: Whose, limit: int) -> list[str]:
        """Return finished runs."""
        ...

    async def erase(self, whose: Whose, limit: int) -> int:
        """Take away up to `limit` conversations with all their versions, and what is noted of runs that have begun;
        return how many conversations."""
        ...

    async def compact(self) -> bool:
        """Have what was taken away leave the file too, where the database is one; False when others keep it open."""
        ...
