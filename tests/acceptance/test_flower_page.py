"""Flower's own page in a browser: it comes up behind the password, and shows the states. Skips without chromium.

`FW_FLOWER_PNG=docs/flower.png` keeps the picture, for the README.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, say
from tests.acceptance.conftest import NewCluster
from tests.acceptance.flower_site import USER, Site, start_flower
from tests.acceptance.test_batches import parked, rows
from tests.servers import embedded_valkey

SLOW = "accounts/fireworks/models/emulated-new"
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--virtual-time-budget=5000",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine: Flower's page is not looked at (its API is, in test_flower.py)")
    return found


@pytest.fixture
def site(tmp_path: Path, new_cluster: NewCluster) -> Iterator[tuple[Cluster, Site]]:
    with embedded_valkey(tmp_path / "valkey") as valkey:
        made = new_cluster(tmp_path, valkey, FW_POLL_S="0.3")
        try:
            site = start_flower(made)
            for name, queues in (("chat", "fireworks.chat"), ("batch", "fireworks.batch,fireworks.control")):
                made.worker(name, queues=queues).ready()
            yield made, site
        finally:
            made.close()


def fill(cluster: Cluster, site: Site, name: str) -> dict[str, str]:
    """Have a run in each state; return state by run id."""
    submit = cluster.client.chat.submit
    sources = [{"id": "log", "content": "It was built in 1874. Its lamp burned oil until 1931."}]
    states = {f"{state.lower()}-{name[:6]}": state for state in ("SUCCESS", "FAILURE", "REVOKED", "RETRY", "STARTED")}
    done, failed, gone, waits, runs = states
    submit(say("echo a"), run_id=done)
    submit(say("denied"), run_id=failed)
    cluster.client.batch.submit(model=SLOW, rows=rows(3, "slow"), run_id=waits)
    for run_id in (gone, runs):
        submit(say("stall"), run_id=run_id)
    cluster.client.cite.complete(
        {"model": "accounts/fireworks/models/emulated-classic", "question": "cite well", "sources": sources},
        run_id=f"cited-{name[:6]}",
        timeout_s=60,
    )
    parked(cluster, waits)
    site.shows(gone, "STARTED")
    site.terminate(gone)
    for run_id, state in states.items():
        site.shows(run_id, state)
    return states


@pytest.mark.requirement("OPS-03")
def test_the_page_shows_each_run_in_its_state(
    chromium: str, site: tuple[Cluster, Site], name: str, tmp_path: Path
) -> None:
    cluster, flower = site
    states = fill(cluster, flower, name)
    url = f"http://{USER}@127.0.0.1:{flower.port}/tasks"
    picture = Path(os.environ.get("FW_FLOWER_PNG") or tmp_path / "flower.png").absolute()

    def browse(*options: str) -> str:
        command = [chromium, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *options, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    table = browse("--dump-dom").partition("<tbody>")[2]
    shown = {line.partition('"')[0]: re.sub(r"<[^>]+>", " ", line) for line in table.split('<tr id="')}
    assert {run_id: f" {state} " in shown[run_id] for run_id, state in states.items()} == dict.fromkeys(states, True)
    assert "parked: 1 of 1 open jobs are at work" in table
    assert "RunFailed(provider_authentication)" in table
    browse(f"--screenshot={picture}", "--window-size=1560,640")
    assert picture.stat().st_size > 10_000
