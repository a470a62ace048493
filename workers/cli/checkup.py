"""`doctor`: looks at each part of a live installation and says what to do. What is looked at is in `looks`."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import structlog
from rich.console import Console
from rich.table import Table

from workers.cli.looks import LOOKS, Doubt, Look
from workers.cli.stack import running_database, running_redis
from workers.errors import Misconfigured
from workers.settings import Settings, read_settings

State = Literal["ok", "warn", "no"]

_SHOWN: dict[State, str] = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "no": "[red]no[/]"}
_MOST = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look showed. A warning is nothing that stops runs now."""

    part: str
    state: State
    says: str


def examine(*, as_json: bool = False) -> int:
    """Print the findings; return 1 when a part is not well, else 0. A warning is no failure."""
    try:
        settings = read_settings(redis_url=running_redis(), database_url=running_database())
    except Misconfigured as exc:
        Console(stderr=True).print(str(exc), style="red", markup=False, highlight=False)
        return 1
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # what is looked at may log
    # Together: three of them wait for whatever worker may answer.
    with ThreadPoolExecutor(len(LOOKS)) as pool:
        findings = list(pool.map(lambda each: _finding(each[0], each[1], settings), LOOKS))
    if as_json:
        for finding in findings:
            said = {"part": finding.part, "state": finding.state, "says": finding.says}
            Console().print(json.dumps(said), markup=False, highlight=False, soft_wrap=True)
    else:
        _print(findings)
    return int(any(finding.state == "no" for finding in findings))


def _finding(part: str, look: Look, settings: Settings) -> Finding:
    try:
        return Finding(part, "ok", look(settings))
    except Doubt as exc:
        return Finding(part, "warn", str(exc)[:_MOST])
    except (RuntimeError, Misconfigured) as exc:
        return Finding(part, "no", str(exc)[:_MOST])
    except Exception as exc:  # noqa: BLE001 - a doctor reports whatever is wrong
        return Finding(part, "no", f"{type(exc).__name__}: {exc}"[:_MOST])


def _print(findings: list[Finding]) -> None:
    table = Table("part", "", "says", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(finding.part, _SHOWN[finding.state], finding.says.replace("[", r"\["))
    Console().print(table)
