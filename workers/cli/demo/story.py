"""The story: a question, a tool in another process, a worker killed in the middle, an answer all the same."""

import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console
from rich.rule import Rule

from api_contracts.chat import CallReserved, CallResult, ChatDelta, ChatReplaced, ChatRequested, ChatResult
from api_contracts.client import Client
from api_contracts.runs import Event, RunCompleted, RunResumed, RunStarted
from api_contracts.vocabulary import typed
from workers.cli.deathsig import die_with_parent
from workers.cli.demo.checks import MOST_EXTRA_S, Checks, Seen, check_chat
from workers.cli.demo.stage import LEASE_S, SWEEP_S, Stage, StageError, stage, start_all
from workers.cli.demo.tools import QUEUE, READ_STATION

QUESTION = "What is the weather in Oslo right now, and what should I wear?"
_KILL_AFTER_DELTAS = 12
_PATIENCE_S = 60.0
_TOOL = {
    "name": "read_station",
    "description": "Read the weather station of a city, now.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "task": READ_STATION,
    "queue": QUEUE,
    "effect": "at_most_once",
}


def tell(real: str) -> int:
    """Tell the story; return 0 if every check held."""
    die_with_parent()
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False, soft_wrap=True)
    _introduce(console, real)
    began = time.monotonic()
    try:
        with stage(_hear(console), real=bool(real)) as on:
            console.print("starting: emulator, chat-1, chat-2, control, tools ...", style="dim")
            start_all(on)
            told = ", ".join(f"{name} {pid}" for name, pid in on.pids().items())
            console.print(f"ready after {time.monotonic() - began:.1f} s; processes: {told}", style="dim")
            checks, result = _chat_act(console, on, real)
            pids = on.pids()
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left behind")
        return 130
    except (StageError, TimeoutError) as exc:
        console.print(str(exc), style="red", markup=False)
        return 1
    left = [name for name, pid in pids.items() if _lives(pid)]
    checks.claim("nothing is left behind", not left, ", ".join(left) or f"{len(pids)} processes ended")
    _conclude(console, checks, result, time.monotonic() - began)
    return 0 if checks.held else 1


def _introduce(console: Console, real: str) -> None:
    console.print(Rule("Fireworks Workers: a chat that survives its worker", align="left"))
    if real:
        console.print(f"provider: the real one, model {real}")
    elif os.environ.get("FIREWORKS_API_KEY"):
        console.print("FIREWORKS_API_KEY is set; this demo uses the emulator. With the real provider (costs tokens):")
        console.print("    .venv/bin/fireworks-workers demo --real accounts/fireworks/models/<model>", markup=False)
    console.print(f"leases are shortened so that nobody waits: FW_LEASE_S={LEASE_S:.0f} FW_SWEEP_S={SWEEP_S:.0f}\n")


def _chat_act(console: Console, on: Stage, real: str) -> tuple[Checks, ChatResult]:
    model = real or "accounts/fireworks/models/emulated-new"
    url, database = on.env["FW_REDIS_URL"], on.env["FW_DATABASE_URL"]
    with Client(redis_url=url, database_url=database) as client:
        run_id = client.chat.submit(model=model, messages=[{"role": "user", "content": QUESTION}], tools=[_TOOL])
        console.print(f"run {run_id}", style="dim")
        console.print(f"[bold]you[/]    {QUESTION}")
        seen = _Telling(console, on).follow(client, run_id)
        checks = Checks()
        result = check_chat(checks, client, run_id, seen, url, LEASE_S + SWEEP_S + MOST_EXTRA_S)
    return checks, result


class _Telling:
    """Follows the run, says what happens, and kills the worker in the middle of the second answer."""

    def __init__(self, console: Console, on: Stage) -> None:
        self._console = console
        self._on = on
        self._events: list[Event] = []
        self._owner_pid = 0
        self._killed = (0, 0)
        self._round = 0
        self._deltas = 0
        self._in_line = False

    def follow(self, client: Client, run_id: str) -> Seen:
        """Return what was seen."""
        for event in client.follow(run_id, timeout_s=_PATIENCE_S):
            self._events.append(event)
            self._say(event)
            if self._round == 2 and self._deltas >= _KILL_AFTER_DELTAS and not self._killed[0]:
                self._kill()
        return Seen(self._events, *self._killed)

    def _say(self, event: Event) -> None:
        match typed(event):
            case RunStarted(owner=owner) | RunResumed(owner=owner) as life:
                self._owner_pid = int(owner.split(":")[1])
                verb = "takes the run" if isinstance(life, RunStarted) else "goes on from the journal"
                self._line(f"{self._name()} (pid {self._owner_pid}, epoch {event.epoch}) {verb}", "dim")
            case ChatRequested(round=number):
                self._round, self._deltas = number, 0
            case ChatDelta(text=text):
                self._speak(text)
            case CallReserved(name=name, arguments=arguments, task_id=task_id):
                self._line(f"[bold]model[/]  calls {name}({arguments}) -> task {task_id}, queue {QUEUE}", None)
            case CallResult(content=content):
                self._line(f"[bold]tool[/]   {content}", None)
            case ChatReplaced(reason=reason):
                self._line(f"the half-answer is void ({reason}); asking again", "yellow")
            case RunCompleted():
                self._line("the run is completed", "green")
            case _:
                pass

    def _speak(self, text: str) -> None:
        self._deltas += 1
        if not self._in_line:
            self._console.print("[bold]model[/]  ", end="")
            self._in_line = True
        self._console.print(text, end="", markup=False)
        self._console.file.flush()

    def _line(self, text: str, style: str | None) -> None:
        if self._in_line:
            self._console.print()
            self._in_line = False
        self._console.print(text, style=style)

    def _kill(self) -> None:
        name = self._name()
        # The journal's clock is Redis' own, which is this machine's.
        self._killed = (self._on.kill(name), int(time.time() * 1000))
        self._line(f"--- SIGKILL to {name} (pid {self._killed[0]}), in the middle of its answer ---", "bold red")

    def _name(self) -> str:
        names = {pid: name for name, pid in self._on.pids().items()}
        return names.get(self._owner_pid, "a worker")


def _hear(console: Console) -> Callable[[str, str], None]:
    def hear(name: str, line: str) -> None:
        if name == "tools" and line.startswith("reading the station"):
            console.print(f"[bold]tools[/]  {line}")

    return hear


def _conclude(console: Console, checks: Checks, result: ChatResult, took_s: float) -> None:
    usage = result.usage
    console.print()
    console.print(checks.table())
    console.print(
        f"run {result.run_id}: {result.rounds} rounds, {usage.prompt_tokens} + {usage.completion_tokens} tokens, "
        f"{result.timings.get('total_s', 0):.1f} s of {took_s:.1f} s in all"
    )
    console.print("[bold green]every check held[/]" if checks.held else "[bold red]a check did not hold[/]")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _interrupt(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
