"""Puts the fragments of tool calls together, by whichever of index, id and place the provider gives (FEAT A1.5, B1).

Pure. It knows the fragments of one answer; whether the calls may be made is not its business.
"""

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Call:
    """A call as far as it has come. `index` is the provider's own, if it gives one."""

    index: int | None
    provider_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def learn(self, provider_id: str, name: str, arguments: str) -> None:
        """Add a fragment. A name may come late, again, longer, or in pieces before the arguments begin."""
        self.provider_id = self.provider_id or provider_id
        if name.startswith(self.name):
            self.name = name
        elif not self.arguments and not self.name.startswith(name):
            self.name += name
        if arguments:
            self.arguments.append(arguments)

    def arguments_text(self) -> str:
        """Return the arguments; none at all is an empty object."""
        return "".join(self.arguments).strip() or "{}"

    def is_whole(self) -> bool:
        """Whether the arguments have begun and nothing could be added to them."""
        try:
            json.loads("".join(self.arguments))
        except (ValueError, RecursionError):
            return False
        return True


class CallFragments:
    """The calls of one answer, in the order in which they began."""

    __slots__ = ("_by_key", "begun")

    def __init__(self) -> None:
        self.begun: list[Call] = []
        self._by_key: dict[Hashable, Call] = {}

    def take(self, delta: dict[str, Any]) -> None:
        """Take in the fragments of a delta."""
        fragments = delta.get("tool_calls") or []
        if isinstance(function := delta.get("function_call"), dict):  # the old form has one call and no ids
            fragments = [{"index": 0, "function": function}]
        if not isinstance(fragments, list):
            return
        for position, fragment in enumerate(fragments):
            if isinstance(fragment, dict):
                self._take(fragment, position if len(fragments) > 1 else None)

    def ordered(self) -> list[Call]:
        """Return the calls in the model's order, without those that never got any content."""
        calls = [call for call in self.begun if call.name or call.provider_id or call.arguments]
        if all(call.index is not None for call in calls):
            calls.sort(key=lambda call: call.index or 0)
        return calls

    def _take(self, fragment: dict[str, Any], position: int | None) -> None:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        given, name = _text(fragment.get("id")), _text(function.get("name"))
        arguments = _arguments(function.get("arguments"))
        index = fragment.get("index")
        if isinstance(index, int):
            call = self._at(index, given, name)
        elif given:
            call = self._with_id(given, name)
        else:
            call = self._unnumbered(position, name, arguments)
        call.learn(given, name, arguments)

    def _at(self, index: int, given: str, name: str) -> Call:
        """Some providers number every call 0: another id that comes with a name begins another call."""
        call = self._by_key.get(index)
        if call is None or (given and name and call.provider_id and given != call.provider_id):
            call = self._by_key[index] = self._new(index)
        return call

    def _with_id(self, given: str, name: str) -> Call:
        for call in self.begun:
            if call.provider_id == given:
                return call
        if not name and self.begun and not self.begun[-1].provider_id:
            return self.begun[-1]  # its name came first
        return self._new(None)

    def _unnumbered(self, position: int | None, name: str, arguments: str) -> Call:
        """Neither index nor id: the place in the delta decides, and for a lone fragment the call before it."""
        key = None if position is None else ("position", position)
        before = self.begun[-1] if self.begun else None
        call = before if key is None else self._by_key.get(key)
        if call is None or _begins_another(call, name, arguments):
            call = self._new(None)
            if key is not None:
                self._by_key[key] = call
        return call

    def _new(self, index: int | None) -> Call:
        call = Call(index)
        self.begun.append(call)
        return call


def _begins_another(call: Call, name: str, arguments: str) -> bool:
    """Whether a fragment without index and id cannot belong to `call`."""
    if not name or not call.name:
        return False
    return not name.startswith(call.name) or bool(arguments and call.is_whole())


def _arguments(value: Any) -> str:
    """Arguments are JSON text; some providers send the object itself (WIRE 1.3)."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
