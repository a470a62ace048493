"""Options of the shelf, its worlds, and the table at its end."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.faults import verdict
from tests.faults.world import World, world
from tests.rabbitmq import given_rabbitmq, vhost, why_no_vhosts

QUICK = 10
"""Runs under each fault in `make test`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--runs", type=int, default=QUICK, help="runs under each fault")
    group.addoption("--seed", type=int, default=0, help="what happens when; 0 takes one of chance")
    group.addoption("--table", type=Path, default=None, help="file for the table as JSON")


def asked(config: pytest.Config, name: str, default: int) -> int:
    """Return an option, which a run of all shelves does not know."""
    return int(config.getoption(name, default) or default)


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> int:
    return asked(request.config, "--runs", QUICK)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return asked(request.config, "--seed", 0) or random.SystemRandom().randrange(1, 10**6)


@pytest.fixture(scope="module")
def on_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture(scope="module")
def on_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if why := why_no_vhosts(os.environ):
        pytest.skip(why)
    with vhost(str(given_rabbitmq(os.environ))) as url, world(tmp_path_factory.mktemp("faults"), url) as made:
        yield made


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep each row as soon as it is known: a long table may be broken off."""
    if report.when == "call" and _table is not None:
        _rows.extend(json.loads(value) for name, value in report.user_properties if name == "faults")
        verdict.written(_rows, _table)


_table: Path | None = None
_rows: list[dict[str, Any]] = []


def pytest_configure(config: pytest.Config) -> None:
    global _table
    _table = None if hasattr(config, "workerinput") else config.getoption("--table", None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [each for name in ("passed", "failed") for each in terminalreporter.stats.get(name, [])]
    found = [value for each in reports for name, value in each.user_properties if name == "faults"]
    rows = [json.loads(value) for value in found]
    if rows:
        verdict.shown(rows, Console(width=200))
