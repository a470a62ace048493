"""Each construct of the notation: what it accepts and what it does not (WIRE 4.3)."""

import pytest

from workers.core.grammar import parse

# Grammar, texts that match, texts that do not.
_CORPUS = [
    # literals and escapes
    ('root ::= "yes"', ["yes"], ["", "ye", "yes ", "Yes", "no"]),
    (r'root ::= "a\n\t\\\"b"', ['a\n\t\\"b'], [r"a\n\t\\\"b"]),
    (r'root ::= "\x41\u00e9\U0001F525"', ["Aé🔥"], ["A", "Aé", "Ae🔥"]),
    (r'root ::= "\x4a\x4A"', ["JJ"], ["4a4A"]),
    ('root ::= "naïve 東京 ::= | ( [ # {"', ["naïve 東京 ::= | ( [ # {"], ["naïve"]),
    ('root ::= ""', [""], [" "]),
    ('root ::= "a" "" "b"', ["ab"], ["a", "b"]),
    # classes
    ("root ::= [a-c]", ["a", "b", "c"], ["", "d", "ab", "-"]),
    ("root ::= [NBKQR]", ["N", "R"], ["n", "NB"]),
    ("root ::= [a-cx-z0]", ["a", "y", "0"], ["d", "w", "-"]),
    ("root ::= [a-fc-de-h]", ["a", "d", "f", "h"], ["i"]),
    ("root ::= [^a-fc-de-h]", ["i"], ["a", "d", "f", "h"]),
    ("root ::= [^a-c]", ["d", "\n", "🔥", "\x00", "\U0010ffff"], ["a", "b", "c", "", "dd"]),
    (r"root ::= [^\n]", ["a", "\r", "^"], ["\n"]),
    ("root ::= [a^]", ["a", "^"], ["b"]),
    ("root ::= [^^.!?]", ["a"], ["^", ".", "!"]),
    ("root ::= [^[.!?]+", ["a]b"], ["[", "a[", "a."]),
    ("root ::= [ぁ-ゟ]+", ["ひらがな"], ["カ", "a"]),
    (r"root ::= [\u3041-\u309f]", ["ひ"], ["カ"]),
    (r"root ::= [\x5D\x5b\x2d\x5E]", ["]", "[", "-", "^"], ["\\", "x", "5"]),
    (r'root ::= ["\\\"]', ['"', "\\"], ["'"]),
    ("root ::= [a-]", ["a", "-"], ["b"]),
    ("root ::= [-a]", ["a", "-"], ["b"]),
    ("root ::= [+-]", ["+", "-"], [","]),
    ("root ::= [a-c-e]", ["a", "c", "-", "e"], ["d"]),
    ("root ::= [#(|)*.{]", ["#", "(", "|", ")", "*", ".", "{"], ["a"]),
    # any character
    ("root ::= .", ["a", "\n", "é", "🔥", "\x00"], ["", "ab"]),
    ('root ::= "a" . "c"', ["abc", "a\nc"], ["ac", "abbc"]),
    # sequences, alternatives, groups
    ('root ::= "a" "b" "c"', ["abc"], ["ab", "abcc", "a b c"]),
    ('root ::= "a" | "b" "c" | "d"', ["a", "bc", "d"], ["b", "ac", "ad", "abc"]),
    ('root ::= "a" ("b" | "c") "d"', ["abd", "acd"], ["ad", "abcd"]),
    ('root ::= ("a")', ["a"], [""]),
    ('root ::= ((("a" | "b")) | ("c"))', ["a", "b", "c"], ["ab"]),
    ('root ::= "a" | ""', ["a", ""], ["aa"]),
    # repetitions
    ('root ::= "a"*', ["", "a", "aaaa"], ["b", "ab"]),
    ('root ::= "a"+', ["a", "aaaa"], ["", "b"]),
    ('root ::= "a"?', ["", "a"], ["aa"]),
    ('root ::= "ab"*', ["", "ab", "abab"], ["a", "aba", "abb"]),
    ('root ::= "ab"+ "ab"?', ["ab", "abab"], ["", "a"]),
    ("root ::= [ab]+ [cd]*", ["a", "abcd"], ["c", "ac b"]),
    ('root ::= ("a" | "bc")*', ["", "abca", "bcbc"], ["b", "acb"]),
    ('root ::= ("a" "b"?)+', ["a", "aba", "ab"], ["b", "abb"]),
    ('root ::= .* "."', [".", "a.", "a.b."], ["", "a"]),
    ('root ::= ("a"?)*', ["", "aaa"], ["b"]),
    ('root ::= (("a"*)*)+ "b"', ["b", "aab"], ["a", ""]),
    ('root ::= (""*)+', [""], ["a"]),
    ('root ::= ("a") "b"* "c"', ["ac", "abbc"], ["c", "abb"]),
    ('root ::= "a"* ("b" | "c")* "d"', ["d", "aabcd"], ["bad"]),
    ('root ::= "a" *', ["", "aa"], ["a*"]),
    # bounded repetitions, which clients send
    ('root ::= "a"{2}', ["aa"], ["", "a", "aaa"]),
    ('root ::= "a"{2,}', ["aa", "aaaaa"], ["", "a"]),
    ('root ::= "a"{1,3}', ["a", "aa", "aaa"], ["", "aaaa"]),
    ('root ::= "ab"{0,2}', ["", "ab", "abab"], ["a", "ababab"]),
    ("root ::= [^[.!?]{1, 4}", ["a", "abcd"], ["", "abcde", "a."]),
    ('root ::= "a"{ 1 , 2 } "b"', ["ab", "aab"], ["b"]),
    ('root ::= "a"{0}', [""], ["a"]),
    ('root ::= "x" ("a" | "bb"){0,0} "y"', ["xy"], ["xay"]),
    ('root ::= "a"{0,}', ["", "aaa"], ["b"]),
    ('root ::= "a"{1,}', ["a", "aaa"], [""]),
    ('root ::= ("a" | "bb"){2}', ["aa", "abb", "bba", "bbbb"], ["a", "bb", "abab"]),
    ('root ::= ("a"{2} "b"){2,3}', ["aabaab", "aabaabaab"], ["aab", "aabab"]),
    ('root ::= ("a" | ("b" | "c"){2}){1,2}', ["a", "bc", "bca", "cbbc"], ["b", "bcc"]),
    ('root ::= (("a" | "b"){1,2} "-"){2}', ["a-b-", "ab-ba-"], ["a-", "aba-b-"]),
    ('root ::= ("a"?){3}', ["", "a", "aaa"], ["aaaa"]),
    # rules
    ('root ::= one two\none ::= "1"\ntwo ::= "2"', ["12"], ["1", "2", "21"]),
    ('two ::= "2"\nroot ::= two check-mate\ncheck-mate ::= "#"', ["2#"], ["2"]),
    ('root ::= a1 b-2c\na1 ::= "a"\nb-2c ::= "b"', ["ab"], []),
    ('root ::= list\nlist ::= "x" ("," list)?', ["x", "x,x,x"], ["", "x,", ",x"]),
    ('root ::= "(" root ")" | "x"', ["x", "(x)", "((x))"], ["(x", "x)", "()", "((x)"]),
    ('root ::= a\na ::= "[" b* "]"\nb ::= a | "," a', ["[]", "[[]]", "[[][],[]]"], ["[,]", "[[]", "[]]"]),
    ('root ::= "a" root "b" | ""', ["", "ab", "aaabbb"], ["a", "aab", "abb", "ba"]),
    ('root ::= e\ne ::= t ("+" t)*\nt ::= [0-9]+ | "(" e ")"', ["1", "(1+22)+3"], ["", "1+", "(1", "+1"]),
    ('root ::= "a" maybe "b"\nmaybe ::= "x"?', ["ab", "axb"], ["axxb"]),
    ('root ::= maybe* "b"\nmaybe ::= "x"?', ["b", "xxxb"], ["", "x"]),
    # one rule called from several places at once
    ('root ::= a "x" | b "y"\na ::= c\nb ::= c\nc ::= "z"', ["zx", "zy"], ["z", "zxy"]),
    ('root ::= a "1" | "y" a "2"\na ::= "y"* b "x"\nb ::= "b"', ["bx1", "ybx1", "ybx2", "yybx2"], ["bx2", "ybx"]),
    ('root ::= a "1" | "x" a "2"\na ::= (b | "x" "x") "y"\nb ::= "x"', ["xy1", "xxy1", "xxy2", "xxxy2"], ["xy2"]),
    ('root ::= "a" root | "a" root "b" | ""', ["", "a", "ab", "aab", "aaabb"], ["b", "abb"]),
    ('root ::= "a" | x "b"\nx ::= "a"', ["a", "ab"], ["b", "aa"]),
    # comments and line breaks
    ('# first\nroot ::= "a" # rest | "b"\n# last', ["a"], ["b"]),
    ('\n\n  root   ::=\t"a"\n\n', ["a"], []),
    ('root::="a"|"b"', ["a", "b"], []),
    ('root ::= "a" |\n  "b" |\n\n  # a remark\n  "c"', ["a", "b", "c"], []),
    ('root ::= (\n  "a"\n  "b"\n  | "c" # remark\n)\n', ["ab", "c"], ["a"]),
    ('root ::=\n  "a" "b"\n', ["ab"], []),
    ('root ::= "a"\r\n# x\r\nother ::= "b"\r\n', ["a"], ["a\r"]),
    ('root ::= "#" # "x"', ["#"], []),
]


