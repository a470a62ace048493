"""Pending rows cut into new shards: in order, all of it or nothing, and the same when it is done again."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.batch_rows import worlds
from tests.contract.batch_rows.worlds import MemoryWorld, SqlWorld, World, bad, lines_of_shard, row, sqlite_url
from workers.core.batch.acts import Counts, CutRows, Verdict
from workers.core.batch.cutter import Cutter, Halver
from workers.core.batch.outputs import RowOutcome
from workers.ports import RowStore

ANSWER = b'{"choices":[]}'
LARGE = 1 << 40


def again(rows: int, first: int, attempt: int = 2) -> CutRows:
    return CutRows(1, "again", 0, rows, attempt, first)


def split(parent: int, rows: int, first: int, attempt: int = 1) -> CutRows:
    return CutRows(1, "split", parent, rows, attempt, first)


async def shards(world: World, run_id: str) -> dict[int, list[int]]:
    """Return the numbers of the pending rows by their shard."""
    found: dict[int, list[int]] = {}
    for kept in await world.kept(run_id):
        if kept.state == "pending":
            found.setdefault(kept.shard, []).append(kept.number)
    return found


async def test_all_that_is_pending_is_dealt_out_anew_in_order(world: World, run_id: str) -> None:
    await worlds.given(world.store, run_id, [row(1), row(2), row(3, shard=2), row(4), row(5, shard=3), bad(6)])
    await world.store.settle(run_id, 1, [RowOutcome(2, "succeeded")])
    cutter = Cutter(3, LARGE, 4)
    await world.store.cut(run_id, 1, again(4, 4), cutter)
    assert await shards(world, run_id) == {4: [1, 3, 4], 5: [5]}
    assert [(plan.shard, plan.rows) for plan in cutter.plan()] == [(4, 3), (5, 1)]
    kept = await world.kept(run_id)
    assert [each.attempt for each in kept] == [2, 1, 2, 2, 2, 0]
    assert (kept[1].state, kept[1].shard) == ("succeeded", 1)


async def test_the_cutter_hears_the_length_of_each_line(world: World, run_id: str) -> None:
    small, large = row(1), row(2, body=b'{"x":"%b"}' % (b"y" * 300))
    await worlds.given(world.store, run_id, [small, large, row(3)])
    cutter = Cutter(10, small.size + large.size, 2)
    await world.store.cut(run_id, 1, again(3, 2), cutter)
    assert [plan.bytes for plan in cutter.plan()] == [small.size + large.size, small.size]
    assert [len(await lines_of_shard(world.store, run_id, shard)) for shard in (2, 3)] == [
        small.size + large.size, small.size,
    ]  # fmt: skip


async def test_rows_that_are_cut_forget_what_was_wrong_with_them(world: World, run_id: str) -> None:
    """An answer that counted as a failure is not the answer of an attempt that had none."""
    await worlds.given(world.store, run_id, [row(1), row(2)])
    await world.store.settle(run_id, 1, [RowOutcome(1, "pending", "finish_length", "cut", ANSWER)])
    await world.store.give_verdict(run_id, 1, 1, Verdict("pending", "job_expired", "expired"))
    await world.store.cut(run_id, 1, again(2, 2), Cutter(9, LARGE, 2))
    assert [(kept.code, kept.message, kept.response) for kept in await world.kept(run_id)] == [("", "", None)] * 2
    await world.store.give_verdict(run_id, 1, 2, Verdict("failed", "missing_output", "no"))
    assert [(kept.code, kept.response) for kept in await world.kept(run_id)] == [("missing_output", None)] * 2


async def test_a_shard_is_cut_in_two_halves_and_the_others_stay(world: World, run_id: str) -> None:
    await worlds.given(world.store, run_id, [row(n, shard=1 + n % 2) for n in range(1, 11)])
    halver = Halver(5, 3)
    await world.store.cut(run_id, 1, split(2, 5, 3), halver)
    assert await shards(world, run_id) == {1: [2, 4, 6, 8, 10], 3: [1, 3, 5], 4: [7, 9]}
    assert [plan.rows for plan in halver.plan()] == [3, 2]


@pytest.mark.parametrize("life", [1, 2])
async def test_a_cut_that_is_done_again_comes_to_the_same(world: World, run_id: str, life: int) -> None:
    """By the same worker, whose reply was lost, or by another after a crash."""
    await worlds.given(world.store, run_id, [row(n, shard=1 + n % 2) for n in range(1, 11)])
    await world.store.cut(run_id, 1, split(2, 5, 3), Halver(5, 3))
    before, halver = await world.kept(run_id), Halver(5, 3)
    await world.store.cut(run_id, life, replace(split(2, 5, 3), life=life), halver)
    assert await world.kept(run_id) == before
    assert [plan.rows for plan in halver.plan()] == [3, 2]
    await world.store.cut(run_id, life, replace(again(10, 5), life=life), Cutter(4, LARGE, 5))
    before, cutter = await world.kept(run_id), Cutter(4, LARGE, 5)
    await world.store.cut(run_id, life, replace(again(10, 5), life=life), cutter)
    assert await world.kept(run_id) == before
    assert [plan.rows for plan in cutter.plan()] == [4, 4, 2]


class BrokenCutter(Cutter):
    """Breaks at the last of ten rows."""

    def place(self, size: int) -> int:
        shard = super().place(size)
        if shard == 11:
            raise KeyError("broken")
        return shard


async def test_a_cut_that_breaks_in_the_middle_has_moved_nothing(sql: SqlWorld, run_id: str) -> None:
    await worlds.given(sql.store, run_id, [row(n) for n in range(1, 11)])
    before = await sql.kept(run_id)
    with pytest.raises(KeyError):
        await sql.store.cut(run_id, 3, again(10, 2), BrokenCutter(1, LARGE, 2))
    assert await sql.kept(run_id) == before
    await sql.store.add(run_id, 2, [row(11)])  # and nobody was replaced by it


# -- any story: what SQL keeps is what the model keeps -----------------------------------------------------------------

Rows = Sequence[tuple[int, int, str]]
Story = Sequence[tuple[Any, ...]]

NUMBERS = st.integers(1, 24)
STATES = st.sampled_from(("pending", "succeeded", "failed", "quarantined"))
OUTCOMES = st.lists(
    st.builds(RowOutcome, NUMBERS, STATES, st.sampled_from(("", "a", "b")), st.just("m"), st.none() | st.just(ANSWER)),
    max_size=6, unique_by=lambda outcome: outcome.number,
)  # fmt: skip
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("settle"), OUTCOMES),
        st.tuples(st.just("verdict"), st.integers(1, 4), STATES),
        st.tuples(st.just("again"), st.integers(1, 8)),
        st.tuples(st.just("split"), st.integers(1, 4)),
    ),
    max_size=8,
)
SOME_ROWS = st.lists(
    st.tuples(NUMBERS, st.integers(1, 4), st.text("abcd", min_size=1, max_size=2)), max_size=24,
    unique_by=lambda each: each[0],
)  # fmt: skip


async def told(store: RowStore, run_id: str, rows: Rows, operations: Story) -> list[Any]:
    """Let a store live through a story; return all that it answered."""
    await store.restart(run_id, 1)
    said: list[Any] = []
    for at in range(0, len(rows), 5):
        page = [row(n, custom_id, shard=shard) for n, shard, custom_id in rows[at : at + 5]]
        said.append(await store.add(run_id, 1, page))
    for kind, *rest in operations:
        first = 10
        if kind == "settle":
            await store.settle(run_id, 1, rest[0])
        elif kind == "verdict":
            await store.give_verdict(run_id, 1, rest[0], Verdict(rest[1], "verdict", "v"))
        else:
            size = rest[0]
            wanted = again(0, first) if kind == "again" else split(size, 0, first)
            cutter = Cutter(size, LARGE, first) if kind == "again" else Halver(6, first)
            await store.cut(run_id, 1, wanted, cutter)
            said.append(cutter.plan())
        said.append(await store.counts(run_id))
    for shard in range(1, 14):
        said += [await store.ids(run_id, shard), await store.counts(run_id, shard), await store.reasons(run_id, shard)]
        said.append(await lines_of_shard(store, run_id, shard))
    return said


@pytest.fixture
def file(tmp_path: Path, migrated_file: Path) -> Path:
    return Path(shutil.copy(migrated_file, tmp_path / "rows.db"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=SOME_ROWS, operations=OPERATIONS)
async def test_sql_and_the_model_live_through_any_story_alike(file: Path, rows: Rows, operations: Story) -> None:
    model, sql = MemoryWorld(), SqlWorld(sqlite_url(file))
    try:
        assert await told(sql.store, "run-1", rows, operations) == await told(model.store, "run-1", rows, operations)
        assert await sql.kept("run-1") == await model.kept("run-1")
    finally:
        await sql.close()


async def test_an_empty_run_can_be_cut(world: World, run_id: str) -> None:
    cutter = Cutter(1, LARGE, 1)
    await world.store.cut(run_id, 1, again(0, 1), cutter)
    assert (cutter.plan(), await world.store.counts(run_id)) == ([], Counts())
