"""Shards: by rows, by bytes, the same each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.batch import ids
from workers.core.batch.cutter import Cutter, Halver

SIZES = st.lists(st.integers(1, 30), max_size=40)


def cut(sizes: list[int], rows: int, size: int, first: int = 1) -> list[tuple[int, int, int]]:
    cutter = Cutter(rows, size, first)
    for each in sizes:
        cutter.place(each)
    return [(plan.shard, plan.rows, plan.bytes) for plan in cutter.plan()]


@pytest.mark.requirement("BATCH-05")
def test_a_shard_ends_where_the_next_row_would_take_it_over_a_bound() -> None:
    assert cut([5, 5, 5, 1, 1, 1, 1], rows=3, size=10) == [(1, 2, 10), (2, 3, 7), (3, 2, 2)]
    assert cut([5, 99, 5], rows=9, size=10) == [(1, 1, 5), (2, 1, 99), (3, 1, 5)], "a large row stands alone"
    assert cut([1, 1], rows=1, size=9, first=4) == [(4, 1, 1), (5, 1, 1)]
    assert cut([], rows=1, size=1) == []


@pytest.mark.requirement("BATCH-05")
@given(SIZES, st.integers(1, 5), st.integers(1, 60), st.integers(1, 9))
def test_no_row_is_lost_and_no_bound_is_broken(sizes: list[int], rows: int, size: int, first: int) -> None:
    cutter = Cutter(rows, size, first)
    placed = [cutter.place(each) for each in sizes]
    assert placed == sorted(placed), "rows stay in order"
    assert [(p.shard, p.rows, p.bytes) for p in cutter.plan()] == cut(sizes, rows, size, first)
    assert sum(plan.rows for plan in cutter.plan()) == len(sizes)
    for plan in cutter.plan():
        own = [each for each, shard in zip(sizes, placed, strict=True) if shard == plan.shard]
        assert (plan.rows, plan.bytes) == (len(own), sum(own))
        assert plan.rows <= rows
        assert plan.bytes <= size or plan.rows == 1


def test_a_row_that_is_taken_back_is_not_planned() -> None:
    cutter = Cutter(2, 100)
    assert [cutter.place(size) for size in (1, 2, 4)] == [1, 1, 2]
    cutter.take_back(1, 2)
    cutter.take_back(2, 4)
    assert [(plan.shard, plan.rows, plan.bytes) for plan in cutter.plan()] == [(1, 1, 1)]


def test_a_shard_that_has_lost_its_row_takes_the_next_however_large() -> None:
    cutter = Cutter(2, 10)
    cutter.take_back(cutter.place(99), 99)
    assert cutter.place(99) == 1


@given(st.integers(2, 50))
def test_a_halver_makes_two_shards_of_about_the_same_size(rows: int) -> None:
    halver = Halver(rows, first=7)
    for _ in range(rows):
        halver.place(10**12)
    first, second = halver.plan()
    assert (first.shard, second.shard) == (7, 8)
    assert first.rows + second.rows == rows
    assert first.rows - second.rows in (0, 1)


@pytest.mark.requirement("BATCH-03")
@given(st.text("abcXYZ09._:-", min_size=2, max_size=128), st.integers(1, 100_000))
def test_ids_keep_the_providers_rules_and_come_from_run_and_shard(run_id: str, shard: int) -> None:
    made = [ids.dataset_id(run_id, shard), ids.output_id(run_id, shard), ids.job_id(run_id, shard)]
    assert len(set(made)) == 3
    for each in made:
        assert len(each) <= 63
        assert set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert "error" not in each
    assert made == [ids.dataset_id(run_id, shard), ids.output_id(run_id, shard), ids.job_id(run_id, shard)]
    assert ids.job_id(run_id, shard + 1) != ids.job_id(run_id, shard) != ids.job_id(run_id + "x", shard)


def test_ids_never_change() -> None:
    """Runs of an older release are adopted by their ids."""
    assert ids.job_id("run-1", 3) == "fw-4e65d3fbe8ad6535681b021b-s0003-job"
    assert ids.made_custom_id(b'{"b":1}') == "fw-eb8ed3ccb5023093b56f490a46501e88"
