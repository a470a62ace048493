"""No run is lost, none is wrong and no effect is counted twice while processes and servers fail."""

import pytest

from tests.faults.faults import PROCESSES, Fault
from tests.faults.playing import Record, Tell, check
from tests.faults.world import World


@pytest.mark.requirement("RUN-05", "RUN-21", "RUN-02", "RUN-03", "RUN-04", "TOOL-12")
@pytest.mark.parametrize("fault", PROCESSES, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_under(
    fault: Fault, on_redis: World, runs: int, seed: int, record_property: Record, tell: Tell
) -> None:
    check(fault, on_redis, runs, seed, record_property, tell)
