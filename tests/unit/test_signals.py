"""What may be said to a run, and what is refused where it is said."""

from typing import Any

import pytest

from api_contracts.failure import SignalRefused
from api_contracts.runs import SignalType
from api_contracts.signals import MOST_BYTES, SIGNALS, checked_signal, taken_apart

pytestmark = pytest.mark.requirement("RUN-06")

GOOD: dict[SignalType, dict[str, Any]] = {
    "cancel": {"reason": "enough", "by": "ann"},
    "interrupt": {},
    "tool_result": {"call_id": "1.0", "token": "t", "ok": True, "value": [0, False, None]},
    "approve": {"call_id": "1.0"},
    "reject": {"call_id": "1.0", "reason": "too dear"},
    "update_settings": {"settings": {"temperature": 0}},
}
SECRET = "sk-do-not-repeat-me"


@pytest.mark.parametrize("kind", SIGNALS)
def test_each_of_the_six_signals_is_taken(kind: SignalType) -> None:
    checked_signal(kind, GOOD[kind], "id-1")
    assert taken_apart("run-1", {"type": kind, "id": "id-1", **GOOD[kind]}) == ("run-1", kind, GOOD[kind], "id-1")


@pytest.mark.parametrize("kind", ["", "retry", "conflict", "batch_state", "CANCEL", None, 5, ["cancel"], {}])
def test_what_is_none_of_them_is_refused_also_what_the_service_says_to_itself(kind: Any) -> None:
    with pytest.raises(SignalRefused, match="there is no such signal"):
        checked_signal(kind, {})


@pytest.mark.parametrize(
    ("kind", "data", "word"),
    [
        ("cancel", [], "a list, not a JSON object"),
        ("cancel", {"reason": 5}, "cancel.reason"),
        ("cancel", {"reason": "x" * 2001}, "cancel.reason"),
        ("cancel", {SECRET: 1}, "cancel.?: Extra inputs are not permitted"),
        ("cancel", {"reason": "x" * (1 << 20)}, f"at most {MOST_BYTES}"),
        ("cancel", {"reason": "\ud800"}, "cannot be written as JSON: UnicodeEncodeError"),
        ("tool_result", {"call_id": "1.0"}, "tool_result.token"),
        ("tool_result", {"call_id": ["1.0"], "token": "t"}, "tool_result.call_id"),
        ("tool_result", {"call_id": "1.0", "token": "t", "ok": "yes"}, "tool_result.ok"),
        ("tool_result", {"call_id": "1.0", "token": "t", "value": float("nan")}, "cannot be written as JSON"),
        ("tool_result", {"call_id": "1.0", "token": "t", "value": {1, 2}}, "cannot be written as JSON: TypeError"),
        ("approve", {}, "approve.call_id"),
        ("reject", {"call_id": ""}, "reject.call_id"),
        ("update_settings", {"settings": {}}, "update_settings.settings"),
        ("update_settings", {"settings": [SECRET]}, "update_settings.settings"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_a_precise_word_that_repeats_nothing(
    kind: str, data: Any, word: str
) -> None:
    with pytest.raises(SignalRefused) as refused:
        checked_signal(kind, data)
    assert word in str(refused.value)
    assert SECRET not in str(refused.value)
    assert len(str(refused.value)) <= 2000


def test_data_nested_without_end_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(SignalRefused, match="cannot be written as JSON"):
        checked_signal("update_settings", {"settings": deep})


@pytest.mark.parametrize("signal_id", [5, None, "x" * 257, "\ud800"])
def test_an_id_that_is_none_is_refused(signal_id: Any) -> None:
    with pytest.raises(SignalRefused, match="the id of a signal"):
        checked_signal("cancel", {}, signal_id)


@pytest.mark.parametrize("signal", [None, "cancel", 5, [], [("type", "cancel")], {}, {"type": None}])
def test_a_message_that_holds_no_signal_is_refused(signal: Any) -> None:
    with pytest.raises(SignalRefused):
        taken_apart("run-1", signal)