@pytest.mark.parametrize(("text", "accepted", "rejected"), _CORPUS)
def test_a_construct_accepts_what_it_says(text: str, accepted: list[str], rejected: list[str]) -> None:
    grammar = parse(text)
    assert {each: grammar.matches(each) for each in accepted} == dict.fromkeys(accepted, True)
    assert {each: grammar.matches(each) for each in rejected} == dict.fromkeys(rejected, False)


_JSON = r"""
root ::= value
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])
  )* "\"" ws
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws ::= [ \t\n]*
"""


@pytest.mark.parametrize("text", ['{"a": [1, -2.5e3, {"b": "c\\n\\u00e9 ü"}], "d": null}', "[]", "  1 ".strip(), '""'])
def test_json_is_a_language_like_any_other(text: str) -> None:
    assert parse(_JSON).matches(text)


@pytest.mark.parametrize("text", ["[1,]", '{"a"}', "01", '"\n"', "[1", "1 1"])
def test_what_is_not_json_is_told_apart(text: str) -> None:
    assert not parse(_JSON).matches(text)


# The shapes of the grammars that one citation library sends to the provider (FEAT A4.2), each marker and policy.
_MARKERS = [("[", "]"), ("(", ")"), ("{", "}"), ("^", "")]
_TAIL = 'cite-group ::= cite-id (ws cite-id)*\nws ::= " "\ncite-id ::= "{open}" ("1" | "2" | "12") "{close}"\n'
_REQUIRED = (
    "root ::= sentence (ws sentence)*\nsentence ::= content cite-group sent-end\n"
    'content ::= [^{open}.!?]{{1, 240}}\nsent-end ::= "." | "!" | "?"\n' + _TAIL
)
_AUTO = "root ::= (text | cite-group)+\ntext ::= [^{open}]+\n" + _TAIL


