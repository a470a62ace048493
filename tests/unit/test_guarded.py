"""Which arguments fit a task."""

from typing import Any

import pytest

from workers.guarded import MOST_WORD, misfit

pytestmark = pytest.mark.requirement("RUN-20")


def task(value: Any = None, *, run_id: str, token: str, **later: Any) -> None:
    """Stand for the service's tasks."""


GOOD: dict[str, Any] = {"run_id": "run-1", "token": "t"}


@pytest.mark.parametrize("args", [(), (1,), ({"any": ["thing"]},)])
def test_what_fits_is_taken_and_a_later_release_s_words_too(args: tuple[Any, ...]) -> None:
    assert misfit(task, args, GOOD | {"from_a_later_release": 1}) is None


@pytest.mark.parametrize(
    ("args", "changed", "code"),
    [
        ((1, 2), {}, "bad_arguments"),
        ((), {"token": None}, "bad_arguments"),
        ((), {"token": ["t"]}, "bad_arguments"),
        ((), {"token": "t" * (MOST_WORD + 1)}, "bad_arguments"),
        ((), {"token": "\ud800"}, "bad_arguments"),
        ((), {"run_id": 5}, "bad_arguments"),
        ((), {"run_id": "fw:{x}:lease"}, "bad_run_id"),
        ((), {"run_id": "a\n"}, "bad_run_id"),
        ((), {"run_id": ""}, "bad_run_id"),
    ],
)
def test_what_does_not_fit_has_a_code_and_words_without_content(
    args: tuple[Any, ...], changed: dict[str, Any], code: str
) -> None:
    refused = misfit(task, args, GOOD | changed)
    assert refused is not None
    assert refused.reason == code
    assert "fw:" not in str(refused)


def test_a_missing_argument_does_not_fit() -> None:
    refused = misfit(task, (), {"run_id": "run-1"})
    assert refused is not None
    assert refused.reason == "bad_arguments"
