"""Lists: filters, order, pages, read masks (WIRE 3.1)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.emulator.batch.listing import masked, page, read_query
from workers.emulator.errors import Refused

pytestmark = pytest.mark.requirement("EMU-01")

JOBS: list[dict[str, Any]] = [
    {
        "name": f"accounts/a/batchInferenceJobs/job-{number}",
        "state": "JOB_STATE_RUNNING" if number % 2 else "JOB_STATE_COMPLETED",
        "createTime": f"2026-11-01T10:00:{number:02d}.000000Z",
        "exampleCount": str(number * 7),
        "waitingOnCapacity": number == 3,
        "status": {"code": "OK", "message": ""},
    }
    for number in range(12)
]


def _names(**query: str) -> list[str]:
    shown, _, _ = page(JOBS, read_query(query, order="created_time"))
    return [each["name"].rpartition("-")[2] for each in shown]


def _says(**query: str) -> str:
    with pytest.raises(Refused) as caught:
        page(JOBS, read_query(query, order="created_time"))
    body = json.loads(caught.value.reply.text)
    assert (caught.value.reply.status, body["code"]) == (400, 3)
    return str(body["message"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", 12),
        ('state="JOB_STATE_RUNNING"', 6),
        ("state = JOB_STATE_RUNNING", 6),
        ("state != 'JOB_STATE_RUNNING'", 6),
        ('state="JOB_STATE_RUNNING" AND create_time > "2026-11-01T10:00:05.000000Z"', 3),
        ('createTime<="2026-11-01T10:00:02.000000Z"', 3),
        ("example_count >= 70", 2),
        ("exampleCount < 14", 2),
        ('name:"job-1"', 3),
        ("waiting_on_capacity=true", 1),
        ('status.code="OK"', 12),
        ('name="a \\" quote"', 0),
    ],
)
def test_a_filter_chooses(text: str, found: int) -> None:
    shown, _, total = page(JOBS, read_query({"filter": text}, order="name"))
    assert len(shown) == total == found


@pytest.mark.parametrize(
    "text", ["state", "state=", "colour=red", "state=A OR state=B", "state=A AND", "NOT state=A", "(state=A)", "a.b=1"]
)
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    assert _says(filter=text).startswith("invalid filter")


def test_a_bad_filter_is_bad_whatever_is_in_the_list() -> None:
    assert _says(filter="state=NOTHING AND colour=red").startswith("invalid filter")


def test_order_is_by_fields_each_up_or_down() -> None:
    assert _names(orderBy="create_time desc")[:3] == ["11", "10", "9"]
    assert _names(orderBy="state, createTime desc")[:7] == ["10", "8", "6", "4", "2", "0", "11"]
    assert _names(order_by="example_count") == [str(number) for number in range(12)]
    assert _says(orderBy="colour").startswith("invalid order_by")
    assert _says(orderBy="state sideways").startswith("invalid order_by")


def test_a_page_has_fifty_unless_asked_and_two_hundred_at_most() -> None:
    assert read_query({}, order="name").size == 50
    assert read_query({"pageSize": "0"}, order="name").size == 50
    assert read_query({"page_size": "7"}, order="name").size == 7
    assert read_query({"pageSize": "1000"}, order="name").size == 200
    assert _says(pageSize="-1").startswith("invalid page_size")


def test_the_other_parameters_must_stay_the_same() -> None:
    _, token, _ = page(JOBS, read_query({"pageSize": "5", "filter": "state:RUN"}, order="name"))
    assert _says(pageToken=token).startswith("invalid page_token")
    assert _says(pageToken="%%%").startswith("invalid page_token")
    assert _says(pageToken="W10").startswith("invalid page_token")


def test_the_page_size_may_change_and_unknown_parameters_do_nothing() -> None:
    _, token, _ = page(JOBS, read_query({"pageSize": "5", "colour": "red"}, order="name"))
    rest, token, _ = page(JOBS, read_query({"pageSize": "50", "pageToken": token}, order="name"))
    assert (len(rest), token) == (7, "")


def test_what_comes_and_goes_between_pages_moves_nothing_else() -> None:
    query = {"pageSize": "4", "orderBy": "create_time"}
    first, token, _ = page(JOBS, read_query(query, order=""))
    left = [each for each in JOBS if not each["name"].endswith(("-1", "-5"))]
    second, token, _ = page(left, read_query(query | {"pageToken": token}, order=""))
    assert [each["name"][-1] for each in first + second] == ["0", "1", "2", "3", "4", "6", "7", "8"]


@given(st.integers(0, 60), st.integers(1, 12), st.sampled_from(["name", "value desc", "value,name desc"]))
def test_pages_one_after_the_other_are_the_whole_list(total: int, size: int, order: str) -> None:
    everything = [{"name": f"n{number:02d}", "value": str(number % 5)} for number in range(total)]
    whole, _, _ = page(everything, read_query({"pageSize": "200", "orderBy": order}, order=""))
    shown, token = [], ""
    for _ in range(max(1, -(-total // size))):
        part, token, count = page(
            everything, read_query({"pageSize": str(size), "orderBy": order, "pageToken": token}, order="")
        )
        assert count == total
        shown += part
    assert (shown, token) == (whole, "")


def test_a_mask_shows_its_fields_only() -> None:
    assert masked(JOBS[0], "state, create_time") == {
        "state": "JOB_STATE_COMPLETED",
        "createTime": "2026-11-01T10:00:00.000000Z",
    }
    assert masked(JOBS[0], "") == masked(JOBS[0], "*") == JOBS[0]
    with pytest.raises(Refused, match="read_mask"):
        masked(JOBS[0], "colour")
