"""Grammars in GBNF, as the provider's grammar mode takes them (WIRE 4.3): read them, match text against them. Pure.

charsets   sets of characters
lexer      the text of a grammar to tokens
syntax     tokens to a program: rules, alternatives, repetitions
program    what a program is made of
states     the program to numbered states
lengths    the shortest way from each state to the end
recursion  which rule calls which first; refuses left recursion
machine    all of that, ready to run
stacks     sets of call stacks, shared and merged
engine     all ways at once, one character after the other
grammar    what callers hold

    grammar = parse('root ::= "yes" | "no"')
    grammar.matches("yes")      # True
    grammar.mismatch("nope")    # 2: nothing allows the "p"
"""

from workers.core.grammar.errors import GrammarError, TooAmbiguous
from workers.core.grammar.grammar import Grammar, Matcher, compiled, parse

__all__ = ["Grammar", "GrammarError", "Matcher", "TooAmbiguous", "compiled", "parse"]
