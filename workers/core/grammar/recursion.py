"""Who calls whom before a character is taken: the order of rules that has every caller first, or left recursion."""

from workers.core.grammar.errors import GrammarError, at
from workers.core.grammar.program import Program
from workers.core.grammar.states import Kind, States

_SHOWN = 8


def call_order(program: Program, states: States, shortest: list[int]) -> tuple[int, ...]:
    """The place of each rule in that order. Raises GrammarError for a rule that comes back to itself."""
    calls = [_first_calls(states, shortest, start) for start in states.starts]
    done: list[int] = []
    seen: set[int] = set()
    for rule in range(len(calls)):
        if rule not in seen:
            _visit(program, rule, calls, seen, done)
    places = [0] * len(done)
    for place, rule in enumerate(reversed(done)):
        places[rule] = place
    return tuple(places)


def _first_calls(states: States, shortest: list[int], start: int) -> dict[int, int]:
    """The rules that may be called first, each with the offset of such a call; past calls that may take nothing."""
    found: dict[int, int] = {}
    todo, seen = [start], {start}
    while todo:
        state = todo.pop()
        following = states.forks.get(state, ())
        if states.kinds[state] == Kind.CALL:
            rule = states.what[state]
            found.setdefault(rule, states.offsets[state])
            if shortest[states.starts[rule]] == 0:
                following = (states.then[state],)
        todo += (each for each in following if each not in seen)
        seen.update(following)
    return found


def _visit(program: Program, rule: int, calls: list[dict[int, int]], seen: set[int], done: list[int]) -> None:
    """Depth first, without recursion; `done` gets a rule after all that it calls."""
    seen.add(rule)
    trail = {rule: iter(calls[rule].items())}
    while trail:
        current, rest = next(reversed(trail.items()))
        for called, offset in rest:
            if called in trail:
                raise _left_recursion(program, [*trail, called], offset)
            if called not in seen:
                seen.add(called)
                trail[called] = iter(calls[called].items())
                break
        else:
            trail.popitem()
            done.append(current)


def _left_recursion(program: Program, trail: list[int], offset: int) -> GrammarError:
    names = [program.rules[rule].name for rule in trail[trail.index(trail[-1]) :]]
    if len(names) > _SHOWN:
        names = [*names[: _SHOWN - 2], "...", names[-1]]
    return at(program.text, offset, f"left recursion, which is not supported: {' -> '.join(names)}")
