"""DBOS beside P6, in an environment of its own below `.cache/peers`: it is no part of the service, nor of its lock.

pip makes the environment on the first run. Where that fails, or there is no PostgreSQL, the peer is left out loudly.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

DBOS: Final = "dbos==3.4.0"
DATABASE: Final = "fw_bench_dbos"
"""DBOS makes it, on the server of FW_TEST_POSTGRES_URL."""
POSTGRES: Final = "FW_TEST_POSTGRES_URL"

_ROOT: Final = Path(__file__).parents[1]
_HOME: Final = _ROOT / ".cache" / "peers" / DBOS
_PROGRAM: Final = Path(__file__).with_name("dbos_workflow.py")
_WITHIN_S: Final = 300
_WARM: Final = 2


class NotCompared(Exception):
    """The peer cannot be measured here; the text says why."""


def median_s(interval_s: float, count: int) -> float:
    """Return the median of a queued workflow with one step, polled for at this interval. Raises `NotCompared`."""
    if not (url := os.environ.get(POSTGRES)):
        raise NotCompared(f"{POSTGRES} is not set")
    _make()
    database = make_url(url).set(database=DATABASE).render_as_string(hide_password=False)
    told = _run([str(_python()), str(_PROGRAM), database, str(interval_s), str(count + _WARM)])
    return statistics.median(map(float, told.split()[_WARM:]))


def _python() -> Path:
    return _HOME / "bin" / "python"


def _make() -> None:
    if (made := _HOME / ".made").exists():
        return
    _run([sys.executable, "-m", "venv", "--clear", str(_HOME)])
    _run([str(_python()), "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check", DBOS])
    made.touch()


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    except subprocess.TimeoutExpired as exc:
        raise NotCompared(f"{Path(command[0]).name} took over {_WITHIN_S} s") from exc
    if done.returncode:
        raise NotCompared((done.stderr.strip().splitlines() or ["no reason"])[-1])
    return done.stdout
