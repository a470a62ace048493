"""The tools of a run: those of its request as the settings leave them, and what tells the model of changes. Pure.

A tool that is taken away is not offered any more, and a new call to it is answered as not available, also where a
catch-all takes calls of unknown names. A call that is under way stays a call of its tool.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from api_contracts.tools import ToolSpec
from workers.core.chat.cancelling import CANCEL, CARD
from workers.core.chat.cards import CATCH_ALL, ToolCard
from workers.core.chat.schema import BadSchema, Schema, schema_of

Find = Callable[[str], ToolCard | None]
"""Returns the card of a tool that is registered in this worker."""

_NEWS: Final = "News of the tools:"


def card_of(spec: ToolSpec) -> ToolCard:
    """Return the card of a tool that a request describes."""
    return ToolCard(
        spec.name, spec.description, spec.parameters, spec.effect, spec.timeout_s, task=spec.task, queue=spec.queue,
        on_interrupt=spec.on_interrupt, show=spec.show, wait=spec.wait, cancel=spec.cancellable,
        approval_s=spec.approval_timeout_s if spec.approval else None,
    )  # fmt: skip


def news(before: Iterable[str], after: Iterable[str]) -> dict[str, Any] | None:
    """Return the message that tells the model how its tools changed, None where they did not."""
    added, removed = sorted({*after} - {*before}), sorted({*before} - {*after})
    texts = [f"from here on there is {', '.join(added)}."] if added else []
    texts += [f"{', '.join(removed)} is not available any more."] if removed else []
    return {"role": "user", "content": " ".join([_NEWS, *texts])} if texts else None


class ToolSet:
    """`given`: those of the request, with the worker's handler for any other. Raises BadSchema for a tool's."""

    def __init__(self, given: Mapping[str, ToolCard], find: Find) -> None:
        self._given = given
        self._find = find
        self._known: dict[str, ToolCard] = {}
        self._offered: dict[str, ToolCard] = {}
        self._barred: frozenset[str] = frozenset()
        self._schemas: dict[str, Schema] = {}
        self.settle(())

    def settle(self, changes: Sequence[Mapping[str, Any]]) -> None:
        """Take the tools as the `tools` of these changes of the settings leave them, in their order."""
        entries: dict[str, Any] = {}
        known = dict(self._given)
        for name, entry in (each for change in changes for each in change.items()):
            entries[name] = entry
            if entry and (card := self._card_of(name, entry)):
                known[name] = card
        offered = dict(self._given)
        for name, entry in entries.items():
            if entry is False or (entry and name not in known):
                offered.pop(name, None)
            elif entry:
                offered[name] = known[name]
        if offered and CATCH_ALL not in offered and (other := self._find(CATCH_ALL)):
            known[CATCH_ALL] = offered[CATCH_ALL] = other
        schemas = {name: _schema_of(card) for name, card in offered.items()}
        if CANCEL not in known and any(card.cancellable and not card.wait for card in known.values()):
            known[CANCEL] = offered[CANCEL] = CARD
            schemas[CANCEL] = _schema_of(CARD)
        self._known, self._offered, self._schemas = known, offered, schemas
        self._barred = frozenset(name for name, entry in entries.items() if entry is False)

    def fault_in(self, change: object) -> str | None:
        """Return why the `tools` of a change cannot be taken, or None. They have their form."""
        for name, entry in change.items() if isinstance(change, Mapping) else ():
            if entry is True and self._find(name) is None and name not in self._given:
                return f"no tool {name!r} is registered in this worker"
            try:
                _ = _schema_of(card_of(ToolSpec.model_validate(entry))) if isinstance(entry, Mapping) else None
            except BadSchema as exc:
                return str(exc)
        return None

    def _card_of(self, name: str, entry: Any) -> ToolCard | None:
        if isinstance(entry, Mapping):
            return card_of(ToolSpec.model_validate(entry))
        return self._given.get(name) or self._find(name)

    @property
    def given(self) -> list[str]:
        """Return the names of those of the request."""
        return [name for name in self._given if name != CATCH_ALL]

    @property
    def names(self) -> list[str]:
        """Return the names of the tools that the model may call, but for ours and whatever handles any other."""
        return [name for name, card in self._offered.items() if name != CATCH_ALL and card is not CARD]

    def offered(self, *, cancel: bool) -> dict[str, ToolCard]:
        """Return the tools that the model may call; `cancel`: with ours."""
        return {name: card for name, card in self._offered.items() if cancel or card is not CARD}

    def card(self, name: str) -> ToolCard | None:
        """Return the tool of a call that was made."""
        return self._known.get(name) or self._known.get(CATCH_ALL)

    def own(self, name: str) -> ToolCard | None:
        """Return the same, None where the handler for any other takes it."""
        return self._known.get(name)

    def callable(self, name: str) -> tuple[ToolCard, Schema] | None:
        """Return the tool of a call that is to be made, and the schema of its arguments; None: there is none."""
        card = self._offered.get(name) or (None if name in self._barred else self._offered.get(CATCH_ALL))
        return (card, self._schemas[card.name]) if card else None


def _schema_of(card: ToolCard) -> Schema:
    try:
        return schema_of(dict(card.parameters))
    except BadSchema as exc:
        raise BadSchema(f"the parameters of tool {card.name!r}: {exc}") from None
