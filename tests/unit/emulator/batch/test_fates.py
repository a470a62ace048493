"""The order of the answers, and which rows are spoilt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.emulator.batch.fates import Fates, shuffled
from workers.emulator.batch.faults import parse_batch_faults

pytestmark = pytest.mark.requirement("EMU-04")


def _fates(total: int, *faults: str, seed: str = "s") -> list[str]:
    fates = Fates(parse_batch_faults(faults), total, seed)
    return [fates.of(index, f"row-{index}") for index in range(total)]


@given(st.integers(0, 400), st.text(max_size=3))
def test_a_shuffle_has_everything_once_and_is_never_the_order_itself(size: int, seed: str) -> None:
    order = shuffled(size, seed)
    shown = [order[place] for place in range(size)]
    assert sorted(shown) == list(range(size))
    assert size < 2 or shown != list(range(size))


def test_a_shuffle_depends_on_its_seed() -> None:
    assert len({tuple(shuffled(50, str(seed))[place] for place in range(50)) for seed in range(10)}) > 5


def test_three_rows_of_two_hundred_fail() -> None:
    fates = _fates(200, "fail_rows=3")
    assert (fates.count("failed"), fates.count("answered")) == (3, 197)


@given(st.integers(0, 300), st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_counts_are_exact_and_choose_different_rows(total: int, failed: int, missing: int, share: int) -> None:
    fates = _fates(total, f"fail_rows={failed}", f"miss_rows={missing}", f"double_rows={share}%")
    wanted_failed = min(total, failed)
    wanted_missing = min(total - wanted_failed, missing)
    assert fates.count("failed") == wanted_failed
    assert fates.count("missing") == wanted_missing
    assert fates.count("doubled") == min(total - wanted_failed - wanted_missing, round(total * share / 100))


def test_a_glob_names_its_rows() -> None:
    assert _fates(12, "corrupt_rows=row-1*") == [
        "corrupt" if index in (1, 10, 11) else "answered" for index in range(12)
    ]


def test_the_first_fault_that_is_asked_for_wins() -> None:
    assert _fates(3, "both_rows=row-1", "fail_rows=*") == ["failed", "both", "failed"]


def test_the_same_seed_spoils_the_same_rows() -> None:
    assert _fates(100, "fail_rows=10%") == _fates(100, "fail_rows=10%")
    assert _fates(100, "fail_rows=10%") != _fates(100, "fail_rows=10%", seed="t")
