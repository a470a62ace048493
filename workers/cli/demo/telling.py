"""How the acts speak: lines, words that come one by one, and who has a run now."""

import time

from rich.console import Console

from api_contracts.runs import EventData, RunResumed, RunStarted
from workers.cli.demo.stage import Stage


class Teller:
    """Says things on the terminal, and kills the worker that has the run."""

    def __init__(self, console: Console, on: Stage) -> None:
        self._console = console
        self._on = on
        self._owner_pid = 0
        self._in_line = False

    def line(self, text: str, style: str | None = None) -> None:
        """Say a line of its own; markup counts."""
        if self._in_line:
            self._console.print()
            self._in_line = False
        self._console.print(text, style=style)

    def words(self, speaker: str, text: str) -> None:
        """Go on with the present line, or begin one."""
        if not self._in_line:
            self._console.print(f"[bold]{speaker:<6}[/]  ", end="")
            self._in_line = True
        self._console.print(text, end="", markup=False)
        self._console.file.flush()

    def life(self, event: EventData, epoch: int) -> bool:
        """Say who took the run; return False for an event that is about something else."""
        match event:
            case RunStarted(owner=owner):
                verb = "takes the run"
            case RunResumed(owner=owner):
                verb = "goes on from the journal"
            case _:
                return False
        self._owner_pid = int(owner.split(":")[1])
        self.line(f"{self._name()} (pid {self._owner_pid}, epoch {epoch}) {verb}", "dim")
        return True

    def kill(self, where: str) -> tuple[int, int]:
        """Send SIGKILL to the worker that has the run; return its pid and when (ms since 1970)."""
        name = self._name()
        # The journal's clock is Redis' own, which is this machine's.
        pid, at_ms = self._on.kill(name), int(time.time() * 1000)
        self.line(f"--- SIGKILL to {name} (pid {pid}), {where} ---", "bold red")
        return pid, at_ms

    def _name(self) -> str:
        names = {pid: name for name, pid in self._on.pids().items()}
        return names.get(self._owner_pid, "a worker")
