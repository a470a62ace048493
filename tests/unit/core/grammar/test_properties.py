"""Random grammars against a matcher that tries everything."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.core.grammar.naive import Alt, Class, Naive, Ref, Repeat, Rules, Seq, Text, Tree, is_refused, written
from workers.core.grammar import Grammar, GrammarError, Matcher, parse
from workers.core.grammar.engine import Engine

LETTERS = "ab[é\n"
_NAMES = ["root", "one", "two"]
_TEXTS = st.text(LETTERS, max_size=7)
_LEAVES: st.SearchStrategy[Tree] = st.one_of(
    st.builds(Text, st.text(LETTERS, max_size=3)),
    st.builds(Class, st.text(LETTERS, min_size=1, max_size=3), st.booleans()),
    st.just(Class("", negated=True)),
    st.builds(Ref, st.sampled_from(_NAMES)),
    # Recursion that is not on the left.
    st.builds(
        lambda first, name: Seq((Text(first), Ref(name))), st.sampled_from(["a", "b", "["]), st.sampled_from(_NAMES)
    ),
)
_BOUNDS = st.sampled_from([(0, None), (1, None), (0, 1), (0, 0), (2, 2), (1, 3), (0, 2), (2, None)])


def _compound(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    repeats = st.builds(lambda part, bounds: Repeat(part, *bounds), inner, _BOUNDS)
    return st.builds(Seq, several) | st.builds(Alt, several) | repeats


_TREES = st.recursive(_LEAVES, _compound, max_leaves=6)
RULES: st.SearchStrategy[Rules] = st.fixed_dictionaries(dict.fromkeys(_NAMES, _TREES))


def _parsed(rules: Rules) -> Grammar:
    """The grammar; examples that are rightly refused are passed over."""
    try:
        return parse(written(rules))
    except GrammarError:
        assume(not is_refused(rules))
        raise


def _some_text(grammar: Grammar, data: Any, most: int = 8) -> str:
    """A text of the language, or a beginning of one if that is long."""
    matcher, text = Matcher(grammar), ""
    while len(text) < most and matcher.choices() and not (matcher.complete and data.draw(st.booleans())):
        allowed = [char for char in LETTERS + "z" if _holds(matcher, char)]
        text += data.draw(st.sampled_from(allowed))
        assert matcher.feed(text[-1])
    return text


def _holds(matcher: Matcher, char: str) -> bool:
    return any(low <= char <= high for low, high in matcher.choices())


@settings(max_examples=40)
@given(rules=RULES)
def test_what_recurses_on_its_left_or_never_ends_is_refused_and_nothing_else(rules: Rules) -> None:
    refused = False
    try:
        parse(written(rules))
    except GrammarError:
        refused = True
    assert refused == is_refused(rules)


@settings(max_examples=100)
@given(rules=RULES, data=st.data())
@pytest.mark.long
def test_the_matcher_agrees_with_one_that_tries_everything(rules: Rules, data: Any) -> None:
    grammar = _parsed(rules)
    for text in (data.draw(_TEXTS), _some_text(grammar, data), _some_text(grammar, data) + data.draw(_TEXTS)):
        assert grammar.matches(text) == Naive(rules, text).matches()


@settings(max_examples=40)
@given(rules=RULES, data=st.data())
def test_a_mismatch_is_the_first_character_that_no_continuation_allows(rules: Rules, data: Any) -> None:
    grammar = _parsed(rules)
    text = _some_text(grammar, data) + data.draw(_TEXTS)
    live = [Naive(rules, text[:length]).is_live() for length in range(len(text) + 1)]
    mismatch = grammar.mismatch(text)
    if Naive(rules, text).matches():
        assert mismatch is None
    elif all(live):
        assert mismatch == len(text)
    else:
        assert mismatch == live.index(False) - 1


@settings(max_examples=40)
@given(rules=RULES, data=st.data())
def test_the_choices_are_exactly_the_characters_that_keep_a_text_alive(rules: Rules, data: Any) -> None:
    grammar = _parsed(rules)
    text = _some_text(grammar, data, most=4)
    matcher = Matcher(grammar)
    assert matcher.feed(text)
    for char in LETTERS + "z\U0010ffff":
        assert _holds(matcher, char) == Naive(rules, text + char).is_live()
        assert _holds(matcher, char) == matcher.copy().feed(char)
    assert matcher.complete == Naive(rules, text).matches()


@settings(max_examples=40)
@given(rules=RULES, data=st.data())
def test_forgetting_changes_no_answer(rules: Rules, data: Any) -> None:
    grammar = _parsed(rules)
    forgetful = Grammar(Engine(grammar.engine.machine, remember=0), "root")
    text = _some_text(grammar, data) + data.draw(_TEXTS)
    assert forgetful.mismatch(text) == grammar.mismatch(text)


@settings(max_examples=40)
@given(rules=RULES, data=st.data())
def test_every_beginning_of_a_match_is_alive_however_it_is_cut(rules: Rules, data: Any) -> None:
    grammar = _parsed(rules)
    text = _some_text(grammar, data, most=12)
    matcher = Matcher(grammar)
    start = 0
    for cut in sorted(data.draw(st.sets(st.integers(0, len(text))))):
        assert matcher.feed(text[start:cut])
        assert matcher.alive
        start = cut
    matcher.feed(text[start:])
    assert matcher.complete == grammar.matches(text)


@settings(max_examples=40)
@given(rules=RULES, data=st.data())
def test_the_way_out_is_as_short_as_it_can_be(rules: Rules, data: Any) -> None:
    grammar = _parsed(rules)
    matcher = Matcher(grammar)
    matcher.feed(_some_text(grammar, data, most=3))
    crowd = [matcher.copy()]
    for left in range(matcher.shortest, 0, -1):
        assert matcher.shortest == left
        assert not matcher.complete
        if len(crowd) < 200:
            assert not any(each.complete for each in crowd)
            crowd = [each for one in crowd for each in _followers(one)]
        assert matcher.feed(matcher.way_out()[0][0])
    assert matcher.complete
    assert matcher.shortest == 0
    assert matcher.way_out() == ()


def _followers(matcher: Matcher) -> list[Matcher]:
    found = []
    for low, _ in {span for ranges in matcher.classes() for span in ranges}:
        twin = matcher.copy()
        assert twin.feed(low)
        found.append(twin)
    return found


@settings(max_examples=40)
@given(rules=RULES)
def test_the_classes_together_are_the_choices(rules: Rules) -> None:
    matcher = Matcher(_parsed(rules))
    for char in LETTERS + "z":
        assert _holds(matcher, char) == any(low <= char <= high for ranges in matcher.classes() for low, high in ranges)
