"""What is no grammar is refused where it goes wrong."""

import pytest

from workers.core.grammar import GrammarError, parse
from workers.core.grammar.syntax import MOST_STEPS, MOST_TEXT

# The grammar, with ¶ at the place that the error must name, and a part of its message.
_REFUSED = [
    ("¶", "no rule named 'root'"),
    ('¶a ::= "x"', "no rule named 'root'"),
    ('¶Root ::= "x"', "dashed lowercase word"),
    ('root ::= ¶a_b\na_b ::= "x"', "dashed lowercase word"),
    ('root ::= ¶-a\n-a ::= "x"', "dashed lowercase word"),
    ('root ::= ¶a-\na- ::= "x"', "dashed lowercase word"),
    ('root ::= ¶été\nété ::= "x"', "dashed lowercase word"),
    ('root ::= ¶1a\n1a ::= "x"', "dashed lowercase word"),
    ('root ::= "a" ¶other', "unknown rule 'other'"),
    ('root ::= a\na ::= "x" |\n  ¶missing\nb ::= missing', "unknown rule 'missing'"),
    ('root ::= "a"\n¶root ::= "b"', "defined twice"),
    # rules
    ('root ¶= "a"', "unexpected character '='"),
    ('root ¶: "a"', "unexpected character ':'"),
    ('¶"a"', "a rule is expected"),
    ('root ::= "a"\n  ¶| "b"', "inside parentheses"),
    ('root ::= "a"\n  ¶"b"', "a rule is expected"),
    ('root ::= "a"\n  other¶\nother ::= "b"', "'::=' is expected after 'other'; a rule goes on"),
    ('root ::= "a" other ¶::= "b"', "in the middle of a rule"),
    ('root ¶"a"', "'::=' is expected"),
    # empty parts
    ("root ::= ¶", "an alternative is empty"),
    ('root ::= ¶| "a"', "an alternative is empty"),
    ('root ::= "a" |¶', "an alternative is empty"),
    ('root ::= "a" | ¶| "b"', "an alternative is empty"),
    ("root ::= (¶)", "an alternative is empty"),
    ('root ::= ("a" |¶)', "an alternative is empty"),
    # parentheses
    ('root ::= ¶("a"', "not closed"),
    ('root ::= ("a" | ¶("b"\n"c"', "not closed"),
    ('root ::= ("a" | ¶(', "not closed"),
    ('root ::= "a"¶)', "never opened"),
    # literals and classes
    ('root ::= ¶"a', "literal is not closed"),
    ('root ::= ¶"a\n"', "literal is not closed"),
    ('root ::= ¶"a\\"', "literal is not closed"),
    ("root ::= ¶[a", "class is not closed"),
    ("root ::= ¶[a\n]", "class is not closed"),
    ("root ::= ¶[a-", "class is not closed"),
    ("root ::= ¶[", "class is not closed"),
    ("root ::= ¶[]", "an empty class"),
    ("root ::= ¶[^]", "an empty class"),
    (r"root ::= ¶[^\x00-\U0010FFFF]", "without any character"),
    ("root ::= [a¶z-b]", "runs backwards, z-b"),
    (r"root ::= [¶\U0010FFFF-a]", "runs backwards"),
    # escapes
    (r'root ::= "a¶\q"', r"unknown escape '\\\\q'"),
    (r'root ::= "¶\r"', "unknown escape"),
    (r'root ::= "¶\]"', "unknown escape"),
    (r"root ::= [a¶\]]", "unknown escape"),
    (r'root ::= "¶\x4"', "needs 2 hexadecimal digits"),
    (r'root ::= "¶\x+1"', "needs 2 hexadecimal digits"),
    (r'root ::= "¶\u123"', "needs 4 hexadecimal digits"),
    (r'root ::= "¶\u12g4"', "needs 4 hexadecimal digits"),
    (r'root ::= "¶\U0001F52"', "needs 8 hexadecimal digits"),
    (r'root ::= "¶\U00110000"', "not a character"),
    (r'root ::= "¶\ud83d\udd25"', "not a character"),
    ('root ::= "¶\\', "unknown escape"),
    ('root ::= "¶\ud83d"', "surrogate"),
    # repetitions
    ("root ::= ¶*", "nothing to repeat"),
    ('root ::= "a" | ¶+', "nothing to repeat"),
    ("root ::= (¶?)", "nothing to repeat"),
    ('root ::= "a"*¶*', "needs parentheses"),
    ('root ::= ("a")+¶{2}', "needs parentheses"),
    ('root ::= "a"¶{3,2}', "at least 3 and at most 2"),
    ('root ::= "a"¶{,2}', r"\{m\}, \{m,\} or \{m,n\}"),
    ('root ::= "a"¶{}', r"\{m\}, \{m,\} or \{m,n\}"),
    ('root ::= "a"¶{-1}', r"\{m\}, \{m,\} or \{m,n\}"),
    ('root ::= "a"¶{1,2', r"\{m\}, \{m,\} or \{m,n\}"),
    ('root ::= "a"¶{1 2}', r"\{m\}, \{m,\} or \{m,n\}"),
    ('root ::= "a"¶{٣}', r"\{m\}, \{m,\} or \{m,n\}"),
    ('root ::= "a"¶{1234567890}', r"\{m\}, \{m,\} or \{m,n\}"),
    # other signs
    ('root ::= "a" ¶, "b"', "unexpected character ','"),
    ("root ::= ¶'a'", 'unexpected character "\'"'),
    ("root ::= ¶<a>", "unexpected character '<'"),
    ('root ::= "a" ¶} "b"', r"unexpected character '\}'"),
    # left recursion
    ('root ::= ¶root "a" | "b"', "left recursion.*: root -> root"),
    ('root ::= a\na ::= b "x" | "y"\nb ::= ¶a | "z"', "left recursion.*: a -> b -> a"),
    ('root ::= "x"? ¶root "a" | "b"', "root -> root"),
    ('root ::= "x"* ("" | "y") (¶root | "b")', "root -> root"),
    ('root ::= a ¶root "x" | "y"\na ::= b b\nb ::= ""', "root -> root"),
    ('root ::= "x"{0,3} ¶root | "y"', "root -> root"),
    ('root ::= (¶root)* "a"', "root -> root"),
    ('root ::= "a"\nunused ::= ¶unused "x" | "y"', "unused -> unused"),
    # rules without an end
    ('¶root ::= "a" root', "'root' never ends"),
    ('root ::= "a" | b\n¶b ::= "x" c\nc ::= "y" b', "'b' never ends"),
    ('root ::= a\n¶a ::= "x" a\n', "'a' never ends"),
    ('root ::= "a"\n¶unused ::= "x" unused+', "'unused' never ends"),
]


