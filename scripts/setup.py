"""Makes .venv from requirements.lock, once, and again when the lock, pyproject.toml or the place changed.

Runs before anything is installed, so it must not import what is not in the standard library.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".made-from"
UNFINISHED = VENV / ".unfinished"
PIP = (PYTHON, "-m", "pip", "install", "-qq", "--no-input")


def main() -> int:
    """Return the exit code."""
    if is_current():
        return 0
    die_with_parent()
    with alone():
        return 0 if is_current() else make()


def is_current() -> bool:
    """Say whether there is nothing to do."""
    return os.access(PYTHON, os.X_OK) and STAMP.exists() and STAMP.read_text() == wanted()


def wanted() -> str:
    """Return what the environment is made from. The place counts: a virtual environment cannot be moved."""
    sources = [LOCK, ROOT / "pyproject.toml"]
    return "\n".join([str(ROOT), *(f"{sha256(each.read_bytes()).hexdigest()} {each.name}" for each in sources)])


def make() -> int:
    """Make the environment; what an interrupted setup left behind is thrown away first."""
    if VENV.is_symlink():
        # `venv --clear` would empty what it leads to, which is somebody else's.
        return refuse(f".venv leads to {VENV.readlink()}, and is none of this place: remove the link, not its target")
    if not usable() and run(sys.executable, "-m", "venv", "--clear", VENV):
        return refuse("no virtual environment without python3's venv module (Debian: apt install python3-venv)")
    UNFINISHED.touch()
    say("installing requirements.lock into .venv, once: about a minute")
    if run(*PIP, "--require-hashes", "-r", LOCK):
        return refuse("pip could not install requirements.lock, see above")
    if run(*PIP, "--no-deps", "--no-build-isolation", "-e", ROOT):
        return refuse("pip could not install the project itself, see above")
    UNFINISHED.unlink()
    STAMP.write_text(wanted())
    return 0


def usable() -> bool:
    """Say whether an environment is there that can be brought up to date in place."""
    if UNFINISHED.exists() or not os.access(PYTHON, os.X_OK):
        return False
    if STAMP.exists() and STAMP.read_text().partition("\n")[0] != str(ROOT):
        return False
    return run(PYTHON, "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))") == 0


@contextmanager
def alone() -> Iterator[None]:
    """Wait for another setup in the same place: two makes at once make one environment."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "setup.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(*command: str | Path) -> int:
    """Run a command that dies with us; return its exit code."""
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.call(command, env=environ, preexec_fn=die_with_parent)  # noqa: S603 - the commands are above


def die_with_parent() -> None:
    """Ask Linux for SIGKILL at the parent's death: a killed make leaves no pip behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def refuse(line: str) -> int:
    """Tell why it ends here; return the exit code."""
    say(line)
    return 1


def say(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"setup: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
