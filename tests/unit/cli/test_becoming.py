"""`process`: the command becomes one line of the Procfile, or says precisely why it cannot."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from workers.cli.becoming import become, shipped_procfile
from workers.errors import Misconfigured

ROOT = Path(__file__).parents[3]
BECOME = (
    "import sys; from pathlib import Path; from workers.cli.becoming import become; become('one', Path(sys.argv[1]))"
)


def procfile(folder: Path, text: str) -> Path:
    path = folder / "Procfile"
    path.write_text(text)
    return path


@pytest.mark.requirement("OPS-02")
def test_the_command_keeps_the_pid_and_the_environment_so_that_signals_reach_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GIVEN", "two words; no shell")
    path = procfile(
        tmp_path, "one: python -c 'import os, sys; print(os.getpid(), sys.argv[1])' $GIVEN\ntwo: run $UNSET\n"
    )
    started = subprocess.Popen([sys.executable, "-c", BECOME, str(path)], stdout=subprocess.PIPE, text=True)
    said, _ = started.communicate(timeout=30)
    assert (started.returncode, said) == (0, f"{started.pid} two words; no shell\n")


def test_an_unknown_name_exits_2_and_lists_the_names(tmp_path, capsys):
    path = procfile(tmp_path, "one: run\ntwo: run $UNSET\n")
    assert become("three", path) == 2
    assert capsys.readouterr().err == f"{path} has no process 'three'; it has one, two\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("one: run $UNSET", "Procfile line 1: the variable UNSET is not set"),
        ("one: no-such-program --now", "cannot run no-such-program: No such file or directory"),
        ("one", "Procfile line 1: expected 'name: command'"),
    ],
)
def test_a_line_that_cannot_be_run_is_one_precise_error(tmp_path, line, says):
    with pytest.raises(Misconfigured) as caught:
        become("one", procfile(tmp_path, line))
    assert says in str(caught.value)


def test_a_missing_procfile_is_named(tmp_path):
    with pytest.raises(Misconfigured, match=r"cannot read .*none: No such file"):
        become("one", tmp_path / "none")


def test_the_procfile_of_the_checkout_is_the_one_that_a_wheel_carries():
    assert shipped_procfile() == ROOT / "Procfile"
    carried = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    assert carried == {"share/fireworks-workers": ["Procfile"]}
