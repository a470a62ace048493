"""Sets of call stacks: where to go on when a rule ends. Shared and merged, and known by what they hold.

A text that fits in many ways has as many stacks. Kept one by one, they may double with each word; kept as sets that
are equal when they hold the same stacks, ways that have become indistinguishable are one way again. So that this holds
for sets that were made at any time, each has a digest of its stacks, and equal digests are equal sets.
"""

from hashlib import blake2b
from operator import itemgetter

from workers.core.grammar.machine import Machine
from workers.core.grammar.states import Kind

_DIGEST = 16  # bytes: no two of a trillion sets are taken for one another


class Stack:
    """A set of stacks. `entries`: by the state on top, in order, the set of what lies below it; `empty`: whether the
    empty stack is in the set. `ends`: whether the text may end when the rule on top of these stacks has ended;
    `shortest`: how many characters it then takes at least."""

    __slots__ = ("empty", "ends", "entries", "key", "returns", "shortest")

    def __init__(
        self, key: bytes, entries: tuple[tuple[int, "Stack"], ...], empty: bool, ends: bool, shortest: int
    ) -> None:
        self.key = key
        self.entries = entries
        self.empty = empty
        self.ends = ends
        self.shortest = shortest
        self.returns: tuple[tuple[int, Stack], ...] | None = None


class Stacks:
    """Makes stacks. `steps` counts the work, `remembered` the memory in entries; `forget` drops what is not in use."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._made: dict[bytes, Stack] = {}
        self._unions: dict[tuple[bytes, bytes], Stack] = {}
        self.steps = 0
        self.remembered = 0
        self.bottom = self._make((), empty=True)

    def forget(self) -> None:
        """Drop what is remembered. Stacks in use stay, and know their equals by their keys."""
        self._made.clear()
        self._unions.clear()
        self.remembered = 0

    def pushed(self, calls: list[tuple[int, Stack]]) -> Stack:
        """The stacks of a rule that is called from several places: return states with the stacks that they have.

        Nothing is left to do in a rule that ends behind the call, so such a return is left out: recursion at the end of
        a rule needs no stack.
        """
        if len(calls) == 1 and self._machine.states.kinds[calls[0][0]] != Kind.END:
            return self._make((calls[0],), empty=False)
        below: dict[int, Stack] = {}
        whole: Stack | None = None
        for state, stack in calls:
            if self._machine.states.kinds[state] == Kind.END:
                whole = stack if whole is None else self.union(whole, stack)
            else:
                below[state] = self.union(below[state], stack) if state in below else stack
        if not below and whole is not None:
            return whole
        made = self._make(tuple(sorted(below.items(), key=itemgetter(0))), empty=False)
        return made if whole is None else self.union(made, whole)

    def returns(self, stack: Stack) -> tuple[tuple[int, Stack], ...]:
        """Where parsing goes on when the rule on top ends: states with their stacks, and those of the rules that may
        end at once too. Worked out from the bottom, once for each set."""
        todo = [stack]
        while stack.returns is None:
            top = todo[-1]
            ending = [below for state, below in top.entries if self._machine.shortest[state] == 0]
            missing = [below for below in ending if below.returns is None]
            if missing:
                todo += missing
                continue
            todo.pop()
            self.steps += 1 + len(top.entries)
            merged = dict(top.entries)
            for below in ending:
                for state, under in below.returns or ():
                    merged[state] = self.union(merged[state], under) if state in merged else under
            top.returns = tuple(merged.items()) if ending else top.entries
            self.remembered += len(merged) if ending else 0
        return stack.returns

    def union(self, first: Stack, second: Stack) -> Stack:
        """All stacks of both. Worked out from the bottom, once for each pair."""
        todo = [(first, second)]
        while (found := self._known(first, second)) is None:
            one, other = todo[-1]
            tops = dict(one.entries)
            pairs = [(tops[state], below) for state, below in other.entries if state in tops]
            missing = [pair for pair in pairs if self._known(*pair) is None]
            if missing:
                todo += missing
                continue
            todo.pop()
            self.steps += 1 + len(one.entries) + len(other.entries)
            for state, below in other.entries:
                tops[state] = (self._known(tops[state], below) or below) if state in tops else below
            made = self._make(tuple(sorted(tops.items(), key=itemgetter(0))), empty=one.empty or other.empty)
            self._unions[_pair(one, other)] = made
            self.remembered += 1
        return found

    def _known(self, one: Stack, other: Stack) -> Stack | None:
        return one if one.key == other.key else self._unions.get(_pair(one, other))

    def _make(self, entries: tuple[tuple[int, Stack], ...], *, empty: bool) -> Stack:
        held = b"".join(state.to_bytes(4, "big") + below.key for state, below in entries)
        key = blake2b(held, digest_size=_DIGEST, person=b"empty" if empty else b"").digest()
        known = self._made.get(key)
        if known is None:
            shortest = self._machine.shortest
            ends = empty or any(below.ends and shortest[state] == 0 for state, below in entries)
            length = 0 if ends else min(shortest[state] + below.shortest for state, below in entries)
            known = self._made[key] = Stack(key, entries, empty, ends, length)
            self.remembered += 1 + len(entries)
        return known


def _pair(one: Stack, other: Stack) -> tuple[bytes, bytes]:
    return (one.key, other.key) if one.key <= other.key else (other.key, one.key)
