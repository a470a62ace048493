"""The same while the network fails between the workers and Redis, and before the broker."""

import pytest

from tests.faults.faults import NETWORK, Fault
from tests.faults.playing import Record, Tell, check
from tests.faults.world import World


@pytest.mark.requirement("RUN-21", "RUN-02")
@pytest.mark.parametrize("fault", NETWORK, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_under(
    fault: Fault, on_redis: World, runs: int, seed: int, record_property: Record, tell: Tell
) -> None:
    check(fault, on_redis, runs, seed, record_property, tell)
