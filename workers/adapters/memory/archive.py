"""Finished runs in memory, for tests and demos: what it keeps ends with the process."""

import copy
from dataclasses import replace
from typing import Literal

from api_contracts.runs import TERMINAL
from workers.adapters.memory.conversations import MemoryConversations
from workers.core.runs.turns import Commit
from workers.ports import Begun, RunRecord
from workers.ports.register import RunLine, Wanted

_END_OF = {status: type_ for type_, status in TERMINAL.items()}


class MemoryArchive:
    """The port `Archive` as a dictionary. Not for several processes."""

    def __init__(self) -> None:
        self._records: dict[str, RunRecord] = {}
        self._begun: dict[str, Begun] = {}
        self.conversations = MemoryConversations(self._copy_of)

    async def save(self, record: RunRecord, turn: Commit | None = None) -> RunRecord | Literal["saved", "moved"]:
        """See the port; what is kept is a copy."""
        if turn is not None and (said := self.conversations.end_turn(turn)) != "free":
            return said
        if record.kind == "chat" and record.status != "completed":
            self.conversations.let_go(record.run_id, record.queued_at)
        kept = self._records.get(record.run_id)
        if kept is None or (kept.queued_at, kept.epoch) <= (record.queued_at, record.epoch):
            self._records[record.run_id] = _copy(record)
        if (begun := self._begun.get(record.run_id)) and begun.queued_at <= record.queued_at:
            del self._begun[record.run_id]
        return "saved"

    async def note(self, begun: Begun) -> bool:
        """See the port."""
        return self._begun.setdefault(begun.run_id, begun).queued_at == begun.queued_at

    async def remembered(self, run_id: str) -> tuple[RunRecord | None, Begun | None]:
        """See the port."""
        return await self.load(run_id), self._begun.get(run_id)

    async def load(self, run_id: str) -> RunRecord | None:
        """Return a copy of the record, or None."""
        return self._copy_of(run_id)

    async def finished(self, wanted: Wanted, limit: int) -> list[RunLine]:
        """See the port `FinishedRuns`."""
        newest = sorted(self._records.values(), key=lambda each: (-each.finished_at, each.run_id))
        return [line for line in map(_line, newest) if wanted.fits(line, line.last_at)][:limit]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _copy_of(self, run_id: str) -> RunRecord | None:
        kept = self._records.get(run_id)
        return None if kept is None else _copy(kept)


def _line(record: RunRecord) -> RunLine:
    return RunLine(
        record.run_id, record.kind, record.status, record.tenant, dict(record.labels), epoch=record.epoch,
        queued_at=record.queued_at, ended_at=record.finished_at, last=_END_OF[record.status],
        last_at=record.finished_at, why=str((record.result.get("failure") or {}).get("code", "")),
    )  # fmt: skip


def _copy(record: RunRecord) -> RunRecord:
    """Return a record that shares nothing with the caller's, as a database would."""
    return replace(record, labels=dict(record.labels), result=copy.deepcopy(dict(record.result)))
