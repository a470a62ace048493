"""What an operator's probes and scrapes see of a process."""

import json
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.cluster import Process
from tests.waiting import eventually

PROBE_S = 10.0


def port_of(process: Process) -> int:
    """Return where the process says that it listens."""
    eventually(lambda: process.says("monitor.listening"), within=60)
    lines = (json.loads(line) for line in process.log().splitlines() if "monitor.listening" in line)
    return int(next(line["port"] for line in lines))


def asked(process: Process, path: str) -> tuple[int, str]:
    """Return the status and the text of a page. Raises OSError when nobody answers in time."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port_of(process)}{path}", timeout=PROBE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def lives(process: Process) -> bool:
    """Whether `/live` is 200."""
    return asked(process, "/live")[0] == 200


def faults(process: Process) -> dict[str, str]:
    """Return the checks of `/ready` that failed, with what they say; the status agrees with them."""
    status, text = asked(process, "/ready")
    checks: dict[str, Any] = json.loads(text)["checks"]
    assert set(checks) == {"redis", "sql", "broker", "lag", "draining"}
    found = {name: check["says"] for name, check in checks.items() if not check["ok"]}
    assert status == (503 if found else 200)
    return found


def sample(process: Process, name: str, **labels: str) -> float | None:
    """Return a sample of `/metrics`."""
    for family in text_string_to_metric_families(asked(process, "/metrics")[1]):
        for one in family.samples:
            if one.name == name and labels.items() <= one.labels.items():
                return float(one.value)
    return None
