"""The server of probes: it answers whatever other clients do (`telemetry.server`)."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from tests.waiting import eventually
from workers.errors import Misconfigured
from workers.telemetry import Metrics, Monitor, Readiness, Verdict, serve

CROWD = 80
"""More than the server keeps open."""


class State:
    """What the checks say."""

    live = Verdict(True, "the loop answers")
    ready = Verdict(True, "here")


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def monitor(state: State) -> Iterator[Monitor]:
    ready = Readiness({"redis": lambda: state.ready}, fresh_s=0.0)
    running = serve("127.0.0.1", 0, live=lambda: state.live, ready=ready, registry=Metrics().registry)
    yield running
    running.close()


def asked(monitor: Monitor, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Return status, type and text."""
    with closing(HTTPConnection("127.0.0.1", monitor.port, timeout=5)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, str(answer.headers["Content-Type"]), answer.read().decode()


@pytest.mark.requirement("OPS-08")
def test_live_and_ready_say_what_the_checks_say(monitor: Monitor, state: State) -> None:
    assert asked(monitor, "/live")[0] == asked(monitor, "/ready?x=1")[0] == 200
    state.live, state.ready = Verdict(False, "it hangs"), Verdict(False, "away")
    status, _, text = asked(monitor, "/live")
    assert (status, json.loads(text)) == (
        503,
        {"ok": False, "checks": {"live": {"ok": False, "says": "it hangs", "ms": 0.0}}},
    )
    status, kind, text = asked(monitor, "/ready")
    assert (status, kind) == (503, "application/json")
    assert json.loads(text)["checks"]["redis"]["says"] == "away"


@pytest.mark.requirement("OPS-05")
def test_metrics_are_given_in_the_form_that_is_asked_for(monitor: Monitor) -> None:
    status, kind, text = asked(monitor, "/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "# TYPE fw_runs_total counter" in text
    assert asked(monitor, "/metrics", Accept="application/openmetrics-text")[2].endswith("# EOF\n")


def test_other_pages_and_methods_are_refused_and_nothing_is_echoed(monitor: Monitor) -> None:
    status, _, text = asked(monitor, "/<script>")
    assert (status, text) == (404, "there are /live, /ready, /metrics\n")
    assert asked(monitor, "/live", "POST")[0] == 501
    assert asked(monitor, "/live", "HEAD")[2] == ""


@pytest.mark.requirement("OPS-08")
def test_a_crowd_of_clients_that_say_nothing_keeps_no_probe_out(monitor: Monitor) -> None:
    with ExitStack() as crowd:
        silent = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", monitor.port), timeout=5)) for _ in range(CROWD)
        ]
        for each in silent:
            each.sendall(b"GET /live HTTP/1.1\r\nX-Slow: ")
        assert asked(monitor, "/live")[0] == 200
        assert silent[0].recv(1) == b""


def test_clients_that_break_off_or_talk_nonsense_are_nobody_s_trouble(
    monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in (b"", b"\x16\x03\x01\x02\x00", b"GET", b"GET " + b"x" * 100_000 + b"\r\n\r\n"):
        with closing(socket.create_connection(("127.0.0.1", monitor.port), timeout=5)) as client:
            client.sendall(said)
    eventually(lambda: asked(monitor, "/live")[0] == 200)
    assert capsys.readouterr().err == ""


@pytest.mark.requirement("OPS-08", "OPS-17")
def test_a_port_that_is_in_use_is_told_in_one_line(monitor: Monitor) -> None:
    with pytest.raises(Misconfigured, match=rf"^FW_MONITOR_PORT: cannot listen on 127.0.0.1:{monitor.port} .*in use"):
        serve("127.0.0.1", monitor.port, live=State, ready=Readiness({}), registry=Metrics().registry)  # type: ignore[arg-type]
