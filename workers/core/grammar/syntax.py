"""From tokens to a program: rules, alternatives, groups, repetitions. Iterative, so no nesting is too deep.

A group's first two steps are kept free when it opens: what follows (another alternative, a repetition) decides what
they become, and nothing has to be moved.
"""

from dataclasses import dataclass, field

from workers.core.grammar.charsets import CharSet
from workers.core.grammar.errors import GrammarError, at
from workers.core.grammar.lexer import Bounds, Token, tokens
from workers.core.grammar.program import PASS, Call, End, Fork, Jump, Program, Rule, Step, Take

MOST_TEXT = 1_000_000
"""Characters of a grammar. The provider's limit is unknown (WIRE 4.3); a hundred passages of 1 KB are a tenth of it."""
MOST_STEPS = 250_000
"""Steps of a grammar, repetitions written out: about one for each character of its literals."""
ROOT = "root"
_GOES_ON = "a rule goes on after '|' or inside parentheses"


@dataclass
class _Group:
    """An open group, or a rule. `start`: its two free steps. `branches`: where its alternatives start; `exits`: the
    jumps behind all but the last. `element`: where the newest element starts, None at the start of an alternative."""

    token: Token
    start: int
    branches: list[int] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    element: int | None = None
    grouped: bool = False
    repeated: bool = False


def read_program(text: str) -> Program:
    """The program of a grammar. Raises GrammarError."""
    if len(text) > MOST_TEXT:
        raise at(text, MOST_TEXT, f"the grammar is too large, more than {MOST_TEXT} characters")
    return _Reader(text).program()


