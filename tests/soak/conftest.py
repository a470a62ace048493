"""Options of the shelf. Without them it is the share that `make test` has."""

from pathlib import Path

import pytest

from tests.soak.playing import QUICK, Plan


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak")
    group.addoption("--sessions", type=int, default=None, help="live sessions at once")
    group.addoption("--minutes", type=float, default=None, help="how long they speak")
    group.addoption("--kill-every", type=float, default=None, help="seconds from one killed worker to the next")
    group.addoption("--report", type=Path, default=None, help="folder for soak.json and soak.svg")


@pytest.fixture(scope="session")
def plan(request: pytest.FixtureRequest) -> Plan:
    """The plan asked for; options that a run of all shelves does not know are not."""
    asked = [request.config.getoption(name, None) for name in ("--sessions", "--minutes", "--kill-every")]
    if asked == [None, None, None]:
        return QUICK
    sessions, minutes, kill_every_s = (given or usual for given, usual in zip(asked, (200, 10.0, 30.0), strict=True))
    return Plan(sessions, minutes * 60, kill_every_s)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Path | None:
    folder: Path | None = request.config.getoption("--report", None)
    return folder
