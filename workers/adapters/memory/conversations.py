"""Conversations in memory, for tests and demos: what it keeps ends with the process."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from workers.core.runs.turns import Commit, ConversationKey, Holder, Opened
from workers.ports import Busy, Committed, LeaseLost, RunRecord


@dataclass(slots=True)
class _Talk:
    commits: list[Commit] = field(default_factory=list)
    holder: Holder | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_version: int = 1
    tokens: int | None = None
    floor: int | None = None


class MemoryConversations:
    """The port `Conversations` as a dictionary. `record_of` asks the archive for what a run came to."""

    def __init__(self, record_of: Callable[[str], RunRecord | None]) -> None:
        self.talks: dict[ConversationKey, _Talk] = {}
        self._record_of = record_of

    async def open(self, key: ConversationKey, holder: Holder, lost: str | None = None) -> Opened | Busy | Committed:
        """See the port."""
        talk = self.talks.setdefault(key, _Talk())
        has = talk.holder
        free = has is None or has.run_id == lost or (has.run_id == holder.run_id and has.age <= holder.age)
        if record := self._ended(talk, holder.run_id):
            talk.holder = None if free else has
            return Committed(record)
        if free:
            talk.holder = holder
            return replace(_opened(talk), own=sum(each.holder.run_id == holder.run_id for each in talk.commits))
        if has is not None and has.run_id == holder.run_id:
            raise LeaseLost(holder.run_id)
        return Busy(has.run_id if has else "")

    async def commit(self, commit: Commit) -> bool:
        """See the port."""
        talk = self.talks.get(commit.key)
        if talk and self._add(talk, commit):
            return True
        last = talk.commits[-1] if talk and talk.commits else None
        same = last is not None and (last.base, last.kind, last.holder.run_id) == (
            commit.base, commit.kind, commit.holder.run_id,
        )  # fmt: skip
        return same and talk is not None and talk.holder is not None and talk.holder.run_id == commit.holder.run_id

    async def read(self, key: ConversationKey) -> Opened | None:
        """See the port."""
        return _opened(self.talks[key]) if key in self.talks else None

    def end_turn(self, commit: Commit) -> RunRecord | Literal["free", "moved"]:
        """See the adapter of SQL."""
        talk = self.talks.get(commit.key)
        if talk and self._add(talk, commit):
            talk.holder = None
            return "free"
        if talk and (record := self._ended(talk, commit.holder.run_id)):
            return record
        has = talk.holder if talk else None
        if has and has.run_id == commit.holder.run_id and has.age > commit.holder.age:
            raise LeaseLost(commit.holder.run_id)
        return "moved"

    def let_go(self, run_id: str, queued_at: float) -> None:
        """See the adapter of SQL."""
        for talk in self.talks.values():
            if talk.holder and talk.holder.run_id == run_id and talk.holder.queued_at <= queued_at:
                talk.holder = None

    def _ended(self, talk: _Talk, run_id: str) -> RunRecord | None:
        mine = any(each.holder.run_id == run_id and each.kind != "summary" for each in talk.commits)
        return self._record_of(run_id) if mine else None

    def _add(self, talk: _Talk, commit: Commit) -> bool:
        if talk.holder != commit.holder or len(talk.commits) != commit.base:
            return False
        talk.commits.append(replace(commit, messages=copy.deepcopy(list(commit.messages))))
        if commit.settings is not None:
            talk.settings, talk.settings_version = copy.deepcopy(commit.settings), commit.settings_version
        if commit.whole:
            talk.tokens, talk.floor = commit.tokens, 0 if commit.kind == "summary" else None
        elif commit.tokens is not None:
            talk.tokens, talk.floor = commit.tokens, commit.tokens if talk.floor == 0 else talk.floor
        return True


def _opened(talk: _Talk) -> Opened:
    messages: list[Mapping[str, Any]] = []
    for commit in talk.commits:
        messages = [*([] if commit.whole else messages), *copy.deepcopy(list(commit.messages))]
    return Opened(
        len(talk.commits), messages, copy.deepcopy(dict(talk.settings)), talk.settings_version, talk.tokens, talk.floor
    )
