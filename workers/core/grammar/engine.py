"""All ways through a grammar at once, one character after the other. What was worked out once is remembered.

A `Place` is everything that matters of the text so far: the states in which parsing may go on, each with its set of
stacks. Equal places are one object, and each remembers where the symbols of the alphabet lead, so a grammar that comes
back to where it was (a list, a sentence after a sentence) runs through a table that was filled on its first round.
"""

from heapq import heappop, heappush
from operator import itemgetter
from typing import TypeAlias

from workers.core.grammar.errors import TooAmbiguous
from workers.core.grammar.machine import Machine
from workers.core.grammar.stacks import Stack, Stacks
from workers.core.grammar.states import Kind

BUDGET = (1_000_000, 100)
"""Steps for any text, and for each of its characters on top: some seconds of work. Above it is TooAmbiguous."""
MOST_REMEMBERED = 300_000
"""Ways and stacks that are kept to be met again, some tens of megabytes; then they are forgotten and made anew."""

_Way: TypeAlias = tuple[int, int, Stack]
"""Symbols as a mask, the state behind them, its stacks."""


class Place:
    """A place in a parse. `ends`: the text may end here; `shortest`: it takes at least so many characters more."""

    __slots__ = ("ends", "followers", "shortest", "states", "ways")

    def __init__(self, states: tuple[tuple[int, Stack], ...], ends: bool, shortest: int) -> None:
        self.states = states
        self.ends = ends
        self.shortest = shortest
        self.ways: list[_Way] | None = None
        self.followers: dict[int, Place] = {}


class Engine:
    """Places of one grammar and the steps between them. `steps` counts the work.

    It only ever remembers, so what it says does not depend on what it was asked before, and callers may share it, one
    thread at a time.
    """

    def __init__(self, machine: Machine, remember: int = MOST_REMEMBERED, budget: tuple[int, int] = BUDGET) -> None:
        self.machine = machine
        self._most = remember
        self._budget = budget
        self._stacks = Stacks(machine)
        self._places: dict[tuple[bool, tuple[tuple[int, bytes], ...]], Place] = {}
        self._walked = 0
        self._remembered = 0
        self.nowhere = Place((), ends=False, shortest=0)

    @property
    def steps(self) -> int:
        """The work so far: states visited, ways looked at, stacks merged."""
        return self._walked + self._stacks.steps

    def check_budget(self, steps: int, characters: int) -> None:
        """Raises TooAmbiguous if so many characters have cost too many steps."""
        if steps > self._budget[0] + self._budget[1] * characters:
            raise TooAmbiguous(f"{steps} steps for {characters} characters: the text fits the grammar in too many ways")

    def start(self, rule: int) -> Place:
        """The place before the first character of a rule."""
        return self._place({self.machine.states.starts[rule]: self._stacks.bottom})

    def follow(self, place: Place, symbol: int) -> Place:
        """The place behind a character; `nowhere` if nothing allows it."""
        known = place.followers.get(symbol)
        if known is None:
            known = self._follow(place, symbol)
            place.followers[symbol] = known
        return known

    def ways(self, place: Place) -> list[_Way]:
        """What may be taken here."""
        if place.ways is None:
            place.ways = self._expanded(place)
            self._remembered += len(place.ways)
        return place.ways

    def _follow(self, place: Place, symbol: int) -> Place:
        if self._remembered + self._stacks.remembered > self._most:
            self._forget()
        reached: dict[int, Stack] = {}
        ways = self.ways(place)
        self._walked += len(ways)
        for mask, state, stack in ways:
            if mask >> symbol & 1:
                reached[state] = self._stacks.union(reached[state], stack) if state in reached else stack
        return self._place(reached) if reached else self.nowhere

    def _forget(self) -> None:
        """Places lead to each other in circles, so each is emptied; those in use fill themselves again."""
        for place in self._places.values():
            place.followers.clear()
        self._places.clear()
        self._stacks.forget()
        self._remembered = 0

    def _place(self, reached: dict[int, Stack]) -> Place:
        """The place of these states, and of those where parsing goes on when their rules end."""
        ends = False
        shortest = self.machine.shortest
        for state, stack in tuple(reached.items()):
            if shortest[state] == 0:
                ends = ends or stack.ends
                for back, below in self._stacks.returns(stack):
                    reached[back] = self._stacks.union(reached[back], below) if back in reached else below
        kinds = self.machine.states.kinds
        states = tuple(sorted((entry for entry in reached.items() if kinds[entry[0]] != Kind.END), key=itemgetter(0)))
        key = ends, tuple((state, stack.key) for state, stack in states)
        known = self._places.get(key)
        if known is None:
            length = 0 if ends else min(shortest[state] + stack.shortest for state, stack in states)
            known = self._places[key] = Place(states, ends, length)
            self._remembered += 1 + len(states)
        return known

    def _expanded(self, place: Place) -> list[_Way]:
        """The ways out of a place: through forks and into rules, callers before those whom they call, so that a rule is
        entered once with the stacks of all its callers."""
        ways: list[_Way] = []
        calls: dict[int, list[tuple[int, Stack]]] = {}
        due: list[tuple[int, int]] = []
        self._spread(list(place.states), ways, calls, due)
        while due:
            _, rule = heappop(due)
            stack = self._stacks.pushed(calls.pop(rule))
            self._spread([(self.machine.states.starts[rule], stack)], ways, calls, due)
        return ways

    def _spread(
        self,
        todo: list[tuple[int, Stack]],
        ways: list[_Way],
        calls: dict[int, list[tuple[int, Stack]]],
        due: list[tuple[int, int]],
    ) -> None:
        """Follow whatever takes no character. Ends are left alone: what lies behind them is in the place already, or
        was reached past the call of a rule that may be empty."""
        machine, states, masks = self.machine, self.machine.states, self.machine.alphabet.masks
        seen = {(state, stack.key) for state, stack in todo}
        while todo:
            state, stack = todo.pop()
            self._walked += 1
            following: tuple[int, ...] = ()
            match states.kinds[state]:
                case Kind.TAKE:
                    ways.append((masks[states.what[state]], states.then[state], stack))
                case Kind.FORK:
                    following = states.forks[state]
                case Kind.CALL:
                    rule = states.what[state]
                    if rule not in calls:
                        calls[rule] = []
                        heappush(due, (machine.order[rule], rule))
                    calls[rule].append((states.then[state], stack))
                    if machine.shortest[states.starts[rule]] == 0:
                        following = (states.then[state],)
            for each in following:
                if (each, stack.key) not in seen:
                    seen.add((each, stack.key))
                    todo.append((each, stack))
