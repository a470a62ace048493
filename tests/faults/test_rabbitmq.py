"""The same where RabbitMQ is the broker."""

import pytest

from tests.faults.faults import ON_RABBITMQ, Fault
from tests.faults.playing import Record, Tell, check
from tests.faults.world import World


@pytest.mark.requirement("RUN-05", "RUN-21")
@pytest.mark.parametrize("fault", ON_RABBITMQ, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_under(
    fault: Fault, on_rabbitmq: World, runs: int, seed: int, record_property: Record, tell: Tell
) -> None:
    check(fault, on_rabbitmq, runs, seed, record_property, tell)
