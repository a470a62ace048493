"""Tool calls from their fragments, by whichever of index, id and place the provider gives (FEAT A1.5, B1)."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.adapters.fireworks.wire import call
from tests.unit.core.answers import calls_of


@pytest.mark.requirement("CHAT-04")
def test_a_call_in_many_fragments_is_one_call() -> None:
    found = calls_of(
        [call(0, call_id="a", name="add", arguments="")], [call(0, arguments='{"a":1,')], [call(0, arguments='"b":2}')]
    )
    assert found == [("a", "add", '{"a":1,"b":2}')]


@pytest.mark.requirement("CHAT-04")
@pytest.mark.parametrize("order", list(itertools.permutations([{"call_id": "a"}, {"name": "f"}, {"arguments": "{}"}])))
def test_id_name_and_arguments_may_come_in_any_order(order: tuple[dict[str, str], ...]) -> None:
    assert calls_of(*([call(0, **part)] for part in order)) == [("a", "f", "{}")]


@pytest.mark.requirement("CHAT-04")
def test_several_calls_in_one_delta_are_all_taken() -> None:
    both = [call(0, call_id="a", name="f", arguments='{"x":'), call(1, call_id="b", name="g", arguments="{")]
    assert calls_of(both, [call(0, arguments="1}"), call(1, arguments="}")]) == [
        ("a", "f", '{"x":1}'),
        ("b", "g", "{}"),
    ]


@pytest.mark.requirement("CHAT-04")
def test_interleaved_fragments_go_to_their_calls() -> None:
    found = calls_of(
        [call(1, call_id="b", name="g", arguments='{"y"')], [call(0, call_id="a", name="f", arguments='{"x"')],
        [call(1, arguments=":2}")], [call(0, arguments=":1}")],
    )  # fmt: skip
    assert found == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


@pytest.mark.requirement("CHAT-04")
def test_an_index_may_start_at_1_and_leave_gaps() -> None:
    found = calls_of([call(1, call_id="a", name="f", arguments="{}")], [call(4, call_id="b", name="g", arguments="{}")])
    assert found == [("a", "f", "{}"), ("b", "g", "{}")]


@pytest.mark.requirement("CHAT-04")
def test_a_name_that_is_sent_again_is_not_doubled() -> None:
    again = [call(0, call_id="a", name="weather", arguments="")]
    assert calls_of(again, again, [call(0, name="weather", arguments="{}")]) == [("a", "weather", "{}")]


def test_a_name_may_grow_or_come_in_pieces_before_the_arguments() -> None:
    assert calls_of([call(0, name="get_")], [call(0, name="weather")])[0][1] == "get_weather"
    assert calls_of([call(0, name="get_")], [call(0, name="get_weather")])[0][1] == "get_weather"
    assert calls_of([call(0, name="get", arguments="{")], [call(0, name="other", arguments="}")]) == [("", "get", "{}")]


@pytest.mark.requirement("CHAT-04")
@pytest.mark.parametrize("nothing", [None, "", " \n", {}])
def test_empty_arguments_mean_no_arguments(nothing: Any) -> None:
    assert calls_of([call(0, call_id="a", name="f", arguments=nothing)]) == [("a", "f", "{}")]


def test_arguments_given_as_an_object_become_text() -> None:
    ((_, _, arguments),) = calls_of([call(0, call_id="a", name="f", arguments={"city": "Łódź", "n": [1, None]})])
    assert json.loads(arguments) == {"city": "Łódź", "n": [1, None]}


def test_arguments_that_are_no_json_are_handed_on() -> None:
    assert calls_of([call(0, call_id="a", name="f", arguments="{not json")]) == [("a", "f", "{not json")]


def test_without_an_index_the_id_tells_the_calls_apart() -> None:
    found = calls_of(
        [call(None, call_id="a", name="f", arguments='{"x"')], [call(None, call_id="b", name="g", arguments="{")],
        [call(None, call_id="a", arguments=":1}")], [call(None, call_id="b", arguments="}")],
    )  # fmt: skip
    assert found == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


def test_without_index_and_id_a_lone_fragment_continues_the_call_before_it() -> None:
    found = calls_of([call(None, call_id="a", name="f", arguments="")], [call(None, arguments="{")],
                     [call(None, arguments="}")])  # fmt: skip
    assert found == [("a", "f", "{}")]


def test_without_an_index_an_id_may_follow_its_name() -> None:
    assert calls_of([call(None, name="f")], [call(None, call_id="a", arguments="{}")]) == [("a", "f", "{}")]


def test_without_index_and_id_whole_calls_are_told_apart() -> None:
    whole = [call(None, name="f", arguments='{"x":1}')]
    assert calls_of(whole, [call(None, name="g")], [call(None, name="f", arguments='{"x":2}')], whole) == [
        ("", "f", '{"x":1}'), ("", "g", "{}"), ("", "f", '{"x":2}'), ("", "f", '{"x":1}'),
    ]  # fmt: skip


def test_without_index_and_id_the_place_in_the_delta_tells_the_calls_apart() -> None:
    found = calls_of([call(None, name="f", arguments="{"), call(None, name="g", arguments='{"y":')],
                     [call(None, arguments="}"), call(None, arguments="2}")])  # fmt: skip
    assert found == [("", "f", "{}"), ("", "g", '{"y":2}')]


def test_two_ids_under_one_index_are_two_calls() -> None:
    found = calls_of(
        [call(0, call_id="a", name="f", arguments="{}")], [call(0, call_id="b", name="f", arguments="{")],
        [call(0, arguments="}")],
    )  # fmt: skip
    assert found == [("a", "f", "{}"), ("b", "f", "{}")]


@pytest.mark.requirement("CHAT-04")
@given(
    st.lists(st.tuples(st.text("abc_", min_size=1, max_size=6), st.text(max_size=12)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.integers(0, 1),
)
def test_indexed_calls_survive_any_cut_and_any_interleaving(calls: list[tuple[str, str]], rnd: Any, first: int) -> None:
    queues = []
    for index, (name, text) in enumerate(calls, start=first):
        arguments = json.dumps({"t": text}, ensure_ascii=False)
        cut = rnd.randint(0, len(arguments))
        head = [call(index, call_id=f"id{index}"), call(index, name=name)]
        rnd.shuffle(head)
        queues.append([*head, call(index, arguments=arguments[:cut]), call(index, arguments=arguments[cut:])])
    stream = []
    while queues := [queue for queue in queues if queue]:
        stream.append(rnd.choice(queues).pop(0))
    found = calls_of(*([fragment] for fragment in stream))
    assert [(name, json.loads(arguments)) for _, name, arguments in found] == [(n, {"t": t}) for n, t in calls]
    assert [given for given, _, _ in found] == [f"id{i + first}" for i in range(len(calls))]
