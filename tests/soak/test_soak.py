"""Live speech for minutes while workers are killed: every word once, every sample accounted for, memory flat."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.combination import Combination
from tests.servers import embedded_valkey
from tests.soak.picture import drawn
from tests.soak.playing import ELDER, Plan, Soak, start


@pytest.fixture
def cluster(tmp_path: Path, plan: Plan) -> Iterator[Cluster]:
    """Workers that are ready, on an embedded Redis and SQLite."""
    parts = Combination("redis", "sqlite", lambda: "")
    with embedded_valkey(tmp_path / "valkey") as valkey:
        made = Cluster(tmp_path / "cluster", valkey, parts, **plan.settings())
        try:
            for each in [start(made, plan, name) for name in (ELDER, *plan.mortal)]:
                each.ready()
            yield made
        finally:
            made.close()


@pytest.mark.requirement("STT-10", "RUN-04")
def test_sessions_go_on_for_minutes_while_workers_are_killed(
    cluster: Cluster, plan: Plan, report: Path | None, tell: Callable[[str], None]
) -> None:
    """Without options for `make test`, which is too short to judge memory. See docs/soak.md."""
    found = Soak(cluster, plan, seed=8, tell=tell).play()
    tell(found.told())
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        (report / "soak.json").write_text(json.dumps(asdict(found), indent=1) + "\n")
        (report / "soak.svg").write_text(drawn(found.curves, found.kills, found.seconds))
    assert found.faults() == "", found.load_was_late or "the load was on time"
    if found.load_was_late:
        pytest.skip(found.load_was_late)
