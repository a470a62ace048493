"""What the scripts are given, and what is made of their replies."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

import api_contracts.client
import workers.adapters.redis
from api_contracts.client.scripts import (
    REQUEST_BLOB,
    SPILL_BYTES,
    ScriptCall,
    canonical,
    digest_of,
    load,
    signal_call,
    spill,
    submit_call,
)
from api_contracts.runs import RunQueued
from workers.adapters.redis.scripts import unsettled

TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
REQUESTS = st.dictionaries(TEXT, JSON, max_size=4)

# What stands around the text in `{"a":""}`.
AROUND = 8

SCRIPTS = [
    (package.__name__, path.stem)
    for package in (api_contracts.client, workers.adapters.redis)
    for path in sorted(Path(str(package.__file__)).parent.glob("*.lua"))
    if path.stem != "index"  # a part of the others
]


def queued(request: dict[str, Any] | None) -> RunQueued:
    return RunQueued(kind="chat", digest="d", request=request)


@given(REQUESTS)
def test_a_request_has_one_digest_whatever_the_order_of_its_fields(request: dict[str, Any]) -> None:
    turned = dict(reversed(list(request.items())))
    assert digest_of(request) == digest_of(turned)
    assert re.fullmatch(r"[0-9a-f]{32}", digest_of(request))
    assert json.loads(canonical(request)) == request


@pytest.mark.requirement("RUN-01")
def test_requests_that_differ_anywhere_have_different_digests() -> None:
    requests: list[dict[str, Any]] = [
        {}, {"a": None}, {"a": 0}, {"a": False}, {"a": ""}, {"a": "0"}, {"a": []}, {"a": [0]}, {"a": {"b": 0}},
        {"b": 0}, {"a": "ä"}, {"a": "a\u0308"}, {"a": 0, "b": 0},
    ]  # fmt: skip
    assert len({digest_of(request) for request in requests}) == len(requests)


@pytest.mark.requirement("RUN-01")
def test_the_digest_of_a_request_is_the_same_in_every_release() -> None:
    assert (
        digest_of({"model": "m", "messages": [{"role": "user", "content": "hé"}]}) == "65588a4597675482481f42fed20189f9"
    )


@pytest.mark.requirement("RUN-25")
@pytest.mark.parametrize(("size", "spilled"), [(AROUND, False), (SPILL_BYTES, False), (SPILL_BYTES + 2, True)])
def test_a_request_is_spilled_when_its_utf8_is_over_64_kb(size: int, spilled: bool) -> None:
    given = queued({"a": "é" * ((size - AROUND) // 2)})
    event, text = spill(given)
    if not spilled:
        assert (event, text) == (given, None)
        return
    assert text == canonical(given.request or {})
    assert (event.request, event.request_blob) == (None, REQUEST_BLOB)
    assert event.digest == given.digest
    assert len(event.to_json()) < 1000


def test_a_request_that_is_already_elsewhere_is_left_there() -> None:
    event = queued(None).model_copy(update={"request_blob": REQUEST_BLOB})
    assert spill(event) == (event, None)


@given(st.sampled_from("0aZ"), st.floats(0.001, 1e7), st.floats(0.001, 1e7))
def test_durations_reach_the_scripts_as_whole_milliseconds(last: str, look_s: float, ttl_s: float) -> None:
    run_id = f"run-{last}"
    submit = submit_call(run_id, queued({}), None, first_look_s=look_s, ttl_s=ttl_s)
    signal = signal_call(run_id, "cancel", {}, "", ttl_s=ttl_s)
    assert submit.args[-4:-2] == (int(look_s * 1000), int(ttl_s * 1000))
    assert signal.args[-2:] == (int(ttl_s * 1000), run_id)


def test_a_call_names_keys_of_one_run_only() -> None:
    submit = submit_call("run-x", queued({}), "blob", first_look_s=1, ttl_s=1)
    signal = signal_call("run-x", "cancel", {}, "", ttl_s=1)
    of_run = ("fw:{x}:run-x:events", "fw:{x}:run-x:lease", "fw:{x}:due", "fw:{x}:run-x:blob:0")
    assert submit.keys == (*of_run, "fw:{x}:waiting:fireworks.chat")
    assert signal.keys == ("fw:{x}:run-x:lease", "fw:{x}:run-x:inbox", "fw:{x}:due")


@given(REQUESTS)
def test_the_data_of_a_signal_is_json(data: dict[str, Any]) -> None:
    call = signal_call("run-x", "tool_result", data, "id", ttl_s=1)
    assert (call.args[0], json.loads(str(call.args[1])), call.args[2]) == ("tool_result", data, "id")


@pytest.mark.parametrize(("package", "name"), SCRIPTS)
def test_a_script_touches_no_key_that_it_was_not_given(package: str, name: str) -> None:
    code = re.sub(r"--.*", "", load(package, name))
    touched = re.findall(r"redis\.call\('([A-Z]+)'(?:, ([^,)]+))?", code)
    assert touched
    for command, key in touched:
        assert command == "TIME" or re.fullmatch(r"KEYS\[\w+\]", key), (command, key)
    assert "fw:" not in code


@pytest.mark.parametrize(("package", "name"), SCRIPTS)
def test_a_script_says_what_it_takes(package: str, name: str) -> None:
    text = load(package, name)
    assert text.startswith("-- ")
    assert re.search(r"^-- KEYS .+(\n-- )?ARGV .+$", text, re.MULTILINE)


def calls(*runs: str) -> list[ScriptCall]:
    return [ScriptCall("script", (f"lease of {run}", "due"), ()) for run in runs]


def test_with_every_reply_in_nothing_is_left_to_send() -> None:
    assert unsettled(calls("a", "b"), [b"ok", [b"lost"]], (NoScriptError,)) == []


def test_what_an_error_stopped_is_sent_again_with_all_that_follows_in_the_same_run() -> None:
    forgotten = NoScriptError()
    replies = [b"ok", forgotten, b"ok", [b"gap"], b"ok", forgotten]
    assert unsettled(calls("a", "b", "c", "b", "a", "c"), replies, (NoScriptError,)) == [1, 3, 5]


def test_other_errors_are_replies() -> None:
    assert unsettled(calls("a", "a"), [RedisConnectionError(), b"ok"], (NoScriptError,)) == []
