"""One child process of the supervisor: its lines, its end, signals that cannot hit a stranger.

It must not know its name, nor what comes after its end.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.cli.deathsig import spawn

# A line without end is handed on in pieces of this size, so that a mad child cannot fill our memory.
LINE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run: the words of the command, its whole environment, its folder (None: ours)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None


class Child:
    """A running process. The pid stays its own until `bury`, which only the thread that also sends signals may call."""

    def __init__(self, launch: Launch) -> None:
        """Forks: call it on a thread that ends only when its children may. OSError, ValueError: there is no process."""
        self._process = spawn(launch.argv, env=launch.env, cwd=launch.cwd, output=subprocess.PIPE, thread_lasts=True)
        self.pid = self._process.pid

    def lines(self) -> Iterator[str]:
        """What it prints, line by line, until it and all that it started have closed the pipe."""
        if self._process.stdout is None:
            return
        with self._process.stdout as stream:
            while raw := stream.readline(LINE_BYTES):
                yield raw.decode(errors="replace").rstrip("\r\n")

    def wait(self) -> int:
        """Waits for the end without reaping. Returns the exit code, or -signal."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13; what is left of the group stays there
            return self._process.wait()
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        if ended is None:  # the stub's word: only with WNOHANG
            return self._process.wait()
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def send(self, signum: int) -> None:
        """A signal to the process itself; its children are its own business."""
        if self._process.returncode is None:
            try:
                os.kill(self.pid, signum)
            except (ProcessLookupError, PermissionError):
                pass  # it has become another user's: all that is left is to wait for its own exit

    def kill_group(self) -> None:
        """SIGKILL to the process and to all that it started within its group."""
        if self._process.returncode is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # likewise

    def bury(self) -> None:
        """After its end: kills what is left of its group, so that nothing doubles at the next start, and reaps it."""
        self.kill_group()
        self._process.wait()
