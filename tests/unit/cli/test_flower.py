"""What Flower is kept from, what it remembers, and how `up` lets a stranger in."""

import socket
from typing import Any

import pytest

from api_contracts.failure import Failure, RunFailed, RunIsParked
from workers.cli.flowering.discretion import quiet_answer, quiet_error, quiet_event
from workers.cli.flowering.pages import TrueState
from workers.cli.upping import FLOWER_PORT, with_flower
from workers.errors import Misconfigured
from workers.settings import read_settings

REDIS = {"redis_url": "redis://127.0.0.1:1/0"}


@pytest.mark.requirement("OPS-03")
def test_an_event_keeps_what_it_is_about_and_loses_what_is_in_it() -> None:
    told = {"type": "task-received", "uuid": "1", "name": "weather.get", "hostname": "tools@here", "timestamp": 5.0}
    content = {"args": "('Oslo',)", "kwargs": "{'city': 'Oslo'}", "result": "'rain'", "traceback": "... 'Oslo'"}
    quiet = quiet_event(told | content | {"exception": "LookupError('no station in Oslo')"})
    assert {name: quiet[name] for name in told} == told
    assert "Oslo" not in str(quiet)
    assert "rain" not in str(quiet)
    assert quiet["exception"] == "LookupError, (in the worker's log)"
    empty = {"args": "()", "kwargs": "{}", "result": None, "traceback": "", "exception": None}
    assert quiet_event(told | empty) == told | empty


@pytest.mark.requirement("OPS-03", "RUN-26")
def test_the_reasons_that_are_made_to_be_shown_are_shown() -> None:
    failure = Failure(code="provider_overloaded", category="overloaded", message="Busy.", at_fault="provider")
    assert quiet_error(repr(RunFailed(failure))) == "RunFailed(provider_overloaded)"
    assert quiet_error(repr(RunIsParked("1 of 1 jobs"))) == "parked: 1 of 1 jobs"
    assert quiet_error("<odd 'Oslo'>") == "an error, (in the worker's log)"


@pytest.mark.requirement("OPS-03", "OPS-13")
def test_a_workers_answer_loses_arguments_and_passwords_at_any_depth() -> None:
    answer = {
        "active": [{"id": "1", "args": ["Oslo"], "kwargs": {"city": "Oslo"}}],
        "scheduled": [{"eta": None, "request": {"id": "2", "args": [], "kwargs": {"city": "Oslo"}}}],
        "conf": {
            "redbeat_redis_url": "redis://user:hunter2@redis:6379/0",
            "failover": ["amqp://a:hunter2@b//", "amqp://b//"],
            "beat_schedule": {"nightly": {"task": "fireworks.chat.complete", "kwargs": {"request": {"a": "Oslo"}}}},
        },
        "stats": {"pid": 1, "uptime": 1.5, "ssl": False},
    }
    quiet = quiet_answer(answer)
    assert "Oslo" not in str(quiet)
    assert "hunter2" not in str(quiet)
    assert quiet["conf"]["redbeat_redis_url"] == "redis://user:***@redis:6379/0"
    assert quiet["conf"]["beat_schedule"]["nightly"]["task"] == "fireworks.chat.complete"
    assert quiet["active"][0]["id"] == "1"
    assert quiet["scheduled"][0]["request"]["args"] == []
    assert quiet["stats"] == answer["stats"]


def told(state: TrueState, *events: tuple[str, float]) -> Any:
    for type_, at in events:
        named = {"name": "fireworks.batch.submit"} if type_ == "task-received" else {}
        fields = {"uuid": "run", "hostname": "batch@here", "timestamp": at, "clock": int(at), "local_received": at}
        state.event({"type": type_, **fields, **named})
    return state.tasks["run"].state


@pytest.mark.requirement("RUN-26")
def test_a_parking_that_is_told_late_does_not_undo_the_next_life() -> None:
    """It comes from another process than what followed; Celery's own state would stay RETRY for ever."""
    state = TrueState(max_tasks_in_memory=10)
    first = (("task-received", 1.0), ("task-started", 2.0))
    assert told(state, *first, ("task-received", 4.0), ("task-started", 5.0), ("task-retried", 3.0)) == "STARTED"
    assert told(state, ("task-succeeded", 6.0), ("task-retried", 5.5)) == "SUCCESS"


@pytest.mark.requirement("RUN-26")
def test_a_run_is_parked_and_awake_and_parked_again() -> None:
    state = TrueState(max_tasks_in_memory=10)
    assert told(state, ("task-received", 1.0), ("task-started", 2.0), ("task-retried", 3.0)) == "RETRY"
    assert told(state, ("task-received", 4.0)) == "RECEIVED"
    assert told(state, ("task-started", 5.0), ("task-retried", 6.0)) == "RETRY"
    assert told(state, ("task-received", 7.0), ("task-started", 7.1), ("task-revoked", 8.0)) == "REVOKED"


@pytest.mark.requirement("OPS-03", "OPS-17")
@pytest.mark.parametrize("given", ["operator", ":", "operator:", ":password", "a:b,", "a:b,c", "jörg:secret"])
def test_a_password_that_cannot_work_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(Misconfigured, match=r"^FW_FLOWER_AUTH: must be ") as refused:
        read_settings(**REDIS, flower_auth=given)
    assert given not in str(refused.value).removeprefix("FW_FLOWER_AUTH: must be user:password") or given == ":"


@pytest.mark.parametrize("given", ["", "a:b", "a:b:c", "a:b,c:d"])
def test_users_and_passwords_are_read(given: str) -> None:
    assert read_settings(**REDIS, flower_auth=given).flower_auth.get_secret_value() == given


@pytest.mark.requirement("OPS-01", "OPS-03")
def test_up_makes_a_password_where_none_is_given_and_shows_it() -> None:
    first, second = dict[str, str](), dict[str, str]()
    urls = with_flower(first), with_flower(second)
    assert first["FW_FLOWER_AUTH"] != second["FW_FLOWER_AUTH"]
    assert read_settings(**REDIS, flower_auth=first["FW_FLOWER_AUTH"]).flower_auth
    assert urls[0] == f"http://{first['FW_FLOWER_AUTH']}@127.0.0.1:{first['FW_FLOWER_PORT']}"


@pytest.mark.requirement("OPS-03")
def test_up_does_not_show_a_password_that_was_given() -> None:
    env = {"FW_FLOWER_AUTH": "operator:secret", "FW_FLOWER_PORT": "8555"}
    assert with_flower(env) == "http://127.0.0.1:8555"
    assert env == {"FW_FLOWER_AUTH": "operator:secret", "FW_FLOWER_PORT": "8555"}


def test_up_takes_another_port_when_flowers_own_is_taken() -> None:
    env: dict[str, str] = {}
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", FLOWER_PORT))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        with_flower(env)
    assert env["FW_FLOWER_PORT"] not in ("", str(FLOWER_PORT))
