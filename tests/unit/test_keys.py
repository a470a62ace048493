"""Run ids and the names of Redis keys: other services and other languages rely on every character."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_contracts import keys
from api_contracts.keys import BadRunId, check_run_id, derived_run_id, derived_task_id, new_run_id

RUN_IDS = st.from_regex(keys.RUN_ID, fullmatch=True)


@pytest.mark.parametrize("run_id", ["ab", "0Z", "a.b_c:d-e", "a" * 128, "a--b", "6f0c8f0e-6f6b-5d0e-9a53-0f9d6f3b1c55"])
def test_a_run_id_of_the_fixed_form_is_taken_as_it_is(run_id: str) -> None:
    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "a",
        "a" * 129,
        "-a",
        "a-",
        ".a",
        "a_",
        "a b",
        "a/b",
        "a{b}c",
        "a}b",
        "a*b",
        "ä1",
        "1ä",
        "ab\n",
        "\nab",
        "\uff11\uff12",
    ],
)
def test_any_other_text_is_refused(run_id: str) -> None:
    with pytest.raises(BadRunId, match="refused"):
        check_run_id(run_id)


@pytest.mark.parametrize("run_id", [None, 12, b"ab", ["ab"], {"ab": 1}])
def test_what_is_no_text_is_refused(run_id: object) -> None:
    with pytest.raises(BadRunId):
        check_run_id(run_id)


def test_a_refusal_does_not_repeat_a_huge_id() -> None:
    with pytest.raises(BadRunId) as refused:
        check_run_id("x" * 1_000_000)
    assert len(str(refused.value)) < 400


def test_a_new_run_id_is_a_fresh_one_of_the_right_form() -> None:
    fresh = {new_run_id() for _ in range(100)}
    assert len(fresh) == 100
    assert all(check_run_id(run_id) for run_id in fresh)


@pytest.mark.requirement("RUN-01")
def test_the_same_tenant_and_key_always_get_the_same_run_id() -> None:
    # Written down: another release, or a client in another language, must come to the same id.
    assert derived_run_id("default", "order-7") == "4af60611-82e2-529a-9779-865b19a557c3"
    assert derived_task_id("run-1", "call-1") == "c2e7b63c-5845-5bd1-afa3-2b46df61b0b4"


@given(st.text(), st.text(), st.text(), st.text())
def test_derived_ids_are_valid_and_differ_whenever_one_part_differs(a: str, b: str, c: str, d: str) -> None:
    ours, theirs = derived_run_id(a, b), derived_run_id(c, d)
    assert check_run_id(ours)
    assert uuid.UUID(ours).version == 5
    assert (ours == theirs) == ((a, b) == (c, d))


@pytest.mark.requirement("RUN-02")
def test_keys_are_spelled_as_documented() -> None:
    assert keys.events("run-1x") == "fw:{x}:run-1x:events"
    assert keys.inbox("run-1x") == "fw:{x}:run-1x:inbox"
    assert keys.lease("run-1x") == "fw:{x}:run-1x:lease"
    assert keys.blob("run-1x", 0) == "fw:{x}:run-1x:blob:0"
    assert keys.due("x") == "fw:{x}:due"
    assert keys.DEAD_LETTERS == "fw:dead-letters"


@pytest.mark.requirement("OPS-12")
def test_budgets_that_one_run_is_under_share_one_hash_tag_and_no_values_share_a_key() -> None:
    assert keys.budget("day", ("acme",)) == "fw:budget:{=}:day:acme"
    assert hash_tag(keys.budget("d{a}y", ("a:b", "{c}"))) == hash_tag(keys.budget("day", ())) == "="
    assert keys.budget("day", ("a:b",)) != keys.budget("day", ("a", "b"))


@given(RUN_IDS)
def test_every_key_of_a_run_and_its_due_index_share_one_hash_tag(run_id: str) -> None:
    names = [keys.events(run_id), keys.inbox(run_id), keys.lease(run_id), keys.blob(run_id, 1), keys.due(run_id[-1])]
    assert {hash_tag(name) for name in names} == {run_id[-1]}
    assert run_id[-1] in keys.SLOTS


@given(RUN_IDS, RUN_IDS)
def test_no_two_runs_share_a_key(one: str, other: str) -> None:
    def all_of(run_id: str) -> set[str]:
        return {keys.events(run_id), keys.inbox(run_id), keys.lease(run_id), keys.blob(run_id, 0), keys.blob(run_id, 1)}

    assert len(all_of(one)) == 5
    assert one == other or not all_of(one) & all_of(other)


def hash_tag(name: str) -> str:
    """Return what Redis Cluster hashes: what stands between the first { and the next }."""
    return name[name.index("{") + 1 : name.index("}", name.index("{"))]
