"""Jobs as the provider shows them: every state, every counter, and the way through the inbox."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.stt.test_messages import JSON
from workers.core.batch import jobs
from workers.core.batch.jobs import JobView, Progress, group_of, is_news, job_view, letter_of, signal_id, view_in
from workers.core.text import filterable

# WIRE 3.5, the response right after create, and a job at work.
RESOURCE: dict[str, Any] = {
    "name": "accounts/acct/batchInferenceJobs/job-1", "displayName": "nightly",
    "createTime": "2026-11-01T10:00:12.029803417Z", "expireTime": "2026-11-02T10:00:10.988342027Z",
    "state": "JOB_STATE_RUNNING", "status": {"code": "OK", "message": ""},
    "outputDatasetId": "accounts/acct/datasets/bij-n17xq2lh",
    "jobProgress": {
        "percent": 40, "epoch": 0, "totalInputRequests": 10, "totalProcessedRequests": 4,
        "successfullyProcessedRequests": 3, "failedRequests": 1, "outputRows": 3, "inputTokens": 47,
        "outputTokens": "12", "cachedInputTokenCount": 7,
    },
}  # fmt: skip

ALL_STATES = {
    "waiting": "VALIDATING PENDING CREATING CREATING_INPUT_DATASET CREATING_DEPENDENCIES UNSPECIFIED",
    "active": "RUNNING WRITING_RESULTS RE_QUEUEING IDLE PAUSED",
    "ending": "CANCELLING DELETING DELETING_CLEANING_UP EXPIRED_CLEANING_UP FAILED_CLEANING_UP",
    "usable": "COMPLETED EXPIRED EARLY_STOPPED",
    "void": "FAILED CANCELLED DELETED ARCHIVED",
    "unknown": "QUEUED completed BETTER_THAN_EVER",
}
"""WIRE 3.6."""


@pytest.mark.requirement("BATCH-06")
@pytest.mark.parametrize(("group", "state"), [(g, s) for g, states in ALL_STATES.items() for s in states.split()])
def test_every_state_has_its_group(group: str, state: str) -> None:
    assert group_of(f"JOB_STATE_{state}") == group_of(state) == group
    assert JobView("j", state).is_over == (group in ("usable", "void"))


@pytest.mark.requirement("BATCH-06")
def test_a_job_is_read_with_its_real_counters() -> None:
    assert job_view(RESOURCE) == JobView(
        job="job-1", state="RUNNING", progress=Progress(4, 3, 1, 47, 12, 7), output="bij-n17xq2lh",
        expires_at=pytest.approx(1793613610.988342),
    )  # fmt: skip


def test_a_job_that_has_just_been_created_has_counted_nothing() -> None:
    seen = job_view(RESOURCE | {"jobProgress": None, "state": "JOB_STATE_VALIDATING", "expireTime": None})
    assert (seen.state, seen.progress, seen.expires_at) == ("VALIDATING", Progress(), None)


def test_a_failure_has_its_reason() -> None:
    status = {"code": "INVALID_ARGUMENT", "message": "Dataset has a syntax error"}
    seen = job_view(RESOURCE | {"state": "JOB_STATE_FAILED", "status": status})
    assert (seen.group, seen.code, seen.message) == ("void", "INVALID_ARGUMENT", "Dataset has a syntax error")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from((*RESOURCE, "x")), JSON, max_size=5))
def test_whatever_is_in_a_resource_a_view_comes_out(resource: dict[str, Any]) -> None:
    seen = job_view(resource)
    assert view_in(json.loads(json.dumps(letter_of(1, seen)))) == (1, seen)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(("shard", "job", "state", "progress", "expires_at", "code")), JSON, max_size=6))
def test_whatever_is_in_a_letter_nothing_raises(data: dict[str, Any]) -> None:
    view_in(data)


def test_a_letter_without_shard_job_or_state_is_none() -> None:
    letter = letter_of(1, job_view(RESOURCE))
    assert view_in(letter) == (1, job_view(RESOURCE))
    for name in ("shard", "job", "state"):
        assert view_in({**letter, name: None}) is None
    assert view_in({**letter, "state": ""}) is None


def test_only_news_are_told() -> None:
    seen = job_view(RESOURCE)
    assert is_news(None, seen)
    assert not is_news(seen, seen)
    assert not is_news(seen, job_view(RESOURCE | {"expireTime": None}))
    assert is_news(seen, job_view(RESOURCE | {"state": "JOB_STATE_PENDING"}))
    assert is_news(seen, job_view(RESOURCE | {"jobProgress": None}))
    over = jobs.gone("job-1")
    assert is_news(over, over), "the end is told until it is heard"


def test_what_was_seen_has_one_id_whoever_saw_it() -> None:
    seen = job_view(RESOURCE)
    assert signal_id(1, seen) == signal_id(1, job_view({**RESOURCE, "displayName": "x"}))
    others = [seen, job_view(RESOURCE | {"state": "X"}), job_view(RESOURCE | {"jobProgress": None}), jobs.gone("job-1")]
    assert len({signal_id(shard, view) for view in others for shard in (1, 2)}) == 8


@pytest.mark.parametrize("stamp", [None, "", "yesterday", 5, "2026-13-01T00:00:00Z", [], "0001-01-01T00:00:00Z"])
def test_a_time_that_is_none_is_none(stamp: Any) -> None:
    assert jobs.seconds_of(stamp) is None


def test_text_that_cannot_be_stored_is_made_storable() -> None:
    assert filterable("a\0b\ud800c") == "a\ufffdb\ufffdc"