class _Reader:
    def __init__(self, text: str) -> None:
        self._program = Program(text)
        self._tokens = tokens(text)
        self._token = next(self._tokens)
        self._numbers: dict[str, int] = {}
        self._sets: dict[CharSet, Take] = {}
        self._letters: dict[str, Take] = {}
        self._steps: list[Step] = []
        self._open: list[_Group] = []
        self._before = 0  # steps of the rules that are done

    def program(self) -> Program:
        self._skip_newlines()
        while self._token.kind != "end":
            self._rule()
            self._skip_newlines()
        for rule in self._program.rules:
            if rule.steps is None:
                raise self._error(f"unknown rule {rule.name!r}", rule.offset)
        if ROOT not in self._numbers:
            raise self._error(f"there is no rule named {ROOT!r}", 0)
        return self._program

    # -- rules -----------------------------------------------------------------------------------------------------

    def _rule(self) -> None:
        name = self._token
        if name.kind != "name":
            raise self._error(f"a rule is expected, name ::= ...; {_GOES_ON}", name.offset)
        self._advance()
        if self._token.kind != "::=":
            raise self._error(f"'::=' is expected after {name.text!r}; {_GOES_ON}", self._token.offset)
        rule = self._program.rules[self._number(name)]
        if rule.steps is not None:
            raise self._error(f"the rule {name.text!r} is defined twice", name.offset)
        rule.offset = name.offset
        self._advance()
        self._skip_newlines()
        rule.steps = self._body(name)
        self._before += len(rule.steps)

    def _body(self, name: Token) -> list[Step]:
        self._steps = []
        self._enter(name)
        while self._token.kind != "end" and (self._token.kind != "newline" or len(self._open) > 1):
            self._part()
        if len(self._open) > 1:
            raise self._error("the parenthesis is not closed", self._open[-1].token.offset)
        self._leave()
        self._steps.append(End())
        return self._steps

    def _part(self) -> None:
        token = self._token
        match token.kind:
            case "literal":
                self._element([self._letter(char) for char in token.text])
            case "set":
                self._element([self._set(token.chars)])
            case "name":
                self._element([Call(self._number(token), token.offset)])
            case "repeat":
                self._repeat(token)
            case "|":
                self._alternative()
            case "(":
                self._enter(token)
            case ")":
                self._leave()
            case "newline":
                pass
            case _:
                raise self._error("'::=' in the middle of a rule; a rule ends with its line", token.offset)
        self._advance()
        if token.kind == "|":
            self._skip_newlines()

    # -- elements --------------------------------------------------------------------------------------------------

    def _element(self, steps: list[Step]) -> None:
        self._check_room(len(steps))
        group = self._open[-1]
        group.element, group.grouped, group.repeated = len(self._steps), False, False
        self._steps.extend(steps)

    def _enter(self, token: Token) -> None:
        self._check_room(2)
        if self._open:
            self._open[-1].element = len(self._steps)
        start = len(self._steps)
        self._open.append(_Group(token, start, [start + 2]))
        self._steps += (PASS, PASS)

    def _alternative(self) -> None:
        self._check_filled()
        self._check_room(1)
        group = self._open[-1]
        group.exits.append(len(self._steps))
        self._steps.append(PASS)
        group.branches.append(len(self._steps))
        group.element = None

    def _leave(self) -> None:
        if len(self._open) == 1 and self._token.kind == ")":
            raise self._error("this parenthesis was never opened", self._token.offset)
        self._check_filled()
        group = self._open.pop()
        if group.exits:
            fork = group.start + 1
            self._steps[fork] = Fork(tuple(branch - fork for branch in group.branches))
            for place in group.exits:
                self._steps[place] = Jump(len(self._steps) - place)
        if self._open:
            self._open[-1].grouped, self._open[-1].repeated = True, False

    def _repeat(self, token: Token) -> None:
        group = self._open[-1]
        if group.element is None:
            raise self._error("there is nothing to repeat here", token.offset)
        if group.repeated:
            raise self._error("a repetition of a repetition needs parentheses", token.offset)
        if token.beyond:
            self._program.beyond.append(token.offset)
        start, group.repeated = group.element, True
        if not group.grouped:
            self._steps.insert(start, PASS)
        self._write_out(start, token.bounds)

    def _write_out(self, start: int, bounds: Bounds) -> None:
        """Repeat the steps behind `start`, whose own step is free."""
        size = len(self._steps) - start - 1
        match bounds:
            case (0, None):
                self._steps[start] = Fork((1, size + 2))
                self._steps.append(Jump(-size - 1))
            case (1, None):
                self._steps.append(Fork((-size, 1)))
            case (0, 1):
                self._steps[start] = Fork((1, size + 1))
            case (low, None):
                self._check_room((low - 1) * size + 1)
                self._steps += self._steps[start + 1 :] * (low - 1)
                self._steps.append(Fork((-size, 1)))
            case (low, high):
                more = high - low
                self._check_room(low * size + more * (size + 1))
                part = self._steps[start + 1 :]
                self._steps[start + 1 :] = part * low
                for left in range(more, 0, -1):
                    self._steps.append(Fork((1, left * (size + 1))))
                    self._steps += part

    # -- small things ----------------------------------------------------------------------------------------------

    def _letter(self, char: str) -> Take:
        known = self._letters.get(char)
        if known is None:
            known = self._letters[char] = self._set(((ord(char), ord(char)),))
        return known

    def _set(self, chars: CharSet) -> Take:
        if chars not in self._sets:
            self._sets[chars] = Take(len(self._program.sets))
            self._program.sets.append(chars)
        return self._sets[chars]

    def _number(self, name: Token) -> int:
        if name.text not in self._numbers:
            self._numbers[name.text] = len(self._program.rules)
            self._program.rules.append(Rule(name.text, name.offset))
        return self._numbers[name.text]

    def _check_filled(self) -> None:
        if self._open[-1].element is None:
            raise self._error('an alternative is empty; write "" for no text', self._token.offset)

    def _check_room(self, more: int) -> None:
        if self._before + len(self._steps) + more > MOST_STEPS:
            message = f"the grammar is too large, more than {MOST_STEPS} steps with its repetitions written out"
            raise self._error(message, self._token.offset)

    def _advance(self) -> None:
        self._token = next(self._tokens)

    def _skip_newlines(self) -> None:
        while self._token.kind == "newline":
            self._advance()

    def _error(self, message: str, offset: int) -> GrammarError:
        return at(self._program.text, offset, message)
