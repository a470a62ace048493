"""The rules at the door: what is too large, too deep, no JSON or not signed is refused before anything reads it."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import kombu
import kombu.compression
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts.names import CHAT, DELIVER
from api_contracts.signing import HEADER, NO_KEYS, SigningKeys, sign
from workers import transport
from workers.transport.inspection import MAX_CONTAINERS, MAX_DEPTH, MAX_NAME, Arrived, Rules, shape_of
from workers.transport.letters import Refused

KEY, OLD_KEY = "a key of these tests that is long enough", "the key before it that is as long"
KEYS = SigningKeys((KEY, OLD_KEY))
BODY = json.dumps([[], {"request": {"model": "m"}}, {}]).encode()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def arrived(body: bytes = BODY, *, task: str = CHAT, task_id: str = "run-1", **headers: Any) -> Arrived:
    return Arrived({"task": task, "id": task_id, **headers}, {}, "application/json", body)


def signed(message: Arrived, key: str = KEY) -> Arrived:
    made = sign(message.headers["task"], message.headers["id"], message.body, key)
    return replace(message, headers={**message.headers, HEADER: made})


def refusal(message: Arrived, rules: Rules) -> str:
    with pytest.raises(Refused) as caught:
        rules.check(message)
    return caught.value.reason


SIGNED = Rules(keys=KEYS)
OPEN = Rules(keys=NO_KEYS)


def test_without_keys_an_unsigned_message_is_taken() -> None:
    OPEN.check(arrived())


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize("key", [KEY, OLD_KEY])
def test_every_key_is_accepted(key: str) -> None:
    SIGNED.check(signed(arrived(), key))


@pytest.mark.requirement("OPS-14")
def test_a_message_without_a_signature_is_refused() -> None:
    assert refusal(arrived(), SIGNED) == "unsigned"


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize(
    "forged",
    [
        signed(arrived(), "another key altogether"),
        replace(signed(arrived()), body=BODY.replace(b'"m"', b'"n"')),
        replace(signed(arrived()), body=BODY + b" "),
        arrived(task_id="run-2", **{HEADER: signed(arrived()).headers[HEADER]}),
        arrived(task=DELIVER, **{HEADER: signed(arrived()).headers[HEADER]}),
        arrived(**{HEADER: ""}),
        arrived(**{HEADER: "\N{SNOWMAN}"}),
        arrived(**{HEADER: 7}),
        arrived(task_id="run-1\nx", **{HEADER: sign("x", "y", BODY, KEY)}),
    ],
    ids=["key", "body", "space", "id", "task", "empty", "snowman", "number", "line break"],
)
def test_a_signature_holds_for_its_own_message_only(forged: Arrived) -> None:
    assert refusal(forged, SIGNED) == "bad_signature"


@pytest.mark.requirement("OPS-14")
def test_a_signature_is_told_before_the_body_is_read() -> None:
    assert refusal(arrived(b"{{{"), SIGNED) == "unsigned"
    assert refusal(arrived(b"[" * 100_000), SIGNED) == "unsigned"


@pytest.mark.requirement("OPS-14", "TOOL-03")
def test_a_tools_result_needs_no_signature_but_may_not_have_links() -> None:
    given = [["value"], {"run_id": "r", "call_id": "1.0", "token": "t", "outcome": "result"}]
    for embed in (None, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}):
        SIGNED.check(arrived(json.dumps([*given, embed]).encode(), task=DELIVER))
    for name in ("callbacks", "errbacks", "chain", "chord", "id"):
        linked = arrived(json.dumps([*given, {name: [{"task": CHAT}]}]).encode(), task=DELIVER)
        assert refusal(linked, SIGNED) == "unsigned"
        SIGNED.check(signed(linked))
        OPEN.check(linked)


@pytest.mark.requirement("OPS-14")
def test_a_large_body_is_refused_unread() -> None:
    rules = Rules(message_bytes=len(BODY))
    rules.check(arrived())
    assert refusal(arrived(BODY + b" "), rules) == "too_large"
    assert refusal(arrived(b"{" * 1000), rules) == "too_large"


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-yaml", "application/x-msgpack", "text/plain",
                     "application/json; charset=utf-8", "", None, 5],
)  # fmt: skip
def test_only_json_is_read(content_type: object) -> None:
    assert refusal(replace(arrived(), content_type=content_type), OPEN) == "not_json"


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize("kind", ["zlib", "bzip2", "application/x-lzma", "unheard-of", 1])
def test_what_says_that_it_is_compressed_is_not_read(kind: object) -> None:
    assert refusal(arrived(compression=kind), OPEN) == "compressed"


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize("depth", [MAX_DEPTH, 1_000, 100_000])
@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}")])
def test_a_deep_body_is_refused(depth: int, open_: str, close: str) -> None:
    body = f'[[], {{"request": {open_ * depth}1{close * depth}}}, null]'.encode()
    assert refusal(arrived(body), OPEN) == "too_deep"


@given(JSON | st.text(st.sampled_from('[]{}"\\ a'), max_size=30))
def test_lists_and_their_depth_are_counted_as_a_reader_would(value: object) -> None:
    def deep(each: object) -> tuple[int, int]:
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else None
        if inner is None:
            return 0, 0
        below = [deep(one) for one in inner]
        return 1 + sum(count for count, _ in below), 1 + max((depth for _, depth in below), default=0)

    wide = [value, ["[{"] * 3, [[]] * (MAX_DEPTH + 1)]
    assert shape_of(json.dumps(wide, ensure_ascii=False).encode()) == deep(wide)


@pytest.mark.requirement("OPS-14", "RUN-20")
@pytest.mark.parametrize("piece", ["[]", "{}", '["["]', '{"a":"]"}', '"\\"[",[[]]'])
def test_a_body_of_a_million_lists_is_refused_before_anyone_makes_them(piece: str) -> None:
    body = f"[[], {{}}, [{','.join([piece] * (MAX_CONTAINERS + 1))}]]".encode()
    assert refusal(arrived(body), OPEN) == "too_large"
    OPEN.check(arrived(f"[[{','.join([piece] * 1000)}], {{}}, null]".encode()))


@pytest.mark.requirement("OPS-14", "RUN-20")
def test_what_is_in_a_string_is_no_list() -> None:
    OPEN.check(arrived(json.dumps([[], {"request": "[" * (MAX_CONTAINERS + 1)}, {}]).encode()))


@pytest.mark.requirement("RUN-20")
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"id": "x" * (MAX_NAME + 1)}, "malformed"),
        ({"task": "x" * (MAX_NAME + 1)}, "malformed"),
        ({"shadow": "x" * 100_000}, "too_large"),
        ({"theirs": ["x"] * 100_000}, "too_large"),
        ({"stamps": {"x" * 100_000: 1}}, "too_large"),
    ],
)
def test_a_huge_head_is_refused(headers: dict[str, Any], reason: str) -> None:
    message = arrived()
    assert refusal(replace(message, headers={**message.headers, **headers}), OPEN) == reason
    OPEN.check(replace(message, headers={**message.headers, "theirs": "x" * 10_000}))


@given(headers=st.dictionaries(st.sampled_from(["task", "id", "eta", "timelimit", "retries", "stamps", HEADER]), JSON),
       body=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_nothing_that_arrives_raises_anything_else(headers: dict[str, Any], body: bytes) -> None:
    for rules in (OPEN, SIGNED):
        with suppress(Refused):
            rules.check(Arrived(headers, {}, "application/json", body))


@pytest.mark.requirement("OPS-14")
@pytest.mark.parametrize("kind", sorted(kombu.compression.encoders()))
def test_nothing_is_decompressed_on_its_way_in(kind: str) -> None:
    """kombu would do it as it makes the message, before anyone can look; what is sent may still be compressed."""
    transport.install()
    small, _ = kombu.compression.compress(bytes(2**20), kind)
    message = kombu.Message(body=small, headers={"compression": kind})
    assert message.body == small
    assert message.errors


def test_keys_do_not_show_in_any_text() -> None:
    assert KEY not in f"{KEYS!r} {KEYS} {SIGNED!r}"


@pytest.mark.parametrize("text", ["short", f"{KEY},short"])
def test_a_key_that_can_be_guessed_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="give each 32 or more") as caught:
        SigningKeys.read(text)
    assert "short" not in str(caught.value)


def test_keys_are_read_from_a_list() -> None:
    assert SigningKeys.read(f" {KEY}, {OLD_KEY},").keys == (KEY, OLD_KEY)
    assert not SigningKeys.read("")


@pytest.mark.requirement("RUN-20")
@pytest.mark.parametrize("name", ["id", "task", "origin", "root_id"])
def test_half_a_surrogate_pair_in_the_headers_is_refused(name: str) -> None:
    """It would become a part of a key, and no key can have it."""
    headers = {"task": "t", "id": "i", "lang": "py", name: "a\ud800"}
    with pytest.raises(Refused, match="UnicodeEncodeError"):
        Rules().check(Arrived(headers, {}, "application/json", b"[[], {}, {}]"))
