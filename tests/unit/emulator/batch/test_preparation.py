"""The files of a job: what is in them, in which order, and how much of them at which row."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.emulator.batch.batching import (
    MADE,
    error_lines,
    finish,
    make_job,
    output_lines,
    rows,
)

pytestmark = pytest.mark.requirement("EMU-06")


def test_every_row_is_answered_in_an_order_of_its_own(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(20))
    finish(job)
    ids = [line["custom_id"] for line in output_lines(job)]
    assert sorted(ids) == sorted(row["custom_id"] for row in rows(20))
    assert ids != [row["custom_id"] for row in rows(20)]
    assert error_lines(job) == []


def test_answers_carry_the_virtual_time_at_which_they_are_told(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(10))
    finish(job)
    assert [line["response"]["created"] - int(MADE) for line in output_lines(job)] == [
        90 + 10 * place for place in range(1, 11)
    ]


@pytest.mark.requirement("EMU-04")
def test_rows_are_spoilt_as_asked(tmp_path: Path) -> None:
    spoil = ("fail_rows=2", "fail_code=SERVER", "miss_rows=3", "corrupt_rows=1", "double_rows=1", "both_rows=1")
    job = make_job(tmp_path, rows(40), *spoil)
    finish(job)
    lines, errors = output_lines(job), error_lines(job)
    ids = [line["custom_id"] for line in lines if line]
    assert lines.count(None) == 1
    assert len(ids) - len(set(ids)) == 1
    assert len(errors) == 3
    assert len({line["custom_id"] for line in errors} & set(ids)) == 1
    assert {line["error"]["code"] for line in errors} == {"SERVER"}
    assert 40 - len(set(ids)) == 2 + 3 + 1
    totals = job.preparation.ledger.totals(40)
    assert (totals.succeeded, totals.failed, totals.lines) == (35, 2, 36)


def test_an_error_key_that_is_null_can_be_had(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(1), "null_error")
    finish(job)
    assert output_lines(job)[0]["error"] is None


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 25), st.integers(0, 8), st.integers(0, 8), st.integers(0, 8))
def test_the_beginning_of_the_files_is_what_was_done_by_then(
    total: int, failed: int, missing: int, doubled: int
) -> None:
    spoil = (f"fail_rows={failed}", f"miss_rows={missing}", f"double_rows={doubled}")
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(Path(folder), rows(total), *spoil)
        finish(job)
        output, errors = job.preparation.output.read_bytes(), job.preparation.errors.read_bytes()
        for done in range(total + 1):
            totals = job.preparation.ledger.totals(done)
            told = [json.loads(line) for line in output[: totals.output_bytes].splitlines()]
            bad = [json.loads(line) for line in errors[: totals.error_bytes].splitlines()]
            usage = {line["custom_id"]: line["response"]["usage"] for line in told}
            assert (len(told), len(usage), len(bad)) == (totals.lines, totals.succeeded, totals.failed)
            assert sum(each["prompt_tokens"] for each in usage.values()) == totals.input_tokens
            assert sum(each["completion_tokens"] for each in usage.values()) == totals.output_tokens
        assert (totals.output_bytes, totals.error_bytes) == (len(output), len(errors))


def test_what_a_job_will_never_tell_is_not_answered(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(10), "rows_done=30%")
    finish(job)
    assert job.preparation.answered == len(output_lines(job)) == 3


def test_work_is_done_in_slices(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(10))
    slices = 0
    while job.preparation.work(0):
        slices += 1
        told = job.preparation.ledger.totals(job.preparation.answered)
        if job.preparation.answered:
            assert job.preparation.output.stat().st_size == told.output_bytes
    assert slices == 20  # each row is looked through, and answered
    assert job.preparation.answered == 10


def test_what_was_given_up_does_not_go_on(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(10))
    for _ in range(13):
        job.preparation.work(0)
    job.preparation.stop()
    assert not job.preparation.work(60)
    assert job.preparation.answered == 3


def test_another_job_can_take_over_what_did_not_succeed(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(20), "fail_rows=3", "miss_rows=2")
    finish(job)
    succeeded = {line["custom_id"] for line in output_lines(job)[:8]}
    done = next(count for count in range(21) if job.preparation.ledger.totals(count).succeeded == 8)
    left = job.preparation.unsettled(done)
    source = job.preparation.input_files[0].path.read_bytes()
    ids = [json.loads(source[offset:].split(b"\n", 1)[0])["custom_id"] for offset in left]
    assert ids == [row["custom_id"] for row in rows(20) if row["custom_id"] not in succeeded]


def test_a_text_that_utf_8_cannot_hold_is_escaped(tmp_path: Path) -> None:
    lines = rows(1)
    lines[0]["custom_id"] = "row-\ud800"
    job = make_job(tmp_path, lines)
    finish(job)
    assert output_lines(job)[0]["custom_id"] == "row-\ud800"


def test_nothing_is_left_of_a_job_that_is_removed(tmp_path: Path) -> None:
    job = make_job(tmp_path, rows(3))
    finish(job)
    job.preparation.remove(keep_output=True)
    assert (job.preparation.output.exists(), (tmp_path / "private").exists()) == (True, False)
    job.preparation.remove(keep_output=False)
    assert not job.preparation.output.exists()
