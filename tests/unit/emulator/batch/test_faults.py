"""Faults of batches: how they are spelled, which errors they answer with, and whom rules mean."""

import json

import pytest
from pydantic import ValidationError

from workers.emulator.batch import BatchConfig, BatchRule, BatchWhen
from workers.emulator.batch.faults import GUIDE, parse_batch_faults
from workers.emulator.faults import FaultSyntax

pytestmark = pytest.mark.requirement("EMU-04")

ARGUMENTS = {
    "slow": "0.5",
    "upload_cut": "100",
    "download_cut": "100",
    "url_expires": "5",
    "slow_ready": "30",
    "states": "RUNNING:5/COMPLETED",
    "stuck": "PENDING",
    "fail_job": "INTERNAL",
    "expire_after": "60",
    "rows_done": "50%",
    "fail_rows": "3",
    "fail_code": "SERVER_ERROR",
    "miss_rows": "row-*",
    "corrupt_rows": "1%",
    "double_rows": "2",
    "both_rows": "2",
    "output_after": "60",
    "times": "2",
}


@pytest.mark.parametrize("name", GUIDE)
def test_every_fault_of_the_guide_exists(name: str) -> None:
    argument = ARGUMENTS.get(name)
    faults = parse_batch_faults([f"{name}={argument}" if argument else name])
    assert faults != parse_batch_faults([])


@pytest.mark.parametrize(
    ("status", "code"),
    [("400", 3), ("404", 5), ("409", 6), ("412", 9), ("429", 8), ("500", 13), ("501", 12), ("503", 14), ("504", 4)],
)
def test_a_status_has_the_code_of_the_control_plane(status: str, code: int) -> None:
    reply = parse_batch_faults([status]).reply("request-1")
    assert reply is not None
    body = json.loads(reply.text)
    assert (reply.status, body["code"], body["details"]) == (int(status), code, [])


@pytest.mark.parametrize("status", ["401", "402", "403"])
def test_a_key_is_refused_in_the_gateways_shape(status: str) -> None:
    reply = parse_batch_faults([status]).reply("request-1")
    assert reply is not None
    assert (reply.status, json.loads(reply.text)["request_id"]) == (int(status), "request-1")


@pytest.mark.parametrize("status", ["408", "413", "502", "520"])
def test_the_front_end_answers_with_a_page(status: str) -> None:
    reply = parse_batch_faults([status]).reply("request-1")
    assert reply is not None
    assert (reply.status, reply.content_type) == (int(status), "text/html")


def test_a_shape_can_be_asked_for() -> None:
    reply = parse_batch_faults(["503", "error_shape=E4"]).reply("request-1")
    assert reply is not None
    assert (reply.status, isinstance(json.loads(reply.text)["error"], str)) == (503, True)


def test_the_storage_answers_in_xml() -> None:
    reply = parse_batch_faults(["429=30"]).reply("request-1", storage=True)
    assert reply is not None
    assert (reply.content_type, reply.headers) == ("application/xml", {"retry-after": "30"})
    assert "<Code>SlowDown</Code>" in reply.text


@pytest.mark.parametrize(
    "spec",
    [
        *("exploding", "fail_rows", "late=1", "slow=-1", "slow=nan", "upload_cut=1.5", "rows_done=row-*", "stuck="),
        *("states=RUNNING/COMPLETED", "states=RUNNING:5", "error_shape=E9", "times=x", "times=-1"),
        *("fail_rows=101%", "rows_done=nan%"),
    ],
)
def test_a_misspelt_fault_is_refused(spec: str) -> None:
    with pytest.raises(FaultSyntax):
        parse_batch_faults([spec])


def test_rules_are_checked_when_they_are_made() -> None:
    with pytest.raises(ValidationError, match="exploding"):
        BatchRule(faults=("exploding",))
    with pytest.raises(ValidationError, match="times belongs beside"):
        BatchRule(faults=("drop", "times=1"))
    with pytest.raises(ValidationError):
        BatchRule(when=BatchWhen.model_validate({"operation": "explode"}))
    with pytest.raises(ValidationError, match="but the last"):
        BatchConfig(states="RUNNING/COMPLETED")
    with pytest.raises(ValidationError, match="final"):
        BatchConfig(usable_outputs=frozenset({"RUNNING"}))
    with pytest.raises(ValidationError, match="regular expression"):
        BatchConfig(id_pattern="(")


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (BatchWhen(), True),
        (BatchWhen(operation="create_job"), True),
        (BatchWhen(operation="get_job"), False),
        (BatchWhen(operation=("get_job", "create_job")), True),
        (BatchWhen(account="acct"), True),
        (BatchWhen(account="other"), False),
        (BatchWhen(job="job-*"), True),
        (BatchWhen(job="night-*"), False),
        (BatchWhen(dataset="in-?"), True),
        (BatchWhen(file="*.jsonl"), False),
        (BatchWhen(model="small"), True),
        (BatchWhen(model="a/small"), True),
        (BatchWhen(model="mall"), False),
    ],
)
def test_a_rule_holds_if_all_its_conditions_do(when: BatchWhen, *, holds: bool) -> None:
    facts = {"account": "acct", "job": "job-7", "dataset": "in-1", "model": "a/small"}
    assert when.holds("create_job", facts) is holds
