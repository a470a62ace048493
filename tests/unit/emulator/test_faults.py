"""Faults: how they are spelled and which errors they answer with (WIRE 1.7)."""

import json

import pytest

from workers.emulator.faults import GUIDE, FaultSyntax, parse_faults, split_header

pytestmark = pytest.mark.requirement("EMU-04")

_STATUSES = "400 401 402 403 404 408 412 413 425 429 429deadline 500 502 503 503scaling 504 520"


@pytest.mark.parametrize("name", _STATUSES.split())
def test_every_status_has_a_reply(name: str) -> None:
    reply = parse_faults([name]).reply("request-1")
    assert reply is not None
    assert reply.status == int(name[:3])
    assert reply.text


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("401", "UNAUTHORIZED"),
        ("403", "UNAUTHORIZED"),
        ("429", "invalid_request_error"),
        ("503scaling", "DEPLOYMENT_SCALING_UP"),
    ],
)
def test_known_codes_are_in_the_bodies(name: str, code: str) -> None:
    reply = parse_faults([name]).reply("request-1")
    assert reply is not None
    assert json.loads(reply.text)["error"]["code"] == code


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("404", "not deployed"),
        ("429", "rate limit exceeded, please try again later"),
        ("429deadline", "Request didn't generate first token before the given deadline"),
        ("403", "The API key you provided is invalid."),
    ],
)
def test_known_messages_are_in_the_bodies(name: str, text: str) -> None:
    reply = parse_faults([name]).reply("request-1")
    assert reply is not None
    assert text in json.loads(reply.text)["error"]["message"]


def test_every_error_shape_can_be_had() -> None:
    replies = {
        shape: parse_faults([f"error_shape={shape}"]).reply("r") for shape in ("E1", "E2", "E3", "E4", "E5", "E6")
    }
    assert all(replies.values())
    found = {shape: reply.text for shape, reply in replies.items() if reply is not None}
    assert json.loads(found["E1"])["error"]["object"] == "error"
    assert json.loads(found["E2"])["request_id"] == "r"
    assert json.loads(found["E3"])["detail"][0]["loc"] == ["body"]
    assert json.loads(found["E4"])["error"] == "A fault"
    assert json.loads(found["E5"])["code"] == 5
    assert found["E6"].startswith("<html>")


def test_a_status_and_a_shape_combine() -> None:
    reply = parse_faults(["503", "error_shape=e4"]).reply("r")
    assert reply is not None
    assert reply.status == 503
    assert isinstance(json.loads(reply.text)["error"], str)


@pytest.mark.parametrize("specs", [["429=30"], ["429", "retry_after=30"], ["retry_after=30", "429"]])
def test_retry_after_can_be_asked_for_in_two_ways(specs: list[str]) -> None:
    reply = parse_faults(specs).reply("r")
    assert reply is not None
    assert reply.headers == {"retry-after": "30"}


def test_without_being_asked_there_is_no_retry_after() -> None:
    reply = parse_faults(["429"]).reply("r")
    assert reply is not None
    assert reply.headers == {}


def test_faults_that_disturb_have_no_reply() -> None:
    assert parse_faults(["crlf", "stall_after=3", "pace=2.5"]).reply("r") is None


@pytest.mark.parametrize(
    "spec",
    ["boom", "crlf=1", "stall_after", "stall_after=x", "cut_after=-1", "pace=nan", "error_shape=E7", "finish_reason"],
)
def test_a_misspelt_fault_is_refused(spec: str) -> None:
    with pytest.raises(FaultSyntax):
        parse_faults([spec])


def test_a_header_holds_several() -> None:
    assert split_header(" 429=1 , ,crlf") == ["429=1", "crlf"]


def test_every_fault_of_the_guide_is_understood() -> None:
    for name in GUIDE:
        specs = (name, f"{name}=1")
        assert any(_understood(spec) for spec in specs), name


def _understood(spec: str) -> bool:
    try:
        parse_faults([spec])
    except FaultSyntax:
        return False
    return True
