"""Both lanes have processes of their own, wherever the service runs."""

import pytest

from api_contracts.names import CONTROL_QUEUE, QUEUES
from tests.unit.manifests.kustomizing import pod_of, render
from tests.unit.manifests.places import OVERLAYS, ROOT, compose, emulator_variables
from workers.cli.procfile import read_lines

PROCFILE = read_lines((ROOT / "Procfile").read_text())


def lanes() -> tuple[set[str], set[str]]:
    """The processes that serve an interactive queue, and those that serve a background one."""
    serving = {name: served(name) for name in PROCFILE}
    background = {queue for queue in QUEUES if queue.endswith(".bg")}
    interactive = set(QUEUES) - background
    return {n for n, queues in serving.items() if queues & interactive}, {
        name for name, queues in serving.items() if queues & background
    }


def served(process: str) -> set[str]:
    words = PROCFILE[process].words
    return set(words[words.index("-Q") + 1].split(",")) if "-Q" in words else set()


@pytest.mark.requirement("RUN-19")
def test_each_queue_has_a_process_and_none_serves_both_lanes():
    assert set().union(*map(served, PROCFILE)) == {*QUEUES, CONTROL_QUEUE}
    interactive, background = lanes()
    assert interactive
    assert background
    assert interactive & background == set()


@pytest.mark.requirement("RUN-19")
def test_compose_and_kubernetes_run_them_as_the_procfile_says():
    needed = set().union(*lanes())
    services = compose(emulator_variables())["services"]
    assert {name: services[name]["command"] for name in needed} == {name: ["process", name] for name in needed}
    for overlay in OVERLAYS.values():
        deployed = {each["metadata"]["name"]: each for each in render(overlay) if each["kind"] == "Deployment"}
        for name in needed:
            [container] = pod_of(deployed[name])["containers"]
            assert container["args"] == ["process", name]
