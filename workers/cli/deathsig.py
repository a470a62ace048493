"""Starts a child that the kernel kills when we die, however we die (`PR_SET_PDEATHSIG`, Linux).

The signal is set by a trampoline: this file, run as a script, which then becomes the command by `exec`. No `preexec_fn`
runs between fork and exec, where a lock held by another thread would hang the child. It must not know what it starts.
Elsewhere than on Linux the child outlives an owner that dies by SIGKILL; nothing else differs.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

# What a shell answers for a command that it cannot run.
CANNOT_RUN = 127


class WrongThreadError(RuntimeError):
    """A child was about to be tied to a thread that may end before the process does."""


def spawn(
    argv: Sequence[str],
    *,
    output: int | IO[bytes],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep_fds: Sequence[int] = (),
    umask: int = -1,
    thread_lasts: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts `argv` in a session of its own, without input, stdout and stderr to `output`; SIGKILL follows our death.

    The kernel means the death of the *thread* that forks. So only the main thread may call this, or one that says
    `thread_lasts`: it ends only when its children may. SIGKILL and not SIGTERM: a child that ignores TERM would stay.
    """
    if not thread_lasts and threading.current_thread() is not threading.main_thread():
        raise WrongThreadError(
            f"start {Path(argv[0]).name} from the main thread: Linux kills it when the thread that started it ends"
        )
    command = list(argv)
    if sys.platform == "linux":
        # -I -S: neither the caller's PYTHON* variables nor site-packages can disturb the few lines of main().
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]
    return subprocess.Popen(  # noqa: S603 - the command is the operator's own, and there is no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=cwd,
        start_new_session=True,  # Ctrl-C in a terminal reaches us alone; we decide who stops when
        pass_fds=keep_fds,
        umask=umask,
    )


def die_with_parent() -> None:
    """Ties this process to whoever started it: it gets SIGTERM when that one dies, and can still clear up."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), *[ctypes.c_ulong(0)] * 3)


def main(argv: Sequence[str]) -> int:
    """The trampoline: `deathsig.py PARENT COMMAND [ARGUMENT ...]`. Returns only when the command cannot be run."""
    parent, command = int(argv[0]), list(argv[1:])
    libc = ctypes.CDLL(None, use_errno=True)
    unused = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), unused, unused, unused) != 0:
        sys.stderr.write(f"cannot tie {command[0]} to its parent: {os.strerror(ctypes.get_errno())}\n")
        return CANNOT_RUN
    # The parent may have died between fork and prctl; then no signal will ever come.
    if os.getppid() != parent:
        return CANNOT_RUN
    # Python ignores these two, and what is ignored stays so across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - likewise
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
    return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