@pytest.mark.parametrize(("marked", "message"), _REFUSED)
def test_a_mistake_is_named_with_its_place(marked: str, message: str) -> None:
    place = marked.index("¶")
    with pytest.raises(GrammarError, match=message) as refused:
        parse(marked.replace("¶", ""))
    before = marked[:place]
    assert (refused.value.line, refused.value.column) == (before.count("\n") + 1, place - before.rfind("\n"))
    assert str(refused.value).startswith(f"line {refused.value.line}, column {refused.value.column}: ")
    assert refused.value.message in str(refused.value)


def test_a_grammar_of_too_many_characters_is_refused() -> None:
    parse('root ::= "a"' + " " * (MOST_TEXT - 12))
    with pytest.raises(GrammarError, match="too large"):
        parse('root ::= "a"' + " " * (MOST_TEXT - 11))


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ('root ::= "a"{999999999}', 13),
        ('root ::= "a"{0,999999999}', 13),
        ('root ::= "a"{999999,}', 13),
        ('root ::= ((("ab"{100}){100}){100}){100}', 29),
        (f'root ::= "{"x" * 90_000}" ("{"y" * 90_000}" "{"z" * 90_000}")', 180_017),
        (f'root ::= "{"x" * MOST_STEPS}"', 10),
        (f'root ::= "{"x" * (MOST_STEPS // 2)}"\nother ::= "{"x" * (MOST_STEPS // 2)}"', 11),
    ],
)
def test_a_grammar_that_is_too_large_when_written_out_is_refused_before_it_is(text: str, column: int) -> None:
    with pytest.raises(GrammarError, match=f"too large, more than {MOST_STEPS} steps") as refused:
        parse(text)
    assert refused.value.column == column


def test_a_long_left_recursion_is_shown_in_short() -> None:
    rules = [f'r{i} ::= r{i + 1} | "x"' for i in range(50)]
    text = "\n".join(["root ::= r0", *rules, "r50 ::= r0"])
    with pytest.raises(GrammarError, match=r"r0 -> r1 -> .* -> \.\.\. -> r0$"):
        parse(text)
