"""Finished runs in memory, for tests and demos: what it keeps ends with the process."""

import copy
from dataclasses import replace

from workers.ports import RunRecord


class MemoryArchive:
    """The port `Archive` as a dictionary. Not for several processes."""

    def __init__(self) -> None:
        self._records: dict[str, RunRecord] = {}

    async def save(self, record: RunRecord) -> None:
        """Keep a copy of the record unless a later epoch wrote one."""
        kept = self._records.get(record.run_id)
        if kept is None or kept.epoch <= record.epoch:
            self._records[record.run_id] = _copy(record)

    async def load(self, run_id: str) -> RunRecord | None:
        """Return a copy of the record, or None."""
        kept = self._records.get(run_id)
        return None if kept is None else _copy(kept)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _copy(record: RunRecord) -> RunRecord:
    """Return a record that shares nothing with the caller's, as a database would."""
    return replace(record, labels=dict(record.labels), result=copy.deepcopy(dict(record.result)))
