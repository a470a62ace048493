"""Workers die, replies are lost, the poller is dead or repeats itself: every row has exactly one end."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_contracts.batch import BatchRequest, BatchResult
from tests.unit.core.batch.provider import Fate, Outcome, Provider
from tests.unit.core.batch.world import Poller, TroubleKind, World, check_end

FATES: st.SearchStrategy[Fate] = st.sampled_from(
    ("ok", "ok", "ok", "ok", "length", "error", "invalid", "missing", "fickle", "fickle")
)
ENDS: tuple[Outcome, ...] = ("EXPIRED", "EARLY_STOPPED", "FAILED", "CANCELLED", "STUCK", "UNHEARD_OF")
OUTCOMES: st.SearchStrategy[list[Outcome]] = st.lists(
    st.sampled_from(("COMPLETED",) * 3 + ENDS), min_size=1, max_size=4
)
MENDABLE: st.SearchStrategy[TroubleKind] = st.sampled_from(
    ("die_before", "die_after", "die_halfway", "die_late", "lose_reply", "fail", "drain")
)
POLLERS = st.builds(
    Poller,
    every_s=st.sampled_from((0.0, 60.0, 300.0)),
    copies=st.integers(1, 2),
    late_s=st.lists(st.sampled_from((0.0, 5.0, 200.0, 2000.0)), min_size=1, max_size=3),
)
REQUESTS = st.fixed_dictionaries(
    {
        "shard_rows": st.integers(1, 6),
        "shard_bytes": st.sampled_from((1_000, 1_000_000)),
        "attempts": st.integers(1, 3),
        "fail_on": st.sampled_from(([], ["length"], ["length", "content_filter"])),
        "promise_s": st.sampled_from((None, 100, 3600)),
    }
)


def request(rows: list[Any], **fields: Any) -> BatchRequest:
    return BatchRequest.model_validate({"model": "m", "rows": rows, **fields})


def row(name: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": name, "body": {"messages": [{"role": "user", "content": "2+2?"}], **body}}


def world_of(fates: list[Fate], fields: dict[str, Any], outcomes: list[Outcome] | None = None, **more: Any) -> World:
    named = {f"r{place}": fate for place, fate in enumerate(fates)}
    rows: list[Any] = [row(name) for name in named]
    rows[len(rows) // 2 : 0] = [{"body": {}}, row("r0") if named else 1]  # a bad one, and one whose id is taken or bad
    provider = Provider({**named}, outcomes or ["COMPLETED"], litter=more.pop("litter", False))
    provider.ready_s = more.pop("ready_s", 0.5)
    provider.late_output_s = more.pop("late_output_s", 0.0)
    return World(request(rows, **fields), provider, **more)


def completed(world: World) -> BatchResult:
    result = world.run()
    check_end(world, result)
    assert result.status == "completed", result.failure
    return result


@pytest.mark.requirement("BATCH-03", "BATCH-19")
@settings(max_examples=40, deadline=None)
@given(
    fates=st.lists(FATES, min_size=1, max_size=14),
    fields=REQUESTS,
    outcomes=OUTCOMES,
    troubles=st.dictionaries(st.integers(0, 40), MENDABLE, max_size=10),
    poller=POLLERS,
    die_at_event=st.none() | st.integers(1, 60),
    ways=st.fixed_dictionaries(
        {
            "litter": st.booleans(),
            "ready_s": st.sampled_from((0.0, 0.5, 3.0, 90.0)),
            "late_output_s": st.sampled_from((0.0, 30.0, 400.0)),
        }
    ),
)
@pytest.mark.long
def test_every_row_is_settled_once_and_no_shard_has_two_jobs_whatever_goes_wrong(
    fates: list[Fate], fields: dict[str, Any], outcomes: list[Outcome], troubles: dict[int, TroubleKind],
    poller: Poller, die_at_event: int | None, ways: dict[str, Any],
) -> None:  # fmt: skip
    world = world_of(fates, fields, outcomes, troubles=troubles, poller=poller, die_at_event=die_at_event, **ways)
    result = completed(world)
    assert result.rows.total == len(fates) + 2
    assert result.rows.quarantined == 2


@pytest.mark.requirement("BATCH-19")
@settings(max_examples=30, deadline=None)
@given(
    fates=st.lists(FATES | st.sampled_from(("poison",)), min_size=1, max_size=14),
    fields=REQUESTS,
    outcomes=OUTCOMES,
    troubles=st.dictionaries(st.integers(0, 40), MENDABLE | st.sampled_from(("refuse",)), max_size=10),
    cancel_at=st.none() | st.floats(0, 2_000),
    deadline_s=st.none() | st.floats(1, 2_000),
    poller=POLLERS,
)
@pytest.mark.long
def test_it_ends_by_refusals_cancels_and_deadlines_too_and_the_ledger_holds(
    fates: list[Fate], fields: dict[str, Any], outcomes: list[Outcome], troubles: dict[int, TroubleKind],
    cancel_at: float | None, deadline_s: float | None, poller: Poller,
) -> None:  # fmt: skip
    signals = [] if cancel_at is None else [(cancel_at, "cancel", {"reason": "enough"}), (cancel_at, "hm", {})]
    fields = fields | {"deadline_s": deadline_s}
    world = world_of(fates, fields, outcomes, troubles=troubles, poller=poller, signals=signals)
    result = world.run()
    check_end(world, result)
    if cancel_at is None and deadline_s is None and "refuse" not in troubles.values():
        assert result.status == "completed"


@pytest.mark.requirement("BATCH-03")
@pytest.mark.parametrize("kind", ["die_before", "die_after", "die_halfway", "lose_reply"])
@pytest.mark.long
def test_a_worker_may_die_at_each_effect(kind: TroubleKind) -> None:
    fates: list[Fate] = ["ok", "fickle", "error"]
    fields = {"shard_rows": 2, "attempts": 2}
    before = world_of(fates, fields)
    usual = completed(before)
    for at in range(before.effects):
        world = world_of(fates, fields, troubles={at: kind})
        result = completed(world)
        assert (result.rows, result.usage) == (usual.rows, usual.usage), at
        assert [job.job for job in result.jobs] == [job.job for job in usual.jobs], at


@pytest.mark.requirement("BATCH-03")
@pytest.mark.long
def test_a_worker_may_die_at_each_event() -> None:
    fates: list[Fate] = ["ok", "fickle", "ok", "poison"]
    usual = world_of(fates, {"shard_rows": 3})
    expected = completed(usual)
    for at in range(1, len(usual.journal)):
        world = world_of(fates, {"shard_rows": 3}, die_at_event=at)
        assert completed(world).rows == expected.rows, at