@pytest.mark.parametrize(("opening", "closing"), _MARKERS)
def test_the_grammars_of_cited_answers_are_read(opening: str, closing: str) -> None:
    cite, wrong = f"{opening}12{closing}", f"{opening}7{closing}"
    required = parse(_REQUIRED.format(open=opening, close=closing))
    assert required.matches(f"Oslo is a city {cite} {opening}1{closing}. It snows {cite}!")
    assert not required.matches(f"Oslo is a city {wrong}.")
    assert not required.matches("Oslo is a city.")
    assert not required.matches("x" * 241 + f"{cite}.")
    assert required.mismatch("x" * 241) == 240
    auto = parse(_AUTO.format(open=opening, close=closing))
    assert auto.matches(f"Oslo {cite}. Or 3.14, see http://x.y.")
    assert not auto.matches(f"Oslo {wrong}.")


def test_forms_beyond_the_documented_subset_are_named_by_their_lines() -> None:
    assert parse('root ::= "a"*\n').beyond == ()
    assert parse('root ::= "a"*\n  # {2}\n\nx ::= "b"{2} [{3}]{4,5}\ny ::= "c"{1,}').beyond == (4, 4, 5)


def test_the_rules_can_be_named_and_tried_one_by_one() -> None:
    grammar = parse('root ::= name ": " number\nname ::= [a-z]+\nnumber ::= [0-9]+')
    assert grammar.rules == ("root", "name", "number")
    assert grammar.rule("number").matches("42")
    assert not grammar.rule("number").matches("a: 42")
    assert grammar.rule("root").matches("a: 42")
    with pytest.raises(ValueError, match="no rule is named 'nmae'"):
        grammar.rule("nmae")


def test_the_size_counts_what_is_written_out() -> None:
    assert parse('root ::= "abc"').size == 4
    assert parse('root ::= "abc"{10}').size == 31
    assert parse('root ::= "a"').shortest == 1
    assert parse('root ::= ("abc" | "de"){3} .*').shortest == 6


def test_surrogates_are_in_no_class() -> None:
    for text in ("root ::= .", "root ::= [^a]", r"root ::= [\x00-\uffff]"):
        grammar = parse(text)
        assert not grammar.matches("\ud83d")
        assert grammar.matches("\ud7ff")
        assert grammar.matches("\ue000")
