"""The shortest way of each state to the end of its rule, in characters."""

from collections import defaultdict
from heapq import heapify, heappop, heappush

from workers.core.grammar.states import Kind, States


def shortest_ways(states: States) -> list[int | None]:
    """A length for each state, None if it never comes to the end.

    Dijkstra's algorithm as Knuth carried it over to grammars ("A generalization of Dijkstra's algorithm", 1977): states
    are settled in the order of their lengths, and a call is ready when its rule and what comes after it are settled.
    """
    lengths: list[int | None] = [None] * len(states.kinds)
    before, callers = _reversed(states)
    nearest = [(0, state) for state, kind in enumerate(states.kinds) if kind == Kind.END]
    heapify(nearest)
    while nearest:
        length, state = heappop(nearest)
        if lengths[state] is not None:
            continue
        lengths[state] = length
        for earlier in before.pop(state, ()):
            called = _called(states, lengths, earlier)
            if called is not None:
                heappush(nearest, (length + called, earlier))
        for caller in callers.pop(state, ()):
            rest = lengths[states.then[caller]]
            if rest is not None:
                heappush(nearest, (length + rest, caller))
    return lengths


def _called(states: States, lengths: list[int | None], state: int) -> int | None:
    """What the state itself adds to the way."""
    if states.kinds[state] == Kind.CALL:
        return lengths[states.starts[states.what[state]]]
    return 1 if states.kinds[state] == Kind.TAKE else 0


def _reversed(states: States) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """By state, those that lead to it; by first state of a rule, those that call it."""
    before: defaultdict[int, list[int]] = defaultdict(list)
    callers: defaultdict[int, list[int]] = defaultdict(list)
    for state, kind in enumerate(states.kinds):
        if kind == Kind.FORK:
            for branch in states.forks[state]:
                before[branch].append(state)
        elif kind in (Kind.TAKE, Kind.CALL):
            before[states.then[state]].append(state)
            if kind == Kind.CALL:
                callers[states.starts[states.what[state]]].append(state)
    return before, callers
