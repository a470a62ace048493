"""A grammar ready to run: its states, and what can be known of them before any text comes."""

from dataclasses import dataclass

from workers.core.grammar.charsets import Alphabet
from workers.core.grammar.errors import GrammarError, at
from workers.core.grammar.lengths import shortest_ways
from workers.core.grammar.program import Call, Program
from workers.core.grammar.recursion import call_order
from workers.core.grammar.states import States, link


@dataclass(frozen=True)
class Machine:
    """The states with the alphabet of their sets and the `names` of their rules.

    `shortest`: how many characters it is at least from a state to the end of its rule; 0 means that the rule may end
    there. `order`: the place of each rule in an order that has a rule before all that it may call without having taken
    a character.
    """

    states: States
    alphabet: Alphabet
    names: tuple[str, ...]
    shortest: list[int]
    order: tuple[int, ...]


def build(program: Program) -> Machine:
    """The machine of a program. Raises GrammarError for a rule that cannot end or that recurses on its left."""
    states = link(program)
    lengths = shortest_ways(states)
    endless = {rule for rule, first in enumerate(states.starts) if lengths[first] is None}
    if endless:
        raise _endless(program, endless)
    shortest = [length or 0 for length in lengths]
    order = call_order(program, states, shortest)
    return Machine(states, Alphabet(program.sets), tuple(rule.name for rule in program.rules), shortest, order)


def _endless(program: Program, endless: set[int]) -> GrammarError:
    """The error for one of the endless rules that is so by itself, not only because it calls another one."""
    rule, passed = min(endless), set[int]()
    while rule not in passed:
        passed.add(rule)
        calls = (step.rule for step in program.rules[rule].steps or () if isinstance(step, Call))
        rule = next(called for called in calls if called in endless)
    name, offset = program.rules[rule].name, program.rules[rule].offset
    return at(program.text, offset, f"the rule {name!r} never ends: every way through it comes back to it")
