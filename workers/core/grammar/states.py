"""A program's steps as numbered states, its jumps resolved."""

from dataclasses import dataclass
from enum import IntEnum

from workers.core.grammar.program import Call, End, Fork, Jump, Program, Step, Take


class Kind(IntEnum):
    """What a state does."""

    TAKE = 0
    """Takes a character."""
    CALL = 1
    """Calls a rule."""
    FORK = 2
    END = 3
    """Ends its rule."""
    GONE = 4
    """Was a jump; no state leads to it."""


@dataclass(frozen=True)
class States:
    """The states by number. `what`: the set that a TAKE takes, or the rule that a CALL calls; `then`: their next state.
    `forks`: where each FORK leads. `starts`: the first state of each rule; `offsets`: where each call is in the text.
    """

    kinds: bytearray
    what: list[int]
    then: list[int]
    forks: dict[int, tuple[int, ...]]
    starts: tuple[int, ...]
    offsets: dict[int, int]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.kinds) - self.kinds.count(Kind.GONE)


def link(program: Program) -> States:
    """The states of all rules."""
    steps: list[Step] = []
    starts = []
    for rule in program.rules:
        starts.append(len(steps))
        steps.extend(rule.steps or ())
    count = len(steps)
    states = States(bytearray([Kind.GONE]) * count, [0] * count, [0] * count, {}, tuple(starts), {})
    for place in range(count - 1, -1, -1):  # backwards: the jumps ahead are short by then
        _set(states, steps, place)
    firsts = tuple(_resolve(steps, start) for start in starts)
    return States(states.kinds, states.what, states.then, states.forks, firsts, states.offsets)


def _set(states: States, steps: list[Step], place: int) -> None:
    match steps[place]:
        case Take(chars):
            states.kinds[place], states.what[place] = Kind.TAKE, chars
            states.then[place] = _resolve(steps, place + 1)
        case Call(rule, offset):
            states.kinds[place], states.what[place] = Kind.CALL, rule
            states.then[place] = _resolve(steps, place + 1)
            states.offsets[place] = offset
        case Fork(to):
            states.kinds[place] = Kind.FORK
            states.forks[place] = tuple(dict.fromkeys(_resolve(steps, place + branch) for branch in to))
        case End():
            states.kinds[place] = Kind.END
        case Jump():
            _resolve(steps, place)


def _resolve(steps: list[Step], start: int) -> int:
    """The first step from here on that is not a jump. Every loop has a fork in it, so there is one."""
    place = start
    while isinstance(step := steps[place], Jump):
        place += step.to
    if place != start:
        steps[start] = Jump(place - start)  # a chain of jumps is walked once
    return place
