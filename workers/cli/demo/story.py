"""The story: acts on one stage, every claim checked, nothing left behind."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console
from rich.rule import Rule

from api_contracts.client import Client
from workers.cli.deathsig import die_with_parent
from workers.cli.demo.batch_act import batch_act
from workers.cli.demo.chat_act import chat_act
from workers.cli.demo.checks import Checks
from workers.cli.demo.cite_act import cite_act
from workers.cli.demo.speech_act import speech_act
from workers.cli.demo.stage import (
    BATCH,
    CHAT,
    LEASE_S,
    POLL_S,
    SPEECH,
    SWEEP_S,
    Stage,
    StageError,
    stage,
    start_service,
    start_world,
)


def tell(real: str) -> int:
    """Tell the story; return 0 if every check held."""
    die_with_parent()
    signal.signal(signal.SIGTERM, _interrupt)
    # A pipe has no width; the table must not be folded there.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    _introduce(console, real)
    began = time.monotonic()
    checks = Checks()
    try:
        with stage(_hear(console), real=bool(real)) as on:
            summaries = _play(console, on, checks, real)
            pids = on.pids()
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left behind")
        return 130
    except (StageError, TimeoutError) as exc:
        console.print(str(exc), style="red", markup=False)
        return 1
    left = [name for name, pid in pids.items() if _lives(pid)]
    checks.act = "end"
    checks.claim("nothing is left behind", not left, ", ".join(left) or f"{len(pids)} processes ended")
    _conclude(console, checks, summaries, time.monotonic() - began)
    return 0 if checks.held else 1


def _play(console: Console, on: Stage, checks: Checks, real: str) -> list[str]:
    """Play the acts that this provider has; return their summaries."""
    began = time.monotonic()
    world = start_world(on)
    start_service(on)
    console.print(f"starting: {', '.join(on.names)} ...", style="dim")
    on.wait(*world, *CHAT)
    told = ", ".join(f"{name} {pid}" for name, pid in on.pids().items())
    console.print(f"ready after {time.monotonic() - began:.1f} s; processes: {told}", style="dim")
    with Client(redis_url=on.env["FW_REDIS_URL"], database_url=on.env["FW_DATABASE_URL"]) as client:
        checks.act = "chat"
        _announce(console, "Act one: a chat that calls a tool in another process")
        summaries = [chat_act(console, on, client, checks, real)]
        if not real:
            on.wait(*SPEECH)
            _announce(console, "Act two: a voice, word by word")
            summaries.append(speech_act(console, on, client, checks))
            on.wait(*BATCH)
            _announce(console, "Act three: a batch that waits without a worker")
            checks.act = "batch"
            summaries.append(batch_act(console, on, client, checks))
            on.wait(*CHAT)
            _announce(console, "Act four: an answer that can only cite what exists")
            summaries.append(cite_act(console, client, checks))
    return summaries


def _announce(console: Console, title: str) -> None:
    console.print()
    console.print(Rule(title, align="left", style="dim"))


def _introduce(console: Console, real: str) -> None:
    console.print(Rule("Fireworks Workers: runs that survive their workers", align="left"))
    if real:
        console.print(f"provider: the real one, model {real}; the chat act only")
    elif os.environ.get("FIREWORKS_API_KEY"):
        console.print("FIREWORKS_API_KEY is set; this demo uses the emulator. With the real provider (costs tokens):")
        console.print("    .venv/bin/fireworks-workers demo --real accounts/fireworks/models/<model>", markup=False)
    timing = f"FW_LEASE_S={LEASE_S:g} FW_SWEEP_S={SWEEP_S:g} FW_POLL_S={POLL_S:g}"
    console.print(f"times are shortened so that nobody waits: {timing}\n")


def _hear(console: Console) -> Callable[[str, str], None]:
    def hear(name: str, line: str) -> None:
        if name == "tools" and line.startswith("reading the station"):
            console.print(f"[bold]tools[/]  {line}")

    return hear


def _conclude(console: Console, checks: Checks, summaries: list[str], took_s: float) -> None:
    console.print()
    console.print(checks.table())
    for summary in summaries:
        console.print(summary, style="dim")
    console.print(f"{took_s:.1f} s in all", style="dim")
    console.print("[bold green]every check held[/]" if checks.held else "[bold red]a check did not hold[/]")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _interrupt(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
