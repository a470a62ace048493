"""How a tool of another service says that it failed (`client.envelope`)."""

from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, Retry

from api_contracts.client.envelope import opened, tool_errors

pytestmark = pytest.mark.requirement("TOOL-08")


@tool_errors
def divide(a: int, b: int) -> float:
    """Divide."""
    return a / b


def test_what_a_tool_raises_comes_back_as_an_envelope() -> None:
    assert opened(divide(1, 0), "result") == {"ok": False, "detail": "ZeroDivisionError: division by zero"}


def test_a_result_passes_as_it_is() -> None:
    assert divide(1, b=2) == 0.5
    assert opened(0.5, "result") == {"ok": True, "value": 0.5}
    assert (divide.__name__, divide.__doc__) == ("divide", "Divide.")


@pytest.mark.requirement("TOOL-09")
@pytest.mark.parametrize("value", [0, False, [], {}, "", None])
def test_falsy_values_are_results(value: Any) -> None:
    assert opened(value, "result") == {"ok": True, "value": value}


@pytest.mark.parametrize(
    "value",
    [
        {"fireworks_tool_error": "text"},
        {"fireworks_tool_error": {"type": "E", "message": "m"}, "more": 1},
        {"error": {"type": "E"}},
        [{"fireworks_tool_error": {}}],
    ],
)
def test_only_a_whole_envelope_is_an_envelope(value: Any) -> None:
    assert opened(value, "result") == {"ok": True, "value": value}


def test_a_failed_task_is_pointed_to_by_its_id() -> None:
    assert opened("task-1", "error") == {"ok": False, "detail": "failed, see task task-1 in the tool's service"}


@pytest.mark.parametrize("signal", [Retry(), Ignore(), Reject()])
def test_what_is_celerys_own_passes(signal: Exception) -> None:
    @tool_errors
    def retrying() -> None:
        raise signal

    with pytest.raises(type(signal)):
        retrying()


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit()])
def test_the_end_of_the_process_is_no_failure_of_the_tool(end: BaseException) -> None:
    @tool_errors
    def ending() -> None:
        raise end

    with pytest.raises(type(end)):
        ending()


def test_a_long_story_is_cut() -> None:
    @tool_errors
    def telling() -> None:
        raise ValueError("x" * 10_000)

    assert len(opened(telling(), "result")["detail"]) < 2000
