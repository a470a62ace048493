"""The manifest keeps its form, and the plugin that holds test runs against it finds what is missing, both ways."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.requirement_plugin import ManifestError, read_manifest

Run = Callable[..., pytest.RunResult]
MANIFEST = Path(__file__).with_name("requirements.toml")
OURS = """
[RUN]
01 = "Built."
02 = {text = "Not built.", deferred = "issue 7"}
03 = {text = "Half built.", deferred = "issue 7", part = "the first half"}
"""
PROVES_ALL = """
import pytest

@pytest.mark.requirement("RUN-01", "RUN-03")
def test_a() -> None: pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest on one file of tests, with the manifest above and this plugin and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    path = f"import sys; sys.path.insert(0, {str(MANIFEST.parent.parent)!r})"  # the processes of xdist need it
    pytester.makeconftest(f"{path}\npytest_plugins = ['tests.requirement_plugin']")
    pytester.makeini("[pytest]\nmarkers = requirement(*ids): clauses\ntestpaths = tests")
    pytester.mkdir("tests")
    (pytester.path / "tests" / "requirements.toml").write_text(OURS)

    def run_it(source: str, *args: str) -> pytest.RunResult:
        (pytester.path / "tests" / "test_planted.py").write_text(source)
        return pytester.runpytest_inprocess(*args)

    return run_it


def test_the_manifest_keeps_its_form() -> None:
    clauses = read_manifest(MANIFEST)
    assert len(clauses) >= 150
    assert {clause.name.partition("-")[0] for clause in clauses.values()} == {
        "RUN", "CHAT", "TOOL", "STT", "BATCH", "CITE", "OPS", "EMU",
    }  # fmt: skip


@pytest.mark.parametrize(
    "broken",
    [
        '[RUN]\n1 = "too short a number"',
        '[run]\n01 = "lower case"',
        '[RUN]\n01 = ""',
        "[RUN]\n01 = 7",
        '[RUN]\n01 = {text = "no issue", deferred = "later"}',
        '[RUN]\n01 = {text = "no issue", deferred = ""}',
        '[RUN]\n01 = {text = "part of what", part = "some"}',
        '[RUN]\n01 = {text = "stray key", deferred = "issue 7", proven = true}',
    ],
)
def test_a_broken_clause_is_refused(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "requirements.toml"
    path.write_text(broken)
    with pytest.raises(ManifestError):
        read_manifest(path)


def test_a_full_run_that_proves_every_clause_passes(run: Run) -> None:
    result = run(PROVES_ALL)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["requirements: 1 clauses proven, 2 deferred (1 of them proven in part), 0 *"])


def test_a_full_run_fails_over_a_clause_that_no_test_carries(run: Run) -> None:
    result = run("def test_a(): pass")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["requirements: RUN-01: no passing test*", "requirements: RUN-03: no passing test*"])
    result.stdout.no_fnmatch_line("*RUN-02*")


@pytest.mark.parametrize("args", [("-k", "test_a"), ("-m", "not slow"), ("tests/test_planted.py",), ("--maxfail=1",)])
def test_a_partial_run_proves_nothing_and_need_not(run: Run, args: tuple[str, ...]) -> None:
    result = run("def test_a(): pass", *args)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("requirements:*")


def test_a_mark_that_names_no_clause_fails_any_run(run: Run) -> None:
    result = run('import pytest\n\n@pytest.mark.requirement("RUN-99")\ndef test_a(): pass', "-k", "test_a")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["requirements: RUN-99: no such clause, named by tests/test_planted.py::test_a"])


def test_a_mark_without_a_name_fails_any_run(run: Run) -> None:
    result = run("import pytest\n\n@pytest.mark.requirement\ndef test_a(): pass", "-k", "test_a")
    assert result.ret == 1


@pytest.mark.parametrize(
    "body",
    [
        "pytest.skip('no server')",
        "pytest.xfail('not yet')",
        "assert False",
    ],
)
def test_a_test_that_did_not_pass_proves_nothing(run: Run, body: str) -> None:
    result = run(PROVES_ALL.replace("pass", body))
    assert result.ret == 1
    result.stdout.fnmatch_lines(["requirements: RUN-01: no passing test*"])


def test_a_test_that_fails_while_cleaning_up_proves_nothing(run: Run) -> None:
    leaky = "\n@pytest.fixture(autouse=True)\ndef leaky():\n    yield\n    assert False\n"
    result = run(PROVES_ALL + leaky)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["requirements: RUN-01: no passing test*"])


def test_the_summary_says_why_each_test_was_skipped(run: Run) -> None:
    skips = "\n@pytest.mark.parametrize('n', [1, 2])\ndef test_b(n): pytest.skip('no server here')\n"
    result = run(PROVES_ALL + skips)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*, 2 tests skipped", "requirements: skipped 2 x no server here"])


def test_a_run_spread_over_processes_proves_as_much(run: Run) -> None:
    result = run(PROVES_ALL, "-p", "xdist", "-n1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["requirements: 1 clauses proven*"])


def test_a_run_spread_over_processes_misses_as_much(run: Run) -> None:
    result = run("def test_a(): pass", "-p", "xdist", "-n1")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["requirements: RUN-01: no passing test*"])
