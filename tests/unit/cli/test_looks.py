"""What a difference of clocks means to `doctor`; the other looks need a service (tests/acceptance/test_doctor.py)."""

import pytest

from workers.cli.looks import SKEW_DOUBT_S, SKEW_S, Doubt, judged_skew


@pytest.mark.requirement("OPS-17")
def test_a_small_difference_of_clocks_is_noise_a_large_one_a_fault() -> None:
    assert judged_skew(SKEW_DOUBT_S) == "this machine is 1.00 s ahead of Redis"
    with pytest.raises(Doubt, match=r"^this machine is 5\.00 s behind Redis: synchronise the clocks"):
        judged_skew(-5)
    with pytest.raises(RuntimeError, match="ahead of Redis: synchronise the clocks"):
        judged_skew(SKEW_S + 1)
