"""Reading list entries: anything at all is a message or a reason, and a message is one that Celery can take."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import Channel

from workers.transport.envelope import Undecodable, glimpse, read_entry
from workers.transport.letters import MAX_ENTRY_BYTES, Letter, Refused, written

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def decode(body: str, encoding: str | None) -> Any:
    return Channel.codecs[encoding].decode(body) if encoding and encoding != "utf-8" else body


def envelope() -> dict[str, Any]:
    return {
        "body": base64.b64encode(b"[[], {}, null]").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "task": "a.task",
            "id": "an-id",
            "eta": None,
            "expires": None,
            "timelimit": [None, 5],
            "retries": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "delivery_tag": "tag",
            "delivery_info": {"exchange": "", "routing_key": "q"},
            "body_encoding": "base64",
        },
    }


PATHS = [(key,) for key in envelope()] + [
    (outer, inner) for outer in ("headers", "properties") for inner in envelope()[outer]
]


def test_what_kombu_sends_is_read() -> None:
    assert read_entry(json.dumps(envelope()).encode(), decode) == envelope()


def test_a_message_without_a_task_need_only_be_an_envelope() -> None:
    reply = envelope()
    reply["headers"] = {"ticket": "t"}
    reply["body"] = base64.b64encode(b'{"node": {"ok": "pong"}}').decode()
    assert read_entry(json.dumps(reply).encode(), decode) == reply


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(entry: bytes) -> None:
    with pytest.raises(Undecodable):
        read_entry(entry, decode)


@given(path=st.sampled_from(PATHS), value=JSON)
def test_no_value_in_any_field_raises_anything_else(path: tuple[str, ...], value: Any) -> None:
    message = envelope()
    holder = message
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    try:
        read = read_entry(json.dumps(message).encode(), decode)
    except Undecodable:
        return
    assert {type(read["headers"]), type(read["properties"])} == {dict}
    assert isinstance(read["properties"]["delivery_tag"], str)


def test_a_letter_is_cut_and_says_how_long_its_entry_was() -> None:
    entry = b"\xff" + b"x" * MAX_ENTRY_BYTES
    assert json.loads(written(Letter("q", entry, len(entry)), Refused("malformed", "not JSON"), 1234)) == {
        "queue": "q", "code": "malformed", "reason": "not JSON", "at": 1234, "bytes": MAX_ENTRY_BYTES + 1,
        "entry": "\N{REPLACEMENT CHARACTER}" + "x" * (MAX_ENTRY_BYTES - 1),
    }  # fmt: skip


def test_the_name_of_a_message_that_is_too_large_is_found_at_its_ends() -> None:
    large = envelope() | {"body": "x" * 100_000}
    assert glimpse(json.dumps(large).encode()) == ("a.task", "an-id")
    assert glimpse(b"x" * 100_000) == ("", "")
