"""Holds the test run against tests/requirements.toml, both ways, and says at its end what was proven and what was not.

Every mark must name a clause, in any run. Only a full run (all of tests/, nothing deselected) must prove each clause;
it may be spread over processes (xdist), because marks travel on the reports. Nothing here knows what a clause means.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MARK = "requirement"
DEFERRED = re.compile(r"issue [1-9]\d*")
# Any of these leaves tests out, or may.
PARTIAL = {"keyword", "markexpr", "lf", "stepwise", "deselect", "ignore", "ignore_glob", "collectonly", "maxfail"}


class ManifestError(ValueError):
    """The manifest breaks its own form; the message names the clause."""


@dataclass(frozen=True)
class Clause:
    """One clause. `deferred` names the issue that completes it; `part` says what of it is built before that."""

    name: str
    text: str
    deferred: str = ""
    part: str = ""

    @property
    def due(self) -> bool:
        """Whether a passing test must carry the mark now."""
        return not self.deferred or bool(self.part)


def read_manifest(path: Path) -> dict[str, Clause]:
    """Return the clauses by name, RUN-03; raise ManifestError."""
    areas = tomllib.loads(path.read_text(encoding="utf-8"))
    return {clause.name: clause for clause in _clauses(areas)}


def _clauses(areas: dict[str, dict[str, object]]) -> Iterator[Clause]:
    for area, clauses in areas.items():
        for number, given in clauses.items():
            yield _clause(f"{area}-{number}", {"text": given} if isinstance(given, str) else given)


def _clause(name: str, given: object) -> Clause:
    if not re.fullmatch(r"[A-Z]+-\d\d", name):
        raise ManifestError(f"{name}: a clause is named like RUN-03")
    if not isinstance(given, dict) or not given.keys() <= {"text", "deferred", "part"}:
        raise ManifestError(f"{name}: must be a text, or {{text, deferred, part}}")
    clause = Clause(name, **given)
    if not clause.text or not clause.text.strip():
        raise ManifestError(f"{name}: no text")
    if ("deferred" in given or clause.part) and not DEFERRED.fullmatch(clause.deferred):
        raise ManifestError(f"{name}: deferred must say 'issue N'")
    return clause


def is_full(config: pytest.Config) -> bool:
    """Say whether the command line asks for all of tests/."""
    if any(config.getoption(option, None) for option in PARTIAL):
        return False
    tests = config.rootpath / "tests"
    asked = {(config.invocation_params.dir / arg).resolve() for arg in config.args}
    return bool(asked) and asked <= {tests, config.rootpath}


@dataclass(eq=False)
class Ledger:
    """What the tests of this run said about the clauses. One per run, in the process that sees all reports."""

    clauses: dict[str, Clause]
    full: bool
    passed: dict[str, set[str]] = field(default_factory=dict)  # test -> clauses that it proves
    failed: set[str] = field(default_factory=set)
    named: dict[str, str] = field(default_factory=dict)  # clause -> a test that names it
    skips: Counter[str] = field(default_factory=Counter)

    def pytest_deselected(self) -> None:
        """A run without some tests is not a full one."""
        self.full = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that was skipped whole."""
        if report.skipped:
            self.skips[_reason(report)] += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what one phase of one test says."""
        names = {str(value) for key, value in report.user_properties if key == MARK}
        self.named.update(dict.fromkeys(names, report.nodeid))
        if report.skipped:
            self.skips[_reason(report)] += 1
        elif report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and not hasattr(report, "wasxfail"):
            self.passed[report.nodeid] = names

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run that passed its tests and not the manifest."""
        if exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
            self.full = False
        elif exitstatus == pytest.ExitCode.OK and self.faults():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def proven(self) -> set[str]:
        """Return the clauses that a test carries which failed in no phase."""
        return {name for test, names in self.passed.items() if test not in self.failed for name in names}

    def faults(self) -> list[str]:
        """Return what stands between this run and the manifest."""
        unknown = sorted(self.named.keys() - self.clauses.keys())
        due = {name for name, clause in self.clauses.items() if clause.due}
        unproven = sorted(due - self.proven()) if self.full else []
        return [
            *(f"{name}: no such clause, named by {self.named[name]}" for name in unknown),
            *(f"{name}: no passing test carries it" for name in unproven),
        ]

    def summary(self) -> str:
        """Return the one line at the end of a full run."""
        proven = [clause for clause in self.clauses.values() if clause.name in self.proven()]
        whole = sum(not clause.deferred for clause in proven)
        parts = sum(bool(clause.part) for clause in proven)
        deferred = sum(bool(clause.deferred) for clause in self.clauses.values())
        skipped = sum(self.skips.values())
        return f"{whole} clauses proven, {deferred} deferred ({parts} of them proven in part), {skipped} tests skipped"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it to the person at the terminal, and to .ci/run, which repeats these lines."""
        faults = self.faults()
        if not (self.full or faults):
            return
        terminalreporter.section("requirements")
        for fault in faults:
            terminalreporter.line(f"requirements: {fault}", red=True)
        if self.full:
            terminalreporter.line(f"requirements: {self.summary()}", bold=True)
            for reason, count in sorted(self.skips.items()):
                terminalreporter.line(f"requirements: skipped {count} x {reason}")


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").strip() or "no reason was given"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Write the marks onto the reports; a mark without an id is one that names no clause."""
    for mark in item.iter_markers(MARK):
        item.user_properties += [(MARK, name) for name in mark.args or ("(nothing)",)]


def pytest_configure(config: pytest.Config) -> None:
    """Open the ledger, in the one process that sees every report."""
    if not hasattr(config, "workerinput"):
        clauses = read_manifest(config.rootpath / "tests" / "requirements.toml")
        config.pluginmanager.register(Ledger(clauses, is_full(config)), "requirement-ledger")
